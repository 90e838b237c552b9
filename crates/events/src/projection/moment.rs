//! Documents as they were: folded anew from the events before a position.

use std::sync::Arc;

use weft_kernel::{Error, Reason, Result};

use super::{
    definition::Compiled,
    document::Document,
    read::{Shown, shown},
    service::Projection,
};
use crate::read::PageLimits;

/// The most events that one question looks at.
pub const LOOKED_AT: usize = 200_000;
/// Events that are read at once, and after how many others have their turn.
const PAGE: PageLimits = PageLimits { events: 1_024, bytes: 1 << 20, before: u64::MAX };
const TURN: usize = 32;

impl Projection {
    /// A document as the definition that answers folds it from the events before a position: of all of them, also those
    /// that are skipped by hand. What was removed of streams is not in it.
    ///
    /// # Errors
    /// `conflict` if an event cannot be applied, `malformed_request` if more than [`LOOKED_AT`] events had to be looked
    /// at, and what the store says.
    pub async fn document_before(&self, key: &str, before: u64) -> Result<Option<Shown>> {
        let definition: Arc<Compiled> = Arc::clone(&self.answers.lock().definition);
        let (mut document, mut at, mut looked_at) = (None::<Document>, 0, 0);
        let own = definition.of_stream(key);
        while at < before {
            let limits = PageLimits { before, ..PAGE };
            let query = own.as_ref().or(definition.query());
            let (events, upto) = self.events.page(query, at, limits).await?;
            looked_at += events.len();
            if looked_at > LOOKED_AT {
                let say = format!("the document is folded from among more than {LOOKED_AT} events");
                return Err(Error::new(Reason::MalformedRequest, say));
            }
            for (number, event) in events.iter().enumerate() {
                if number % TURN == TURN - 1 {
                    tokio::task::yield_now().await;
                }
                // A stream has more events than those that are meant.
                let is_meant = definition.query().is_none_or(|query| query.matches(event));
                let keys = definition.keys(event).unwrap_or_default();
                if !is_meant || !keys.iter().any(|of| of == key) {
                    continue;
                }
                definition.apply(event, &mut document).map_err(|fault| {
                    let position = event.position;
                    let say = format!("the event at position {position} cannot be applied to it");
                    Error::new(Reason::Conflict, say).note(fault.why().to_owned())
                })?;
            }
            at = upto.max(at + 1);
        }
        let shown = |document: Document| shown(key.to_owned(), &document.stored()?.into());
        document.map(shown).transpose()
    }
}
