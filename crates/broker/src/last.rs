//! The last message of each key of a compacted topic.
//!
//! Where it stands is found by reading the topic once, when somebody first asks, and then only what has
//! come since; publishing pays nothing for it.

use std::collections::BTreeMap;

use bytes::Bytes;
use weft_kernel::{Error, Reason, Result};
use weft_ledger::{Limits, ReadItem};

use crate::{broker::Broker, consume::open, inspect::Browsed, source::Topic};

/// The most keys whose last message is known.
pub const KEYS_MAX: usize = 1_000_000;

/// Where the last message of each key stands.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// What lies before is in it.
    upto: u64,
    by_key: BTreeMap<Bytes, u64>,
    /// The newest message that is damaged: of which key it was is not known.
    lost: Option<u64>,
}

fn damaged(topic: &Topic, lost: u64, before: Option<u64>) -> Error {
    let mut text = format!(
        "the message at position {lost} of topic {} is damaged, and may be the last of the key",
        topic.key
    );
    if let Some(before) = before {
        text += &format!("; the last that is whole is at position {before}");
    }
    Error::new(Reason::StorageCorrupt, text)
}

impl Broker {
    /// The last message of a key of a compacted topic, `None` if there is none.
    ///
    /// # Errors
    /// [`Reason::DefinitionConflict`] if the topic is not compacted, [`Reason::NotSupported`] if it has more
    /// than [`KEYS_MAX`] keys; [`Reason::StorageCorrupt`] if the last message is damaged, or may be: one of
    /// a key that cannot be read any more came after the last that can. A newer message of the key ends that.
    pub async fn last(&self, topic: &Topic, key: &[u8]) -> Result<Option<Browsed>> {
        let mut index = topic.last.lock().await;
        self.catch_up(topic, &mut index).await?;
        let known = index.by_key.get(key).copied();
        let first = self.store().log_stats_now(topic.log)?.first;
        if let Some(lost) = index.lost.filter(|lost| *lost >= first && known < Some(*lost)) {
            return Err(damaged(topic, lost, known));
        }
        match known {
            Some(position) => self.last_at(topic, position).await,
            None => Ok(None),
        }
    }

    async fn catch_up(&self, topic: &Topic, index: &mut Index) -> Result<()> {
        if !topic.settings().compact {
            return Err(Error::new(
                Reason::DefinitionConflict,
                format!("topic {} is not compacted, so it has no last messages", topic.key),
            ));
        }
        loop {
            let items = self.store().read(topic.log, index.upto, Limits::default()).await?;
            if items.is_empty() {
                return Ok(());
            }
            for item in items {
                match item {
                    ReadItem::Record(record) => {
                        index.upto = record.position + 1;
                        index.by_key.insert(record.key, record.position);
                    }
                    ReadItem::Lost { position, .. } => {
                        index.upto = position + 1;
                        index.lost = Some(position);
                    }
                }
            }
            if index.by_key.len() > KEYS_MAX {
                *index = Index::default();
                return Err(Error::new(
                    Reason::NotSupported,
                    format!("topic {} has more than {KEYS_MAX} keys", topic.key),
                ));
            }
        }
    }

    async fn last_at(&self, topic: &Topic, position: u64) -> Result<Option<Browsed>> {
        let limits = Limits { records: 1, bytes: 1 };
        match self.store().read(topic.log, position, limits).await?.pop() {
            Some(ReadItem::Record(record)) if record.position == position => Ok(Some(Browsed {
                message: Some(open(&record)),
                key: record.key,
                position,
                published_ms: record.time_ms,
            })),
            Some(ReadItem::Lost { position: lost, .. }) if lost == position => {
                Err(damaged(topic, lost, None))
            }
            // Gone by retention.
            _ => Ok(None),
        }
    }
}
