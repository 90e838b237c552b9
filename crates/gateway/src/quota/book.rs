//! The accounts of one quota, which all workers share.
//!
//! A key that comes when there are as many as may be is counted with all others that come so late, under
//! [`OTHERS`]: neither memory nor disk grows by what clients make up. Keys whose period is over give way to new ones,
//! and are remembered for a while otherwise, for a clock that is set back.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use weft_kernel::Name;

use super::{
    Quota,
    account::{Account, Kept, Taken, Terms},
    period::Period,
};

/// The key under which those are counted that come when there are too many.
pub const OTHERS: &str = ":others";
/// Parts of the table, each with a lock of its own.
const SHARDS: usize = 16;
/// Warnings that wait to be told.
const WARNINGS_MAX: usize = 1_024;

/// The accounts of a quota.
pub struct Book {
    name: Name,
    terms: ArcSwapOption<Quota>,
    hasher: std::hash::RandomState,
    shards: [Mutex<HashMap<Box<str>, Account>>; SHARDS],
    keys: AtomicUsize,
    /// The period in which room was made for its keys, at the cost of those that are over.
    roomy: Mutex<Period>,
    /// Keys whose next slice is to be put down.
    wanting: Mutex<Vec<Box<str>>>,
    warnings: Mutex<VecDeque<Warning>>,
    /// Warnings that are not told yet, or not published.
    untold: AtomicUsize,
    /// How many of each threshold there were, in the order of the thresholds.
    warned: Mutex<Vec<(u8, u64)>>,
    granted: AtomicU64,
    refused: AtomicU64,
    /// Whether what keeps it has failed.
    away: AtomicBool,
}

/// A threshold that a key has reached. Key, period and percentage are told once, or, if they are published, again
/// and again until they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The quota.
    pub quota: Name,
    /// The key.
    pub key: Box<str>,
    /// The percentage.
    pub percent: u8,
    /// Units that are used.
    pub used: u64,
    /// Units that may be used.
    pub allowed: u64,
    /// The period.
    pub period: Period,
}

/// What a quota says of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    /// Whether it is granted.
    pub granted: bool,
    /// Units that may be used in the period.
    pub allowed: u64,
    /// Units that are left.
    pub left: u64,
    /// The period.
    pub period: Period,
    /// Whether it was counted under [`OTHERS`].
    pub with_others: bool,
}

impl Said {
    /// The key under which it was counted.
    pub(super) const fn counted_under<'a>(&self, key: &'a str) -> &'a str {
        if self.with_others { OTHERS } else { key }
    }
}

/// What is asked, and what comes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It is known.
    Known {
        /// What is said.
        said: Said,
        /// Whether there is something to be put down or told.
        ahead: bool,
    },
    /// A slice has to be put down first.
    Waits,
}

impl Book {
    /// Without accounts, and without rules yet.
    pub(super) fn new(name: Name) -> Self {
        Self {
            name,
            terms: ArcSwapOption::empty(),
            hasher: std::hash::RandomState::new(),
            shards: Default::default(),
            keys: AtomicUsize::new(0),
            roomy: Mutex::default(),
            wanting: Mutex::default(),
            warnings: Mutex::default(),
            untold: AtomicUsize::new(0),
            warned: Mutex::default(),
            granted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            away: AtomicBool::new(false),
        }
    }

    /// The name of the quota.
    pub const fn name(&self) -> &Name {
        &self.name
    }

    /// The rules, once there are some.
    pub fn terms(&self) -> Option<Arc<Quota>> {
        self.terms.load_full()
    }

    /// Puts rules in force. Accounts stay, unless they are about something else.
    pub(super) fn set_terms(&self, quota: Option<Arc<Quota>>) {
        let former = self.terms.swap(quota.clone());
        if let (Some(former), Some(now)) = (former, quota)
            && former.scope() != now.scope()
        {
            self.clear();
        }
    }

