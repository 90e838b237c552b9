//! Removing what streams have lost: their events from the log, and the chunks that say where these were.
//!
//! What is to go is put down with the change of the stream, so that a crash in between is made good by the next start.

use bytes::Bytes;
use weft_kernel::{Error, Reason, Result};
use weft_ledger::{
    Durability,
    record::Value,
    transaction::{ExpectValue, Op, Transaction},
};

use crate::{
    head::{Chunk, Run},
    name::StreamName,
    row::{decode, encode, read_key, row_key, row_prefix},
    store::Inner,
};

/// Records that are removed in one transaction.
const AT_ONCE: u64 = 1_000;
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

    /// Removes what a row says. Another may do the same meanwhile, which does no harm.
    async fn remove(&self, key: Bytes, row: &Value) -> Result<()> {
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
            let mut transaction = Transaction::new(Durability::Fsync);
            let mut done = from;
            for run in runs {
                let end = (run.version + u64::from(run.count)).min(to).min(from + AT_ONCE);
                for version in done.max(run.version)..end {
                    let position = run.position + (version - run.version);
                    transaction.ops.push(Op::Remove { log: self.log, position, required: false });
                }
                done = done.max(end);
            }
            if done == from {
                break;
            }
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
}
