//! What the ledger should hold: the same operations on maps in memory.

use std::collections::{BTreeMap, BTreeSet};

/// One operation that was submitted.
#[derive(Clone, Debug)]
pub(crate) enum Did {
    /// Log 0 (shared) or 1 (the queue's), position, data.
    Append(usize, u64, Vec<u8>),
    /// Of the shared log.
    Trim(u64),
    /// Group 0 (over the shared log) or 1 (the queue).
    Done(usize, u64),
    /// Group, position, whether it counts as a failure, note.
    Retry(usize, u64, bool, Vec<u8>),
    /// Of the group over the shared log.
    Seek(u64),
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
}

/// The state that a prefix of the operations makes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) logs: [BTreeMap<u64, Vec<u8>>; 2],
    pub(crate) ends: [u64; 2],
    /// Settled positions of the group over the shared log.
    pub(crate) done: BTreeSet<u64>,
    /// Of each group: failures and note of what was retried.
    pub(crate) retries: [BTreeMap<u64, (u32, Vec<u8>)>; 2],
    pub(crate) map: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// All that was submitted, by the number of its transaction.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) transactions: BTreeMap<u64, Vec<Did>>,
    /// What the last recovery found.
    pub(crate) recovered: u64,
}

impl Model {
    /// What transactions up to `seq` make; later ones are forgotten, as the ledger has.
    pub(crate) fn cut(&mut self, seq: u64) -> State {
        self.transactions.retain(|at, _| *at <= seq);
        self.recovered = seq;
        let mut state = State::default();
        for did in self.transactions.values().flatten() {
            state.apply(did);
        }
        state
    }
}

impl State {
    fn apply(&mut self, did: &Did) {
        match did {
            Did::Append(log, position, data) => {
                assert_eq!(*position, self.ends[*log], "positions have no gap");
                self.logs[*log].insert(*position, data.clone());
                self.ends[*log] += 1;
            }
            Did::Trim(before) => {
                self.logs[0].retain(|position, _| position >= before);
                self.retries[0].retain(|position, _| position >= before);
            }
            Did::Done(0, position) => {
                self.done.insert(*position);
                self.retries[0].remove(position);
            }
            Did::Done(_, position) => {
                self.logs[1].remove(position);
                self.retries[1].remove(position);
            }
            Did::Retry(group, position, failed, note) => {
                let (failures, old) = self.retries[*group].entry(*position).or_default();
                *failures += u32::from(*failed);
                old.clone_from(note);
            }
            Did::Seek(to) => {
                self.done = (0..*to).collect();
                self.retries[0].clear();
            }
            Did::Put(key, value) => drop(self.map.insert(key.clone(), value.clone())),
            Did::Delete(key) => drop(self.map.remove(key)),
        }
    }
}
