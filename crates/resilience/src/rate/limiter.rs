//! Many keys under one rate, in bounded memory.
//!
//! The keys stand in sets of sixteen, as in a processor's cache: a key belongs into one of two sets, by its
//! hash, and comes into the emptier one. Where both are full, what is at rest is given up, of which nothing
//! would be remembered anyway; failing that the table grows up to its bound, and then the key is given up
//! that has used the least. So who floods a limiter with new keys drives out other such keys, and those that have
//! used up what they may stay, until as many as there is room for have used it up.

use std::{
    hash::{BuildHasher, Hash, RandomState},
    mem,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use weft_kernel::Tick;

use super::{Rate, Scale, State, Taken, Verdict};

/// Keys of a set.
const WAYS: usize = 16;
/// Parts of the table, each with a lock of its own.
const SHARDS: usize = 16;
/// Sets of a part that has one at least.
const SETS_MIN: usize = 1;

/// A rate, and what is remembered of the keys under it.
#[derive(Debug)]
pub struct Limiter {
    rate: Scale,
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
    /// Sets that a part has at most.
    sets_max: usize,
}

/// A key of one limiter, hashed with chance so that nobody can find two that are taken for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hashed(u64);

/// One part of the table.
#[derive(Debug, Default)]
struct Shard {
    sets: Vec<Set>,
    /// Keys that were given up although they were not at rest.
    forgotten: u64,
}

/// A place for a key; the least is the best.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// Keys of the set that are not at rest.
    busy: usize,
    /// What the key there has used: nought if it is at rest.
    used: u128,
    /// Whether there is one. A key at rest would have to come in again, so it stays where there is room beside it.
    is_taken: bool,
    set: usize,
    at: usize,
}

/// Hashes of keys, 0 for none, and what is remembered of them.
#[derive(Clone, Debug, Default)]
struct Set {
    keys: [u64; WAYS],
    states: [State; WAYS],
}

impl Limiter {
    /// A limiter that remembers at least so many keys that use all that they may, at 24 bytes a key.
    pub fn new(rate: Rate, keys_max: usize) -> Self {
        // Two sets are full before all are: room for a quarter more is nearly always enough.
        let sets = (keys_max + keys_max / 4).div_ceil(SHARDS * WAYS);
        Self {
            rate: rate.scale(),
            hasher: RandomState::new(),
            shards: Default::default(),
            sets_max: sets.next_power_of_two().max(SETS_MIN),
        }
    }

    /// The rate.
    pub const fn rate(&self) -> &Rate {
        self.rate.rate()
    }

    /// A key as the limiter knows it, for who asks more than once about the same.
    pub fn key(&self, key: impl Hash) -> Hashed {
        // Nought stands for no key.
        Hashed(self.hasher.hash_one(key).max(1))
    }

    /// The key of something by its mark, which was hashed with chance before.
    pub const fn marked(&self, mark: u64) -> Hashed {
        Hashed(if mark == 0 { 1 } else { mark })
    }

    /// Asks for so many units for a key.
    pub fn take(&self, key: Hashed, cost: u64, now: Tick) -> Verdict {
        self.with(key, now, |rate, state| rate.take(state, cost, now))
    }

    /// Charges a key what it is to have once what it owed before has come back; gives the time until then.
    pub fn reserve(&self, key: Hashed, cost: u64, now: Tick) -> Duration {
        self.with(key, now, |rate, state| {
            let (verdict, _) = rate.take(state, 0, now);
            (verdict.retry_after.unwrap_or_default(), rate.charge(state, cost, now))
        })
    }

    /// Gives back what a key was granted right before, and has not had after all.
    pub fn give_back(&self, key: Hashed, cost: u64, now: Tick) {
        self.with(key, now, |rate, state| ((), rate.give_back(state, cost, now)));
    }

    /// Tells a key what that costs which it was granted before.
    pub fn settle(&self, key: Hashed, taken: &Taken, cost: u64, now: Tick) {
        self.with(key, now, |rate, state| ((), rate.settle(state, taken, cost, now)));
    }

    /// What would be said, without anything being counted.
    pub fn peek(&self, key: Hashed, cost: u64, now: Tick) -> Verdict {
        self.with(key, now, |rate, state| (rate.take(state, cost, now).0, state))
    }

    /// Forgets a key, which then has all that it may.
    pub fn forget(&self, key: Hashed, now: Tick) {
        self.with(key, now, |_rate, _state| ((), State::default()));
    }

    /// Keys that were given up for want of room although they were not at rest.
    pub fn forgotten(&self) -> u64 {
        self.shards.iter().map(|shard| lock(shard).forgotten).sum()
    }

    /// Bytes that the table has.
    pub fn bytes(&self) -> usize {
        let of = |shard: &Mutex<Shard>| lock(shard).sets.capacity() * size_of::<Set>();
        size_of::<Self>() + self.shards.iter().map(of).sum::<usize>()
    }

    /// Gives back what a flood has left behind. To be called now and then.
    pub fn trim(&self, now: Tick) {
        for shard in &self.shards {
            lock(shard).trim(&self.rate, now);
        }
    }

    fn with<T>(
        &self,
        Hashed(key): Hashed,
        now: Tick,
        what: impl FnOnce(&Scale, State) -> (T, State),
    ) -> T {
        let mut shard = lock(&self.shards[key as usize % SHARDS]);
        shard.with(key, &self.rate, self.sets_max, now, what)
    }
}

