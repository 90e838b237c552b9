//! What maps should hold: the same operations on sorted maps in memory, cut at any transaction.

use std::collections::BTreeMap;

use bytes::Bytes;
use weft_ledger::{ExpectValue, Value};

/// A map of entries, and one of timers.
pub(super) const MAPS: [&str; 2] = ["entries", "timers"];

/// A put, or a deletion (no value) of a key of a map.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) map: usize,
    pub(super) key: Bytes,
    /// Data and expiry.
    pub(super) value: Option<(Bytes, u64)>,
    pub(super) expect: ExpectValue,
}

#[derive(Debug, Default)]
pub(super) struct Model {
    transactions: BTreeMap<u64, Vec<Change>>,
    maps: [BTreeMap<Bytes, Value>; 2],
    /// Timers that were taken, until when on the wall clock.
    taken: BTreeMap<Bytes, u64>,
}

impl Model {
    fn apply(&mut self, seq: u64, changes: &[Change]) {
        for Change { map, key, value, .. } in changes {
            if *map == 1 {
                self.taken.remove(key);
            }
            match value {
                Some((data, expires_ms)) => {
                    let value = Value { data: data.clone(), version: seq, expires_ms: *expires_ms };
                    self.maps[*map].insert(key.clone(), value);
                }
                None => drop(self.maps[*map].remove(key)),
            }
        }
    }

    /// A transaction was taken.
    pub(super) fn taken(&mut self, seq: u64, changes: Vec<Change>) {
        self.apply(seq, &changes);
        self.transactions.insert(seq, changes);
    }

    /// The ledger was opened again, and has what was done up to `seq`.
    pub(super) fn cut(&mut self, seq: u64) {
        let mut kept = std::mem::take(self);
        kept.transactions.retain(|at, _| *at <= seq);
        for (at, changes) in &kept.transactions {
            self.apply(*at, changes);
        }
        self.transactions = kept.transactions;
    }

    fn shows(map: usize, value: &Value, now: u64) -> bool {
        map == 1 || value.expires_ms == 0 || value.expires_ms > now
    }

    pub(super) fn get(&self, map: usize, key: &[u8], now: u64) -> Option<Value> {
        let value = self.maps[map].get(key).cloned();
        value.filter(|value| Self::shows(map, value, now))
    }

    pub(super) fn scan(
        &self,
        map: usize,
        prefix: &[u8],
        after: Option<&Bytes>,
        limit: usize,
        now: u64,
    ) -> Vec<(Bytes, Value)> {
        let within = |(key, _): &(&Bytes, &Value)| {
            key.starts_with(prefix) && after.is_none_or(|after| *key > after)
        };
        let found = self.maps[map].iter().filter(within);
        let found = found.filter(|(_, value)| Self::shows(map, value, now)).take(limit);
        found.map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// Whether a transaction has to be taken.
    pub(super) fn fits(&self, changes: &[Change], now: u64) -> bool {
        let mut staged: BTreeMap<(usize, Bytes), bool> = BTreeMap::new();
        changes.iter().all(|Change { map, key, value, expect }| {
            let before = staged.insert((*map, key.clone()), value.is_some());
            let version = self.get(*map, key, now).map(|value| value.version);
            let there = before.unwrap_or(version.is_some());
            match expect {
                ExpectValue::Any => true,
                ExpectValue::Absent => !there,
                ExpectValue::Present => there,
                ExpectValue::Version(wanted) => before.is_none() && version == Some(*wanted),
            }
        })
    }

    /// Takes timers: those whose lease has run out, and then those that are due.
    pub(super) fn take(&mut self, limit: usize, until: u64, now: u64) -> Vec<(Bytes, Value)> {
        let mut over: Vec<(u64, Bytes)> = self
            .taken
            .iter()
            .filter(|(_, until)| **until <= now)
            .map(|(key, until)| (*until, key.clone()))
            .collect();
        over.sort();
        let mut due: Vec<(u64, Bytes)> = self.maps[1]
            .iter()
            .filter(|(key, value)| {
                value.expires_ms != 0 && value.expires_ms <= now && !self.taken.contains_key(*key)
            })
            .map(|(key, value)| (value.expires_ms, key.clone()))
            .collect();
        due.sort();
        let keys: Vec<Bytes> =
            over.into_iter().chain(due).take(limit).map(|(_, key)| key).collect();
        keys.into_iter()
            .map(|key| {
                self.taken.insert(key.clone(), until);
                let value = self.maps[1][&key].clone();
                (key, value)
            })
            .collect()
    }
}
