//! The group against a naive model: a vector of messages, each with its state.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use proptest::prelude::*;

use super::{super::now::Now, Found, Group, Picked, Sight, Tokens, lease::Wanted};
use crate::{
    options::{AGEING, GroupOptions},
    record::{ConsumerId, LogId},
    transaction::Due,
};

/// The bytes of each record.
const SIZE: u32 = 10;

/// A log as far as a group sees it: key and level of each record, `None` for a hole.
#[derive(Clone, Debug, Default)]
struct Seen {
    records: Vec<Option<(u8, u8)>>,
}

impl Sight for Seen {
    fn at(&self, position: u64, key: bool) -> Found {
        match self.records.get(position as usize).copied().flatten() {
            None => Found::Hole(position + 1),
            Some((name, priority)) => Found::Here {
                priority,
                key: if key && name > 0 { Bytes::copy_from_slice(&[name]) } else { Bytes::new() },
            },
        }
    }

    fn size(&self, _: u64) -> u64 {
        u64::from(SIZE)
    }

    fn end(&self) -> u64 {
        self.records.len() as u64
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    Leased(u64, u64),
    Waiting(u64),
    Done,
}

#[derive(Clone, Debug)]
enum Step {
    Publish(u8, u8),
    Delayed(u8, u64),
    Hole,
    Lease(u32),
    Done(u8),
    Retry(u8, u64),
    Pass(u64),
    RunOut,
    Remove(u8),
    Trim(u8),
    Seek(u8),
    Purge,
    Leave,
    /// What a crash leaves: what is settled, and the retries.
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec(step(), 1..120)
}

/// The same, with records that are due later than they are appended.
fn steps_and_delays() -> impl Strategy<Value = Vec<Step>> {
    let delayed = (0u8..3, 1u64..9).prop_map(|(level, span)| Step::Delayed(level, span));
    proptest::collection::vec(prop_oneof![1 => delayed, 9 => step()], 1..120)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u8..4, 0u8..3).prop_map(|(key, level)| Step::Publish(key, level)),
        1 => Just(Step::Hole),
        6 => (1u32..5).prop_map(Step::Lease),
        6 => any::<u8>().prop_map(Step::Done),
        3 => (any::<u8>(), 0u64..4).prop_map(|(which, span)| Step::Retry(which, span)),
        3 => (1u64..12).prop_map(Step::Pass),
        1 => Just(Step::RunOut),
        1 => any::<u8>().prop_map(Step::Remove),
        1 => any::<u8>().prop_map(Step::Trim),
        1 => any::<u8>().prop_map(Step::Seek),
        1 => Just(Step::Purge),
        1 => Just(Step::Leave),
        1 => Just(Step::Restart),
    ]
}

/// A lease lasts so long, in seconds.
const LEASE: u64 = 10;
const WHO: ConsumerId = ConsumerId(1);

struct World {
    group: Group,
    seen: Seen,
    states: Vec<State>,
    /// Failures and hand-outs of each.
    history: BTreeMap<u64, (u32, u32)>,
    tokens: Tokens,
    seconds: u64,
    options: GroupOptions,
    /// Whether any record was due later than it was appended.
    delayed: bool,
}

impl World {
    fn new(options: GroupOptions) -> Self {
        let options = GroupOptions { lease: Duration::from_secs(LEASE), ..options };
        Self {
            group: Group::new(options.clone(), 0, true),
            seen: Seen::default(),
            states: Vec::new(),
            history: BTreeMap::new(),
            tokens: Tokens { epoch: 1, last: 0 },
            seconds: 0,
            options,
            delayed: false,
        }
    }

    fn now(&self) -> Now {
        Now {
            tick: weft_kernel::Tick::ZERO.plus(Duration::from_secs(self.seconds)),
            wall_ms: self.seconds * 1000,
        }
    }

    fn leased(&self) -> Vec<(u64, u64)> {
        let states = self.states.iter().enumerate();
        states
            .filter_map(|(at, state)| match state {
                State::Leased(token, _) => Some((at as u64, *token)),
                _ => None,
            })
            .collect()
    }

