//! How many deliveries are under way to one subscriber: what it can take, found out as TCP does.
//!
//! The window doubles each round while nothing is known, grows by one a round once something failed,
//! and is halved by a strain, once for all that were under way together. A failure is a strain where it is one
//! of many; a few among what goes well are those messages' own. While no endpoint can be reached nothing is sent but one probe at a time, with growing pauses: a subscriber that is down
//! costs next to nothing, and is found again within half a minute of coming back.
//!
//! Pure: time and chance are arguments.

use std::time::Duration;

use weft_kernel::{Rng, Tick};

/// The first pause between probes.
const PROBE_FIRST: Duration = Duration::from_millis(250);
/// The longest.
const PROBE_MAX: Duration = Duration::from_secs(30);
/// By which share a pause is moved.
const JITTER: f64 = 0.2;
/// The share of failures from which on they count as strain.
const FAILURES_MANY: f64 = 0.25;
/// By how much one answer moves the share of failures: that of the last forty, or so.
const FAILURES_STEP: f64 = 1.0 / 40.0;

/// How a delivery ended, as far as the pace is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The subscriber answered, whatever it said of the message.
    Answered,
    /// It failed, which the message may be the reason for, or the subscriber.
    Failed,
    /// It could not, or not in time, and said so.
    Strained,
    /// It could not be reached, and nothing has reached it.
    Unreachable,
}

/// When a delivery began, as seen by the pace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Begun {
    round: u64,
}

/// What may begin now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// So many deliveries, at least one.
    For(u32),
    /// None before something under way has ended.
    Full,
    /// None before this instant.
    Not(Tick),
}

#[derive(Clone, Copy, Debug)]
struct Down {
    probes: u32,
    again: Tick,
}

/// The pace of one subscriber.
#[derive(Debug)]
pub(crate) struct Pace {
    max: u32,
    window: f64,
    /// Below it the window doubles each round.
    threshold: f64,
    under_way: u32,
    /// The share of failures among the last answers.
    failures: f64,
    /// Goes up whenever the window is cut: what began before does not cut it again.
    round: u64,
    down: Option<Down>,
}

impl Pace {
    /// At most `max` at once (at least one).
    pub(crate) fn new(max: u32) -> Self {
        let max = max.max(1);
        let window = f64::from(max.min(4));
        Self {
            max,
            window,
            threshold: f64::from(max),
            under_way: 0,
            failures: 0.0,
            round: 0,
            down: None,
        }
    }

    /// What may begin now.
    pub(crate) fn room(&self, now: Tick) -> Room {
        match self.down {
            Some(_) if self.under_way > 0 => Room::Full,
            Some(down) if now < down.again => Room::Not(down.again),
            Some(_) => Room::For(1),
            None => match (self.window as u32).clamp(1, self.max).saturating_sub(self.under_way) {
                0 => Room::Full,
                room => Room::For(room),
            },
        }
    }

    /// Whether no endpoint can be reached.
    pub(crate) fn is_down(&self) -> bool {
        self.down.is_some()
    }

    /// One has begun.
    pub(crate) fn begin(&mut self) -> Begun {
        self.under_way += 1;
        Begun { round: self.round }
    }

    /// One has ended.
    pub(crate) fn end(&mut self, begun: Begun, how: Ended, now: Tick, rng: &mut Rng) {
        self.under_way = self.under_way.saturating_sub(1);
        let current = begun.round == self.round;
        let failed = match how {
            Ended::Answered => Some(0.0),
            Ended::Failed | Ended::Strained => Some(1.0),
            Ended::Unreachable => None,
        };
        if let Some(failed) = failed {
            self.failures += (failed - self.failures) * FAILURES_STEP;
        }
        match how {
            // One of few: it says nothing of what the subscriber can take.
            Ended::Failed if self.failures < FAILURES_MANY => self.down = None,
            Ended::Answered => {
                self.down = None;
                let step = if self.window < self.threshold { 1.0 } else { 1.0 / self.window };
                self.window = (self.window + step).min(f64::from(self.max));
            }
            Ended::Failed | Ended::Strained => {
                // An answer that tells of trouble is an answer all the same.
                self.down = None;
                if current {
                    self.cut(self.window / 2.0);
                }
            }
            Ended::Unreachable if current => {
                let probes = self.down.map_or(0, |down| down.probes);
                let pause = PROBE_FIRST.saturating_mul(1 << probes.min(16)).min(PROBE_MAX);
                let again = now.plus(rng.around(pause, JITTER));
                self.down = Some(Down { probes: probes.saturating_add(1), again });
                self.cut(1.0);
            }
            // It began before the subscriber was known to be down, or before it came back.
            Ended::Unreachable => {}
        }
    }

