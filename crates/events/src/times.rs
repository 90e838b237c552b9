//! Where events of a time are.
//!
//! Times are those of the records, in milliseconds, taken from the clock of the machine as they were appended. They
//! never go back: if that clock does, events have the time of the one before until it has caught up. So they are found
//! by halving.

use weft_kernel::Result;
use weft_ledger::record::{Limits, ReadItem, Record};

use crate::{
    name::StreamName,
    store::{EventStore, Inner},
};

impl EventStore {
    /// The position of the first event of a time or later; the next position if there is none.
    ///
    /// # Errors
    /// What the store says.
    pub async fn position_at(&self, time_ms: u64) -> Result<u64> {
        let (mut low, mut high) = (0, self.0.seen().await?);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.0.record_from(middle, high).await? {
                Some(record) if record.time_ms < time_ms => low = record.position + 1,
                _ => high = middle,
            }
        }
        Ok(low)
    }

    /// The version of the first event of a stream of a time or later; the next version if there is none.
    ///
    /// # Errors
    /// What the store says.
    pub async fn version_at(&self, name: &StreamName, time_ms: u64) -> Result<u64> {
        self.0.seen().await?;
        let head = self.0.head(name).await?;
        let (mut low, mut high) = (head.first, head.next);
        while low < high {
            let middle = low + (high - low) / 2;
            let runs = self.0.runs(name, &head, middle).await?;
            let record = match runs.first().map(|run| run.position) {
                Some(position) => self.0.record_from(position, position + 1).await?,
                None => None,
            };
            match record {
                Some(record) if record.time_ms >= time_ms => high = middle,
                _ => low = middle + 1,
            }
        }
        Ok(low)
    }
}

impl Inner {
    /// The first record from a position to before another that can be read.
    async fn record_from(&self, mut from: u64, to: u64) -> Result<Option<Record>> {
        while from < to {
            let items = self.store.read(self.log, from, Limits { records: 1, bytes: 1 }).await?;
            match items.into_iter().next() {
                Some(ReadItem::Record(record)) => {
                    return Ok(Some(record).filter(|record| record.position < to));
                }
                Some(ReadItem::Lost { position, .. }) => from = position + 1,
                None => return Ok(None),
            }
        }
        Ok(None)
    }
}