    /// Which positions may be handed out, in the order of a group without priorities.
    fn ready(&self) -> Vec<u64> {
        let mut held: Vec<u8> = Vec::new();
        let mut ready = Vec::new();
        // A key is taken by its first record that is not done, whatever its state.
        for (at, state) in self.states.iter().enumerate() {
            let Some((key, _)) = self.seen.records[at] else { continue };
            if *state == State::Done {
                continue;
            }
            if self.options.keyed && key > 0 {
                if held.contains(&key) {
                    continue;
                }
                held.push(key);
            }
            let due = match state {
                State::Ready => true,
                State::Waiting(due) => *due <= self.seconds,
                _ => false,
            };
            if due {
                ready.push(at as u64);
            }
        }
        ready
    }

    fn take(&mut self, picked: &Picked) {
        let at = picked.position as usize;
        self.states[at] = State::Leased(picked.token.lease, self.seconds + LEASE);
    }

    fn step(&mut self, step: Step) {
        let now = self.now();
        match step {
            Step::Publish(key, level) => {
                self.seen.records.push(Some((key, level)));
                self.states.push(State::Ready);
            }
            Step::Delayed(level, span) => {
                let (at, due) = (self.seen.end(), self.seconds + span);
                self.seen.records.push(Some((0, level)));
                self.group.delay(at, due * 1000, level, SIZE);
                self.delayed = true;
                self.states.push(State::Waiting(due));
            }
            Step::Hole => {
                self.seen.records.push(None);
                self.states.push(State::Done);
            }
            Step::Lease(records) => self.lease(records),
            Step::Done(which) => {
                let leased = self.leased();
                if let Some(&(at, token)) = leased.get(which as usize % leased.len().max(1)) {
                    assert!(self.group.claim(at, token, token + 1_000_000));
                    self.group.settle_done(at);
                    self.states[at as usize] = State::Done;
                }
            }
            Step::Retry(which, span) => {
                let leased = self.leased();
                if let Some(&(at, _)) = leased.get(which as usize % leased.len().max(1)) {
                    let due = if span == 0 {
                        Due::Now
                    } else if span % 2 == 0 {
                        Due::After(Duration::from_secs(span))
                    } else {
                        Due::At((self.seconds + span) * 1000)
                    };
                    let kept = self.group.retry_lease(at, due, span > 1, Bytes::new(), now);
                    let history = self.history.entry(at).or_default();
                    history.0 += u32::from(span > 1);
                    let kept = kept.unwrap();
                    assert_eq!((kept.failures, kept.handouts), (history.0, history.1));
                    self.states[at as usize] = State::Waiting(self.seconds + span);
                }
            }
            Step::Pass(seconds) => {
                self.seconds += seconds;
                let now = self.now();
                self.group.wake_due(now, self.seen.end());
            }
            Step::RunOut => {
                let over = self.group.run_out(now, 100, &mut self.tokens);
                let expected: Vec<u64> = (0..)
                    .zip(&self.states)
                    .filter(|(_, state)| matches!(state, State::Leased(_, until) if *until <= self.seconds))
                    .map(|(at, _)| at)
                    .collect();
                assert_eq!(over.iter().map(|at| at.position).collect::<Vec<_>>(), expected);
                over.iter().for_each(|picked| self.take(picked));
            }
            Step::Remove(which) => {
                let at = u64::from(which) % (self.seen.end() + 1);
                if at < self.seen.end() {
                    let there = self.states[at as usize] != State::Done;
                    if self.seen.records[at as usize].is_some() || !there {
                        self.group.remove(at);
                        self.states[at as usize] = State::Done;
                    }
                }
            }
            Step::Trim(which) => {
                // Seldom, and not far, or little is left to look at.
                let before = (self.group.low() + u64::from(which % 4)).min(self.seen.end());
                self.group.trim(before);
                self.states[..before as usize].fill(State::Done);
            }
            Step::Seek(which) => {
                let to = self.seen.end() - u64::from(which % 8).min(self.seen.end());
                self.group.seek(to);
                for (at, state) in self.states.iter_mut().enumerate() {
                    let there = at as u64 >= to && self.seen.records[at].is_some();
                    *state = if there { State::Ready } else { State::Done };
                }
                self.history.clear();
            }
            Step::Purge => {
                let runs = self.group.purge(self.seen.end());
                for (at, state) in self.states.iter_mut().enumerate() {
                    let purged = runs.iter().any(|run| (run.0..=run.1).contains(&(at as u64)));
                    if matches!(state, State::Leased(..)) {
                        assert!(!purged);
                    } else if *state != State::Done {
                        assert!(purged);
                        *state = State::Done;
                    }
                }
            }
            Step::Leave => {
                self.group.requeue(WHO);
                for state in &mut self.states {
                    // The system's leases are not the consumer's.
                    if let State::Leased(token, _) = *state
                        && !self.group.holds(token)
                    {
                        *state = State::Ready;
                    }
                }
            }
            Step::Restart => self.restart(),
        }
    }