/// A part of the table. Whoever panicked within has left no state half-written: each is one store.
fn lock(shard: &Mutex<Shard>) -> std::sync::MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shard {
    fn with<T>(
        &mut self,
        key: u64,
        rate: &Scale,
        sets_max: usize,
        now: Tick,
        what: impl FnOnce(&Scale, State) -> (T, State),
    ) -> T {
        for set in self.choices(key) {
            let set = &mut self.sets[set];
            if let Some(at) = set.keys.iter().position(|known| *known == key) {
                let (said, state) = what(rate, set.states[at]);
                set.states[at] = state;
                return said;
            }
        }
        let (said, state) = what(rate, State::default());
        if state != State::default() {
            self.insert(key, state, rate, sets_max, now);
        }
        said
    }

    /// The two sets that a key may stand in, which may be one; none while there is no set.
    fn choices(&self, key: u64) -> impl Iterator<Item = usize> + use<> {
        let mask = self.sets.len().checked_sub(1);
        // The lowest bits have chosen the part.
        let choices = mask.map(|mask| [key >> 4, key >> 34].map(|part| part as usize & mask));
        choices.into_iter().flatten()
    }

    fn insert(&mut self, key: u64, state: State, rate: &Scale, sets_max: usize, now: Tick) {
        let Some(place) = self.choices(key).map(|set| self.place_in(set, rate, now)).min() else {
            self.resize(SETS_MIN, rate, now);
            return self.insert(key, state, rate, sets_max, now);
        };
        if place.busy == WAYS && self.sets.len() < sets_max {
            self.resize(self.sets.len() * 2, rate, now);
            return self.insert(key, state, rate, sets_max, now);
        }
        self.forgotten += u64::from(place.busy == WAYS);
        let set = &mut self.sets[place.set];
        (set.keys[place.at], set.states[place.at]) = (key, state);
    }

    /// Where in a set a key would come, and how gladly.
    fn place_in(&self, set: usize, rate: &Scale, now: Tick) -> Place {
        let Set { keys, states } = &self.sets[set];
        let mut place = Place { busy: 0, used: u128::MAX, is_taken: true, set, at: 0 };
        for (at, (key, state)) in keys.iter().zip(states).enumerate() {
            let used = if *key == 0 { 0 } else { rate.used(*state, now) };
            place.busy += usize::from(used > 0);
            let is_taken = *key != 0;
            if (used, is_taken) < (place.used, place.is_taken) {
                (place.used, place.is_taken, place.at) = (used, is_taken, at);
            }
        }
        place
    }

    /// Makes it as large, with what is not at rest; what finds no place is given up, which is rare even where
    /// it becomes smaller.
    fn resize(&mut self, sets: usize, rate: &Scale, now: Tick) {
        let former = mem::take(&mut self.sets);
        self.sets = vec![Set::default(); sets];
        for (key, state) in former.iter().flat_map(Set::entries) {
            if rate.reset(state, now).is_zero() {
                continue;
            }
            let free = |set: &usize| self.sets[*set].keys.iter().filter(|key| **key == 0).count();
            let set = self.choices(key).max_by_key(free).map(|set| &mut self.sets[set]);
            let place = set.and_then(|set| {
                let at = set.keys.iter().position(|key| *key == 0)?;
                Some((&mut set.keys[at], &mut set.states[at]))
            });
            match place {
                Some((to, kept)) => (*to, *kept) = (key, state),
                None => self.forgotten += 1,
            }
        }
    }

    fn trim(&mut self, rate: &Scale, now: Tick) {
        let entries = self.sets.iter().flat_map(Set::entries);
        let busy = entries.filter(|(_, state)| !rate.reset(*state, now).is_zero()).count();
        if busy == 0 {
            self.sets = Vec::new();
        } else if busy * 8 < self.sets.len() * WAYS {
            // A quarter full at least after it, and at most half.
            self.resize((busy * 2).div_ceil(WAYS).next_power_of_two(), rate, now);
        }
    }
}

impl Set {
    fn entries(&self) -> impl Iterator<Item = (u64, State)> {
        let all = self.keys.iter().copied().zip(self.states.iter().copied());
        all.filter(|(key, _)| *key != 0)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    #[test]
    fn keys_at_rest_stay_where_there_is_room_beside_them() {
        let scale = Rate::new(NonZeroU64::MIN, Duration::from_secs(1)).scale();
        let (mut shard, mut now) = (Shard::default(), Tick::from_nanos(1));
        for key in 1..=WAYS as u64 {
            // Each comes when all before it are at rest.
            now = now.plus(Duration::from_secs(10));
            shard.with(key, &scale, 1, now, |rate, state| rate.take(state, 1, now));
        }
        let mut keys: Vec<u64> =
            shard.sets.iter().flat_map(Set::entries).map(|(key, _)| key).collect();
        keys.sort_unstable();
        assert_eq!(keys, (1..=WAYS as u64).collect::<Vec<_>>());
        // One more takes the place of one that is at rest.
        now = now.plus(Duration::from_secs(10));
        shard.with(99, &scale, 1, now, |rate, state| rate.take(state, 1, now));
        assert!(shard.sets[0].keys.contains(&99));
        assert_eq!((shard.sets.len(), shard.forgotten), (1, 0));
    }
}
