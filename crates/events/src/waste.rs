//! Removing what streams have lost: their events from the log, and the chunks that say where these were.
//!
//! What is to go is put down with the change of the stream, so that a crash in between is made good by the next start.

use bytes::Bytes;
use weft_kernel::{Error, Reason, Result};
use weft_ledger::{
    Durability,
    record::{Limits, ReadItem, Value},
    transaction::{ExpectValue, Op, Transaction},
};

use crate::{
    event::Recorded,
    head::{Chunk, Run},
    index::{Key, Kind, keys},
    name::StreamName,
    row::{decode, encode, read_key, row_key, row_prefix},
    search::readable,
    store::Inner,
};

/// Records that are removed in one transaction.
const AT_ONCE: u64 = 1_000;
/// Rows of the index that are changed in one transaction, and how much of them.
const ROWS_MAX: usize = 4_096;
const BYTES_MAX: usize = 256 << 10;
/// Streams that are looked up at once.
const PAGE: usize = 100;

impl Inner {
    /// Has versions of a stream removed, from the first to before the second.
    pub(crate) fn put_waste(&self, name: &StreamName, from: u64, to: u64) -> Result<Op> {
        let (map, key) = (self.waste, row_key(name, from));
        let expect = ExpectValue::Any;
        Ok(Op::Put { map, key, value: encode(&to)?, expires_ms: 0, expect })
    }

    /// Removes what is left to be removed.
    pub(crate) async fn remove_waste(&self) -> Result<()> {
        loop {
            let rows = self.store.scan(self.waste, &[], None, PAGE).await?;
            if rows.is_empty() {
                return Ok(());
            }
            for (key, value) in rows {
                self.remove(key, &value).await?;
            }
        }
    }

    /// Removes what is left to be removed of a stream.
    pub(crate) async fn remove_waste_of(&self, name: &StreamName) -> Result<()> {
        loop {
            let rows = self.store.scan(self.waste, &row_prefix(name), None, PAGE).await?;
            if rows.is_empty() {
                return Ok(());
            }
            for (key, value) in rows {
                self.remove(key, &value).await?;
            }
        }
    }

    /// Removes what a row says.
    async fn remove(&self, key: Bytes, row: &Value) -> Result<()> {
        let _alone = self.removing.lock().await;
        let corrupt = || Error::new(Reason::StorageCorrupt, "what is to be removed cannot be read");
        let (name, mut from) = read_key(&key).ok_or_else(corrupt)?;
        let to = decode::<u64>(&row.data)?;
        while from < to {
            let head = self.head(&name).await?;
            let (chunks, runs): (Vec<Chunk>, Vec<Run>) = if from < head.inline() {
                let chunks = self.chunks_from(&name, from).await?;
                let runs = chunks.iter().flat_map(|chunk| chunk.places(from)).collect();
                (chunks, runs)
            } else {
                (Vec::new(), head.places(from).collect())
            };
            let (mut positions, mut done) = (Vec::new(), from);
            for run in runs {
                let end = (run.version + u64::from(run.count)).min(to).min(from + AT_ONCE);
                let place = |version: u64| run.position + (version - run.version);
                positions.extend((done.max(run.version)..end).map(place));
                done = done.max(end);
            }
            if done == from {
                break;
            }
            let mut transaction = self.without_rows(&positions).await?;
            let remove = |position| Op::Remove { log: self.log, position, required: false };
            transaction.ops.extend(positions.into_iter().map(remove));
            for chunk in chunks.iter().filter(|chunk| chunk.end <= done) {
                let (map, key) = (self.chunks, row_key(&name, chunk.end));
                transaction.ops.push(Op::Delete { map, key, expect: ExpectValue::Any });
            }
            self.store.commit(transaction).await.map_err(|refused| refused.error)?;
            from = done;
        }
        let gone = Transaction::new(Durability::Fsync).delete(self.waste, key, ExpectValue::Any);
        self.store.commit(gone).await.map_err(|refused| refused.error)?;
        Ok(())
    }

    /// The beginning of a transaction that removes the events at positions: the index loses them first. What is too much
    /// for one transaction has been done on return; a crash in between has all of it done again.
    async fn without_rows(&self, positions: &[u64]) -> Result<Transaction> {
        let (Some(first), Some(last)) = (positions.first(), positions.last()) else {
            return Ok(Transaction::new(Durability::Fsync));
        };
        self.index_while(|recent| recent.waits(*last)).await?;
        let (mut at, mut gone) = (*first, Vec::new());
        while at <= *last {
            let items = self.store.read(self.log, at, Limits::default()).await?;
            let Some(end) = items.last().map(ReadItem::position) else { break };
            at = positions
                .get(positions.partition_point(|position| *position <= end))
                .map_or(u64::MAX, |at| *at);
            let meant = |event: &Recorded| positions.binary_search(&event.position).is_ok();
            for event in items.into_iter().filter_map(readable).filter(meant) {
                gone.push((Key::of(Kind::Category, event.stream.category()), event.position));
                gone.extend(keys(&event.message).into_iter().map(|key| (key, event.position)));
            }
        }
        let mut transaction = Transaction::new(Durability::Fsync);
        let mut bytes = 0;
        for op in self.unindexed(&mut gone).await? {
            bytes += if let Op::Put { value, .. } = &op { value.len() } else { 0 };
            transaction.ops.push(op);
            if transaction.ops.len() >= ROWS_MAX || bytes >= BYTES_MAX {
                bytes = 0;
                let full = std::mem::replace(&mut transaction, Transaction::new(Durability::Fsync));
                self.store.commit(full).await.map_err(|refused| refused.error)?;
            }
        }
        Ok(transaction)
    }
}