    fn lease(&mut self, records: u32) {
        let now = self.now();
        let wanted = Wanted {
            consumer: WHO,
            records,
            bytes: u64::MAX,
            one: true,
            lease: Duration::from_secs(LEASE),
        };
        let ready = self.ready();
        let mut picked = Vec::new();
        let load = self.group.pick(&self.seen, &wanted, now, &mut self.tokens, &mut picked);
        assert_eq!(load, None);
        let got: Vec<u64> = picked.iter().map(|picked| picked.position).collect();
        // What was delayed goes when it is due, before what nobody has looked at.
        if self.options.prioritized || self.delayed {
            assert_eq!(got.len(), ready.len().min(records as usize));
            assert!(got.iter().all(|at| ready.contains(at)));
        } else {
            assert_eq!(got, ready[..ready.len().min(records as usize)]);
        }
        for picked in &picked {
            self.take(picked);
            let history = self.history.entry(picked.position).or_default();
            history.1 += 1;
            assert_eq!((picked.failures, picked.handouts), *history);
        }
    }

    fn restart(&mut self) {
        let mut group = Group::new(self.options.clone(), self.group.low(), true);
        let runs: Vec<(u64, u64)> = self.group.done().iter().collect();
        group.settle_runs(&runs);
        for at in self.group.retried() {
            if let Some(retry) = self.group.retry(at) {
                group.restore_retry(at, retry.clone());
            }
        }
        group.measure(|_| u64::from(SIZE));
        group.wake_due(self.now(), self.seen.end());
        self.group = group;
        for (at, state) in self.states.iter_mut().enumerate() {
            if let State::Leased(..) = state {
                *state = State::Ready;
                let retry = self.group.retry(at as u64);
                if let Some(retry) = retry.filter(|retry| retry.due_ms > self.seconds * 1000) {
                    *state = State::Waiting(retry.due_ms / 1000);
                }
            }
        }
        self.history = (0..self.seen.end())
            .filter_map(|at| self.group.retry(at).map(|kept| (at, (kept.failures, kept.handouts))))
            .collect();
    }

    /// What must always hold.
    fn check(&self) {
        let open = self.states.iter().filter(|state| **state != State::Done).count();
        let leased = self.leased().len();
        assert_eq!(self.group.leased(), leased);
        assert_eq!(self.group.leased_bytes(), leased as u64 * u64::from(SIZE));
        for (at, state) in self.states.iter().enumerate() {
            let at = at as u64;
            // A hole counts as settled only once it was looked at.
            if self.seen.records[at as usize].is_some() {
                assert_eq!(self.group.settled(at), *state == State::Done, "position {at}");
            }
            if let State::Leased(token, _) = state {
                assert_eq!(self.group.lease(at).map(|lease| lease.lease), Some(*token));
            }
        }
        let waits = |state: &&State| matches!(state, State::Waiting(due) if *due > self.seconds);
        assert_eq!(self.group.waiting(), self.states.iter().filter(waits).count());
        let waiting = self.group.waiting() as u64;
        assert_eq!(self.group.waiting_bytes(), waiting * u64::from(SIZE));
        let ready = self.ready();
        assert!(ready.is_empty() || self.group.ready(self.seen.end()), "{ready:?} of {open}");
        let low = self.group.low() as usize;
        assert!(self.states[..low.min(self.states.len())].iter().all(|at| *at == State::Done));
    }
}