    fn cut(&mut self, window: f64) {
        self.threshold = (self.window / 2.0).max(1.0);
        self.window = window.max(1.0);
        self.round += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::*;

    fn at(secs: u64) -> Tick {
        Tick::ZERO.plus(Duration::from_secs(secs))
    }

    fn fill(pace: &mut Pace, now: Tick) -> Vec<Begun> {
        let mut begun = Vec::new();
        while let Room::For(_) = pace.room(now) {
            begun.push(pace.begin());
        }
        begun
    }

    #[test]
    fn a_healthy_subscriber_is_soon_at_its_concurrency() {
        let (mut pace, mut rng) = (Pace::new(64), Rng::seeded(1));
        let mut rounds = 0;
        while fill(&mut pace, at(0)).len() < 64 {
            let begun = Begun { round: pace.round };
            for _ in 0..pace.under_way {
                pace.end(begun, Ended::Answered, at(0), &mut rng);
            }
            rounds += 1;
            assert!(rounds < 8);
        }
        assert_eq!(pace.room(at(0)), Room::Full);
    }

    #[test]
    fn failures_of_one_round_halve_once() {
        let (mut pace, mut rng) = (Pace::new(64), Rng::seeded(1));
        pace.window = 64.0;
        for begun in fill(&mut pace, at(0)) {
            pace.end(begun, Ended::Strained, at(0), &mut rng);
        }
        assert_eq!(pace.room(at(0)), Room::For(32));
        let again = fill(&mut pace, at(0));
        for (index, begun) in again.into_iter().enumerate() {
            let how = if index == 0 { Ended::Strained } else { Ended::Answered };
            pace.end(begun, how, at(0), &mut rng);
        }
        // Half of 32, and one for the round that went well.
        assert!(matches!(pace.room(at(0)), Room::For(16..=18)), "{:?}", pace.room(at(0)));
    }

    #[test]
    fn a_few_messages_that_always_fail_slow_nobody_down_and_many_do() {
        let (mut pace, mut rng) = (Pace::new(64), Rng::seeded(1));
        let mut answers = 0;
        let mut rounds = |pace: &mut Pace, every: usize| {
            let mut least = 64;
            for round in 0..200 {
                let begun = fill(pace, at(0));
                least = if round < 150 { 64 } else { least.min(begun.len()) };
                for begun in begun {
                    answers += 1;
                    let how = if answers % every == 0 { Ended::Failed } else { Ended::Answered };
                    pace.end(begun, how, at(0), &mut rng);
                }
            }
            least
        };
        assert_eq!(rounds(&mut pace, 10), 64, "a tenth fails");
        assert!(rounds(&mut pace, 1) < 4, "all fail");
        assert_eq!(rounds(&mut pace, 10), 64, "and it is as before");
    }

    #[test]
    fn a_subscriber_that_is_down_is_probed_one_at_a_time() {
        let (mut pace, mut rng) = (Pace::new(64), Rng::seeded(7));
        for begun in fill(&mut pace, at(0)) {
            pace.end(begun, Ended::Unreachable, at(0), &mut rng);
        }
        let mut now = at(0);
        let mut pauses = Vec::new();
        for _ in 0..12 {
            let Room::Not(again) = pace.room(now) else { panic!("{:?}", pace.room(now)) };
            pauses.push(again.since(now));
            now = again;
            assert_eq!(pace.room(now), Room::For(1));
            let begun = pace.begin();
            assert_eq!(pace.room(now), Room::Full);
            pace.end(begun, Ended::Unreachable, now, &mut rng);
        }
        assert!(pauses[0] <= Duration::from_millis(300), "{:?}", pauses[0]);
        assert!(pauses[11] >= Duration::from_secs(24) && pauses[11] <= Duration::from_secs(36));
        let Room::Not(again) = pace.room(now) else { panic!() };
        let begun = pace.begin();
        pace.end(begun, Ended::Answered, again, &mut rng);
        assert_eq!(pace.room(again), Room::For(2));
        assert!(!pace.is_down());
    }

    proptest! {
        #[test]
        fn never_more_than_allowed_and_never_stuck(
            max in 1u32..100, seed in any::<u64>(), ends in proptest::collection::vec(0u8..4, 1..300),
        ) {
            let (mut pace, mut rng) = (Pace::new(max), Rng::seeded(seed));
            let mut now = at(0);
            let mut flying = Vec::new();
            for end in ends {
                match pace.room(now) {
                    Room::For(room) => {
                        for _ in 0..room { flying.push(pace.begin()); }
                    }
                    Room::Not(again) => { prop_assert!(flying.is_empty()); now = again; continue; }
                    Room::Full => prop_assert!(!flying.is_empty()),
                }
                prop_assert!(pace.under_way <= max);
                prop_assert_eq!(pace.under_way as usize, flying.len());
                let which = rng.below(flying.len() as u64) as usize;
                let begun = flying.swap_remove(which);
                let how = [Ended::Answered, Ended::Failed, Ended::Strained, Ended::Unreachable];
                let how = how[end as usize];
                pace.end(begun, how, now, &mut rng);
            }
        }
    }
}