    pub(super) fn clear(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            self.keys.fetch_sub(shard.len(), Relaxed);
            shard.clear();
        }
    }

    fn shard(&self, key: &str) -> &Mutex<HashMap<Box<str>, Account>> {
        use std::hash::BuildHasher as _;
        &self.shards[self.hasher.hash_one(key) as usize % SHARDS]
    }

    /// Asks for the units of a request under a key.
    pub(super) fn take(&self, key: &str, quota: &Quota, cost: u64, now_ms: u64) -> Asked {
        let terms = quota.terms();
        let ask = |account: &mut Account| {
            let taken = account.take(cost, &terms, now_ms);
            let allowed = account.allowed(&terms);
            let warning = self.warning(key, account, &terms);
            let (left, period) = (account.left(&terms), account.period);
            let (granted, with_others) = (taken != Taken::Refused, key == OTHERS);
            (taken, Said { granted, allowed, left, period, with_others }, warning)
        };
        let found = self.shard(key).lock().get_mut(key).map(ask);
        let (taken, said, warning) = match found {
            Some(found) => found,
            None if key != OTHERS && self.is_full(quota, now_ms) => {
                return self.take(OTHERS, quota, cost, now_ms);
            }
            None => {
                let mut shard = self.shard(key).lock();
                let account = shard.entry(key.into()).or_insert_with(|| {
                    self.keys.fetch_add(1, Relaxed);
                    Account::default()
                });
                ask(account)
            }
        };
        let warns = warning.is_some();
        if let Some(warning) = warning {
            self.warn(warning);
        }
        match taken {
            Taken::Granted { ahead } => {
                self.granted.fetch_add(cost, Relaxed);
                if ahead {
                    self.wanting.lock().push(key.into());
                }
                Asked::Known { said, ahead: ahead || warns }
            }
            Taken::Refused => {
                self.refused.fetch_add(1, Relaxed);
                Asked::Known { said, ahead: false }
            }
            Taken::Waits => {
                self.wanting.lock().push(key.into());
                Asked::Waits
            }
        }
    }

    /// Whether there are as many keys as may be, of those that are not over.
    fn is_full(&self, quota: &Quota, now_ms: u64) -> bool {
        if self.keys.load(Relaxed) < quota.keys_max {
            return false;
        }
        let mut roomy = self.roomy.lock();
        // Until the next period begins nothing more can be over.
        if !roomy.contains(now_ms) {
            *roomy = quota.calendar.period(now_ms);
            self.forget(|account| account.is_over(now_ms));
        }
        self.keys.load(Relaxed) >= quota.keys_max
    }

    /// Gives back what was granted to a request that was refused for another cause, under the key that it was
    /// counted under.
    pub(super) fn give_back(&self, key: &str, cost: u64, period: Period) {
        if let Some(account) = self.shard(key).lock().get_mut(key) {
            account.give_back(cost, period);
        }
    }

    /// Counts what a request has cost in the end, in the place of what was granted for it under a key. Gives whether
    /// there is something to be put down or told.
    pub(super) fn settle(
        &self,
        key: &str,
        quota: &Quota,
        (granted, period): (u64, Period),
        cost: u64,
        now_ms: u64,
    ) -> bool {
        let terms = quota.terms();
        let settle = |account: &mut Account| {
            let ahead = account.settle(granted, cost, period, &terms, now_ms);
            (ahead, self.warning(key, account, &terms))
        };
        let settled = self.shard(key).lock().get_mut(key).map(settle);
        // Without an account its rules are gone.
        let Some((ahead, warning)) = settled else { return false };
        self.granted.fetch_add(cost.saturating_sub(granted), Relaxed);
        if ahead {
            self.wanting.lock().push(key.into());
        }
        let warns = warning.is_some();
        if let Some(warning) = warning {
            self.warn(warning);
        }
        ahead || warns
    }

    /// What is to be told of an account.
    fn warning(&self, key: &str, account: &mut Account, terms: &Terms<'_>) -> Option<Warning> {
        let percent = account.threshold(terms)?;
        if self.untold.load(Relaxed) >= WARNINGS_MAX {
            // The next request tells it, when there is room.
            account.untell();
            return None;
        }
        Some(Warning {
            quota: self.name.clone(),
            key: key.into(),
            percent,
            used: account.used,
            allowed: account.allowed(terms),
            period: account.period,
        })
    }

    #[cold]
    fn warn(&self, warning: Warning) {
        let mut warned = self.warned.lock();
        match warned.iter_mut().find(|(percent, _)| *percent == warning.percent) {
            Some((_, count)) => *count += 1,
            None => warned.push((warning.percent, 1)),
        }
        drop(warned);
        self.untold.fetch_add(1, Relaxed);
        self.warnings.lock().push_back(warning);
    }

    /// A warning is told, and published if it is to be. Gives whether that is to be put down.
    pub(super) fn told(&self, warning: &Warning, is_published: bool) -> bool {
        self.untold.fetch_sub(1, Relaxed);
        let Some(quota) = self.terms().filter(|_| is_published) else { return false };
        let mut shard = self.shard(&warning.key).lock();
        let published = |account: &mut Account| {
            account.published(warning.percent, warning.period, &quota.terms())
        };
        let is_new = shard.get_mut(&warning.key).is_some_and(published);
        drop(shard);
        if is_new {
            self.wanting.lock().push(warning.key.clone());
        }
        is_new
    }

    /// The warnings since this was asked last.
    pub(super) fn warnings(&self) -> VecDeque<Warning> {
        std::mem::take(&mut self.warnings.lock())
    }

    /// What has to be put down, each with its key.
    pub(super) fn slices(&self, now_ms: u64) -> Vec<(Box<str>, Kept)> {
        let wanting = std::mem::take(&mut *self.wanting.lock());
        let Some(quota) = self.terms() else { return Vec::new() };
        let terms = quota.terms();
        let slice = |key: Box<str>| {
            let kept = self.shard(&key).lock().get_mut(&key)?.reserve(&terms, now_ms)?;
            Some((key, kept))
        };
        wanting.into_iter().filter_map(slice).collect()
    }

    /// What was put down may be used.
    pub(super) fn put_down(&self, slices: &[(Box<str>, Kept)]) {
        for (key, kept) in slices {
            if let Some(account) = self.shard(key).lock().get_mut(key) {
                account.reserved(kept);
            }
        }
    }

    /// Changes an account, which is made if it is not there.
    pub(super) fn change<T>(
        &self,
        key: &str,
        quota: &Quota,
        now_ms: u64,
        with: impl FnOnce(&mut Account, &Terms<'_>) -> T,
    ) -> T {
        let mut shard = self.shard(key).lock();
        let account = shard.entry(key.into()).or_insert_with(|| {
            self.keys.fetch_add(1, Relaxed);
            Account::default()
        });
        account.turn(&quota.terms(), now_ms);
        with(account, &quota.terms())
    }

    /// Takes an account as it was kept, unless there is one.
    pub(super) fn recall(&self, key: &str, kept: &Kept) {
        let mut shard = self.shard(key).lock();
        shard.entry(key.into()).or_insert_with(|| {
            self.keys.fetch_add(1, Relaxed);
            Account::of(kept)
        });
    }

    /// An account as it is now.
    pub fn account(&self, key: &str) -> Option<Account> {
        self.shard(key).lock().get(key).cloned()
    }

    /// Keys of which something is to be said now, in their order, after one, at most so many.
    pub fn keys_after(
        &self,
        after: Option<&str>,
        limit: usize,
        now_ms: u64,
    ) -> Vec<(Box<str>, Account)> {
        // A heap of the least would spare memory; this is asked by people.
        let mut all: Vec<(Box<str>, Account)> = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            let later = shard.iter().filter(|(key, account)| {
                after.is_none_or(|after| &***key > after) && !account.is_over(now_ms)
            });
            all.extend(later.map(|(key, account)| (key.clone(), account.clone())));
            all.sort_by(|(one, _), (other, _)| one.cmp(other));
            all.truncate(limit);
        }
        all
    }

    /// What there is exactly, to be kept before all of it is let go.
    pub(super) fn all(&self) -> Vec<(Box<str>, Kept)> {
        let of = |shard: &Mutex<HashMap<Box<str>, Account>>| {
            let shard = shard.lock();
            // What has its slice used up stands there already.
            let differing = shard.iter().filter(|(_, account)| account.is_unsaved());
            differing.map(|(key, account)| (key.clone(), account.kept())).collect::<Vec<_>>()
        };
        self.shards.iter().flat_map(of).collect()
    }

    /// Forgets what no clock will ask for again.
    pub(super) fn trim(&self, now_ms: u64) {
        self.forget(|account| account.is_forgotten(now_ms));
    }

    fn forget(&self, which: impl Fn(&Account) -> bool) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            let before = shard.len();
            shard.retain(|_, account| !which(account));
            self.keys.fetch_sub(before - shard.len(), Relaxed);
            if shard.capacity() > 64 && shard.len() * 4 < shard.capacity() {
                shard.shrink_to_fit();
            }
        }
    }

    /// How many keys are remembered.
    pub fn keys(&self) -> usize {
        self.keys.load(Relaxed)
    }

    /// Units that were granted, and requests that were refused, since the start.
    pub fn counts(&self) -> (u64, u64) {
        (self.granted.load(Relaxed), self.refused.load(Relaxed))
    }

    /// How often each threshold was reached, since the start.
    pub fn warned(&self) -> Vec<(u8, u64)> {
        self.warned.lock().clone()
    }

    pub(super) fn set_away(&self, away: bool) {
        self.away.store(away, Relaxed);
    }

    pub(super) fn is_away(&self) -> bool {
        self.away.load(Relaxed)
    }
}
