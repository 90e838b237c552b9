//! What may have been handed out before a crash.
//!
//! Hand-outs are counted in memory. So that nothing comes as new that somebody may have seen, a queue or
//! subscription is noted once it hands out for the first time in a life of the store, before the message
//! leaves; the note goes when the store is closed in order, which stores what was out by then. A note that
//! is found at the opening tells of a crash: of what is unsettled there nobody knows whether it was out,
//! and it is handed out as if it had been once before. What was published later, or to what nobody has
//! consumed from, comes as new.

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use parking_lot::Mutex;
use weft_kernel::{Error, Reason, Result};
use weft_ledger::{Durability, ExpectValue, GroupId, Op, Transaction};

use crate::{
    broker::Broker,
    consume::Lease,
    source::{MessageSource, Queue},
};

/// How many notes are changed in one transaction.
const AT_ONCE: usize = 1024;

/// What may have been handed out, by group.
#[derive(Debug, Default)]
pub(crate) struct Suspects {
    state: Mutex<State>,
    any: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// Before these positions a message may have been out in an earlier life.
    before: HashMap<GroupId, u64>,
    /// What has handed out in this life, and is noted.
    taken: HashSet<GroupId>,
}

fn entry(group: GroupId) -> Bytes {
    Bytes::copy_from_slice(&group.0.to_be_bytes())
}

impl Broker {
    /// Finds the notes of earlier lives.
    pub(crate) async fn load_suspects(&self) -> Result<()> {
        let map = self.inner().maps.taken;
        let (mut after, mut found) = (None, Vec::new());
        loop {
            let page = self.store().scan(map, b"", after, AT_ONCE).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (key, value) in page {
                let unreadable = || Error::new(Reason::StorageCorrupt, "a note cannot be read");
                let group = key.as_ref().try_into().map_err(|_error| unreadable())?;
                let before = value.data.as_ref().try_into().map_err(|_error| unreadable())?;
                found.push((GroupId(u32::from_be_bytes(group)), u64::from_le_bytes(before)));
            }
        }
        let mut writes = Vec::new();
        for (group, noted) in found {
            // 0 tells that the life has not ended in order.
            let end = self.log_of(group).and_then(|log| self.store().log_stats_now(log).ok());
            let before = if noted == 0 { end.map_or(0, |log| log.end) } else { noted };
            let low = self.store().group_stats_now(group).map_or(u64::MAX, |group| group.low);
            if low < before {
                self.inner().suspects.state.lock().before.insert(group, before);
                self.inner().suspects.any.store(true, Ordering::Release);
            }
            let stays = low < before;
            if !stays || noted == 0 {
                writes.push(self.note(group, stays.then_some(before)));
            }
        }
        for ops in writes.chunks(AT_ONCE) {
            let mut write = Transaction::new(Durability::Fsync);
            write.ops.extend(ops.iter().cloned());
            self.store().commit(write).await?;
        }
        Ok(())
    }

    fn log_of(&self, group: GroupId) -> Option<weft_ledger::LogId> {
        match self.source_of(group)? {
            MessageSource::Queue(queue) => Some(queue.log),
            source @ MessageSource::Subscription(_) => source.topic(group).map(|topic| topic.log),
        }
    }

    fn note(&self, group: GroupId, before: Option<u64>) -> Op {
        let (map, key, expect) = (self.inner().maps.taken, entry(group), ExpectValue::Any);
        match before {
            Some(before) => Op::Put {
                map,
                key,
                value: Bytes::copy_from_slice(&before.to_le_bytes()),
                expires_ms: 0,
                expect,
            },
            None => Op::Delete { map, key, expect },
        }
    }

    /// Notes that a queue or subscription hands out, the first time that it does: what leaves it has left a
    /// trace. What cannot be noted is handed out all the same.
    pub(crate) async fn note_taken(&self, group: GroupId) {
        if self.inner().suspects.state.lock().taken.contains(&group) {
            return;
        }
        let source = self.source_of(group);
        let forgotten = |queue: &Queue| queue.settings.read().options.transient;
        if source
            .is_none_or(|source| matches!(&source, MessageSource::Queue(queue) if forgotten(queue)))
        {
            return;
        }
        let note = Transaction::new(Durability::Fsync).with(self.note(group, Some(0)));
        match self.store().commit(note).await {
            Ok(_) => {
                self.inner().suspects.state.lock().taken.insert(group);
            }
            Err(refused) => {
                tracing::debug!(%group, error = %refused.error.detail(), "a hand-out is not noted");
            }
        }
    }

    /// Counts a hand-out before a crash for what may have had one.
    pub(crate) fn suspect(&self, lease: &mut Lease) {
        if lease.handouts != 1 || !self.inner().suspects.any.load(Ordering::Acquire) {
            return;
        }
        let before = self.inner().suspects.state.lock().before.get(&lease.group).copied();
        if before.is_some_and(|before| lease.position < before) {
            lease.handouts = 2;
        }
    }

    /// Forgets what was noted of a group that is deleted.
    pub(crate) fn forget_taken(&self, group: GroupId) {
        let known = {
            let mut state = self.inner().suspects.state.lock();
            let suspected = state.before.remove(&group).is_some();
            state.taken.remove(&group) || suspected
        };
        if known {
            // One that stays is found without its group, and goes, at the next opening.
            let forget = Transaction::new(Durability::Memory).with(self.note(group, None));
            let _refused = self.store().submit_now(forget);
        }
    }

    /// Stores what the next life is to know before the store is closed in order, and takes the notes back:
    /// what is out by then is stored by the store itself. Nobody is to consume any more.
    ///
    /// What cannot be taken back makes the next life think of a crash, which is the safe side.
    pub fn close(&self) {
        self.store_dead_letters_waiting();
        let (taken, before) = {
            let mut state = self.inner().suspects.state.lock();
            (std::mem::take(&mut state.taken), state.before.clone())
        };
        let ops: Vec<Op> = taken
            .into_iter()
            .map(|group| {
                let low = self.store().group_stats_now(group).map_or(u64::MAX, |group| group.low);
                self.note(group, before.get(&group).copied().filter(|before| low < *before))
            })
            .collect();
        for ops in ops.chunks(AT_ONCE) {
            let mut write = Transaction::new(Durability::Fsync);
            write.ops.extend(ops.iter().cloned());
            if let Err(refused) = self.store().submit_now(write) {
                tracing::debug!(error = %refused.error.detail(), "notes of hand-outs stay");
            }
        }
    }
}
