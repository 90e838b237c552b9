//! Letting events of a category go when they are old.
//!
//! What has expired is found by the index, so that it costs what goes and not what stays. It goes as by hand
//! ([`Change::Truncate`]): from the beginning of each stream, so that the versions that stay have no gaps.

use std::collections::HashMap;

use futures_util::{StreamExt as _, stream};
use weft_kernel::Result;

use crate::{
    append::Expected,
    name::StreamName,
    query::{EventQuery, QueryItem},
    read::PageLimits,
    store::{Change, EventStore},
};

/// Events that are looked at before what they say is done.
const TOGETHER: PageLimits = PageLimits { events: 4_096, bytes: 4 << 20, before: 0 };

/// Streams that lose events at the same time.
const AT_ONCE: usize = 64;

/// The expired events of a stream.
#[derive(Clone, Copy, Default)]
struct Expired {
    /// The version after the last of them.
    before: u64,
    /// How many there are.
    events: u64,
}

impl EventStore {
    /// Removes the events of a category that are older than this. Gives how many there were; what was done stays done
    /// if this is given up.
    ///
    /// # Errors
    /// What the store says.
    pub async fn expire(&self, category: &str, before_ms: u64) -> Result<u64> {
        let item = QueryItem { category: Some(category.to_owned()), ..QueryItem::default() };
        let query = EventQuery::new(vec![item])?;
        let limits = PageLimits { before: self.position_at(before_ms).await?, ..TOGETHER };
        let (mut from, mut removed) = (0, 0);
        while from < limits.before {
            let (page, end) = self.0.find_forward(&query, from, limits).await?;
            let mut streams: HashMap<StreamName, Expired> = HashMap::new();
            for event in page.events {
                let expired = streams.entry(event.stream).or_default();
                expired.before = event.version + 1;
                expired.events += 1;
            }
            // Side by side, since each waits for the disk.
            let mut streams = stream::iter(streams)
                .map(|(stream, expired)| self.let_go(stream, expired))
                .buffer_unordered(AT_ONCE);
            while let Some(gone) = streams.next().await {
                removed += gone?;
            }
            from = page.next.unwrap_or(end).max(from + 1);
        }
        Ok(removed)
    }

    async fn let_go(&self, stream: StreamName, expired: Expired) -> Result<u64> {
        match self.change(&stream, Expected::Any, Change::Truncate(expired.before)).await {
            Ok(_) => Ok(expired.events),
            Err(rejected) => Err(rejected.into()),
        }
    }
}