fn run(options: GroupOptions, steps: Vec<Step>) {
    let mut world = World::new(options);
    for step in steps {
        world.step(step);
        world.check();
    }
    // Whatever has happened, everything that is left can be dealt with.
    for _ in 0..world.states.len() * 3 + 1 {
        world.step(Step::Pass(LEASE + 5));
        world.step(Step::RunOut);
        world.step(Step::Lease(3));
        for (at, _) in world.leased() {
            world.group.settle_done(at);
            world.states[at as usize] = State::Done;
        }
        world.check();
    }
    assert!(world.states.iter().all(|state| *state == State::Done), "{:?}", world.states);
    assert_eq!(world.group.low(), world.seen.end());
    assert_eq!(world.group.done().len(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_plain_group_is_as_the_model_says(steps in steps()) {
        run(GroupOptions::over(LogId(1)), steps);
    }

    #[test]
    fn a_group_with_delays_is_as_the_model_says(steps in steps_and_delays(), prioritized: bool) {
        run(GroupOptions { prioritized, ..GroupOptions::over(LogId(1)) }, steps);
    }

    #[test]
    fn a_keyed_group_is_as_the_model_says(steps in steps()) {
        run(GroupOptions { keyed: true, ..GroupOptions::over(LogId(1)) }, steps);
    }

    #[test]
    fn a_prioritized_group_is_as_the_model_says(steps in steps()) {
        run(GroupOptions { prioritized: true, ..GroupOptions::over(LogId(1)) }, steps);
    }
}

#[test]
fn no_level_starves() {
    let options = GroupOptions { prioritized: true, ..GroupOptions::over(LogId(1)) };
    let mut world = World::new(options);
    for _ in 0..10 {
        world.step(Step::Publish(0, 0));
    }
    let mut low = 0;
    for _ in 0..10 * (AGEING + 1) {
        world.step(Step::Publish(0, 2));
        world.step(Step::Lease(1));
        let (at, _) = world.leased()[0];
        low += u32::from(at < 10);
        world.step(Step::Done(0));
    }
    assert_eq!(low, 10, "one in {} goes to the lower level", AGEING + 1);
}

#[test]
fn reading_ahead_past_blocked_keys_is_bounded() {
    let mut world = World::new(GroupOptions { keyed: true, ..GroupOptions::over(LogId(1)) });
    for _ in 0..crate::options::SET_ASIDE_MAX + 100 {
        world.seen.records.push(Some((1, 0)));
        world.states.push(State::Ready);
    }
    world.seen.records.push(Some((2, 0)));
    world.states.push(State::Ready);
    world.lease_some();
    assert_eq!(world.group.cursor(), crate::options::SET_ASIDE_MAX as u64 + 1);
    assert!(!world.group.ready(world.seen.end()), "there is nothing more it may look at");
    world.group.settle_done(0);
    assert!(world.group.ready(world.seen.end()));
}

impl World {
    fn lease_some(&mut self) {
        let wanted = Wanted {
            consumer: WHO,
            records: 5,
            bytes: u64::MAX,
            one: true,
            lease: Duration::from_secs(LEASE),
        };
        let now = self.now();
        let mut picked = Vec::new();
        self.group.pick(&self.seen, &wanted, now, &mut self.tokens, &mut picked);
        assert_eq!(picked.len(), 1);
    }
}

#[test]
fn an_idle_group_is_small() {
    assert!(size_of::<Group>() <= 700, "{}", size_of::<Group>());
}
