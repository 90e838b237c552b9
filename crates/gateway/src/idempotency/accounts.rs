//! How many entries each consumer of a route has, and of how many bytes, without asking the store.
//!
//! The store ends entries when their time is over, and tells nobody. So they are counted by when that is, in
//! spans of some minutes: what has gone by is taken off as a whole. An entry so counts until the end of the
//! span in which it expires.

use std::collections::{BTreeMap, HashMap};

/// A span, in milliseconds.
const SPAN_MS: u64 = 10 * 60 * 1000;
/// About what an entry takes beside its answer.
pub(super) const ENTRY_BYTES: u64 = 256;

/// Entries and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Entries.
    pub entries: u64,
    /// Their bytes, about.
    pub bytes: u64,
}

impl Sum {
    const fn less(self, other: Self) -> Self {
        Self {
            entries: self.entries.saturating_sub(other.entries),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }

    const fn and(self, other: Self) -> Self {
        Self { entries: self.entries + other.entries, bytes: self.bytes + other.bytes }
    }
}

#[derive(Debug, Default)]
struct Account {
    sum: Sum,
    /// By the number of the span in which they expire.
    spans: BTreeMap<u64, Sum>,
}

impl Account {
    fn drop_past(&mut self, now_ms: u64) {
        while let Some(first) = self.spans.first_entry()
            && *first.key() < now_ms / SPAN_MS
        {
            self.sum = self.sum.less(first.remove());
        }
    }
}

/// The accounts of all, by route and scope.
#[derive(Debug, Default)]
pub(super) struct Accounts(HashMap<Box<[u8]>, Account>);

impl Accounts {
    /// What one has.
    pub(super) fn of(&mut self, owner: &[u8], now_ms: u64) -> Sum {
        let Some(account) = self.0.get_mut(owner) else { return Sum::default() };
        account.drop_past(now_ms);
        account.sum
    }

    /// Counts an entry of so many bytes of answer.
    pub(super) fn add(&mut self, owner: &[u8], expires_ms: u64, bytes: u64) {
        if !self.0.contains_key(owner) {
            self.0.insert(owner.into(), Account::default());
        }
        let Some(account) = self.0.get_mut(owner) else { return };
        let entry = Sum { entries: 1, bytes: ENTRY_BYTES + bytes };
        account.sum = account.sum.and(entry);
        let span = account.spans.entry(expires_ms / SPAN_MS).or_default();
        *span = span.and(entry);
    }

    /// Takes an entry off that is there no more before its time.
    pub(super) fn remove(&mut self, owner: &[u8], expires_ms: u64, bytes: u64) {
        let Some(account) = self.0.get_mut(owner) else { return };
        let entry = Sum { entries: 1, bytes: ENTRY_BYTES + bytes };
        let Some(span) = account.spans.get_mut(&(expires_ms / SPAN_MS)) else { return };
        *span = span.less(entry);
        account.sum = account.sum.less(entry);
    }

    /// Takes off what is over, and gives what there is of all together.
    pub(super) fn trim(&mut self, now_ms: u64) -> Sum {
        self.0.retain(|_, account| {
            account.drop_past(now_ms);
            account.sum.entries > 0
        });
        self.0.values().fold(Sum::default(), |all, account| all.and(account.sum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_is_not_counted_any_more() {
        let mut accounts = Accounts::default();
        let (one, other) = (&b"pay\0ada"[..], &b"pay\0bob"[..]);
        accounts.add(one, 5 * SPAN_MS + 1, 44);
        accounts.add(one, 9 * SPAN_MS, 0);
        accounts.add(other, 9 * SPAN_MS, 0);
        assert_eq!(accounts.of(one, 0), Sum { entries: 2, bytes: 2 * ENTRY_BYTES + 44 });
        assert_eq!(accounts.of(one, 5 * SPAN_MS + 9).entries, 2, "until the end of the span");
        assert_eq!(accounts.of(one, 6 * SPAN_MS), Sum { entries: 1, bytes: ENTRY_BYTES });
        // What the store has ended already is not taken off twice.
        accounts.remove(one, 5 * SPAN_MS + 1, 44);
        assert_eq!(accounts.of(one, 6 * SPAN_MS).entries, 1);
        accounts.remove(one, 9 * SPAN_MS, 0);
        assert_eq!(accounts.of(one, 6 * SPAN_MS), Sum::default());
        assert_eq!(accounts.trim(6 * SPAN_MS), Sum { entries: 1, bytes: ENTRY_BYTES });
        assert_eq!(accounts.0.len(), 1);
        assert_eq!(accounts.trim(10 * SPAN_MS), Sum::default());
        assert!(accounts.0.is_empty());
    }
}
