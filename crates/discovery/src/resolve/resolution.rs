//! When to ask again, and which answer stands: pure, one for each name.

use std::time::Duration;

use weft_kernel::{Rng, Tick};

use super::{Answer, Failure, Record};
use crate::{options::Dns, source::State};

/// "There is nothing" is believed when it is said this often in a row: a name server that loses its
/// zone for a moment must not take a service down.
pub const EMPTY_BELIEVED: u32 = 3;
/// The longest wait after failures.
const RETRY_MAX: Duration = Duration::from_secs(30);
/// How much later than due a name may be asked for, so that nodes do not ask in step.
const JITTER: f64 = 0.1;

/// The life of one name.
#[derive(Clone, Debug)]
pub struct Resolution {
    records: Vec<Record>,
    state: State,
    due: Tick,
    running: bool,
    /// A look-up was wanted while one was running.
    again: bool,
    answered: Option<Tick>,
    ended: Option<Tick>,
    failures: u32,
    empties: u32,
    error: Option<String>,
}

impl Resolution {
    /// A name that is to be asked for at once.
    pub fn new(now: Tick) -> Self {
        Self {
            records: Vec::new(),
            state: State::Pending,
            due: now,
            running: false,
            again: false,
            answered: None,
            ended: None,
            failures: 0,
            empties: 0,
            error: None,
        }
    }

    /// The addresses that stand, in order.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// How far they can be trusted.
    pub fn state(&self) -> State {
        self.state
    }

    /// When the last answer came.
    pub fn answered(&self) -> Option<Tick> {
        self.answered
    }

    /// What the last failure was, if the last look-up failed.
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// When to ask next; `None` while a look-up is under way.
    pub fn due(&self) -> Option<Tick> {
        (!self.running).then_some(self.due)
    }

    /// A look-up begins.
    pub fn begin(&mut self) {
        self.running = true;
        self.again = false;
    }

    /// The endpoints seem to be gone: ask again as soon as the lower bound of the TTL allows.
    pub fn want(&mut self, dns: &Dns) {
        self.again |= self.running;
        let soonest = self.ended.map_or(Tick::ZERO, |ended| ended.plus(dns.ttl_min));
        self.due = self.due.min(soonest);
    }

    /// A look-up ended; true if the addresses that stand are others now.
    pub fn end(
        &mut self,
        result: Result<Answer, Failure>,
        dns: &Dns,
        now: Tick,
        rng: &mut Rng,
    ) -> bool {
        self.running = false;
        self.ended = Some(now);
        let wait;
        let mut changed = false;
        match result {
            Ok(answer) => {
                let mut records = answer.records;
                records.sort_unstable();
                records.dedup();
                changed = records != self.records || self.state == State::Pending;
                self.records = records;
                self.state = State::Fresh;
                self.answered = Some(now);
                self.failures = 0;
                self.empties = 0;
                self.error = None;
                let ttl = answer.ttl.clamp(dns.ttl_min, dns.ttl_max.max(dns.ttl_min));
                wait = ttl.saturating_add(rng.up_to(ttl.mul_f64(JITTER)));
            }
            Err(failure) => {
                self.failures = self.failures.saturating_add(1);
                self.error = Some(failure.detail().to_owned());
                match failure {
                    Failure::Empty(_) => self.empties = self.empties.saturating_add(1),
                    Failure::Unanswered(_) => self.empties = 0,
                }
                if self.empties >= EMPTY_BELIEVED && !self.records.is_empty() {
                    self.records.clear();
                    changed = true;
                }
                self.state = if self.records.is_empty() { State::Failed } else { State::Stale };
                let doubled = dns.ttl_min.saturating_mul(1 << (self.failures - 1).min(16));
                wait = rng.around(doubled.min(RETRY_MAX.max(dns.ttl_min)), JITTER);
            }
        }
        self.due = now.plus(if self.again { dns.ttl_min } else { wait.max(dns.ttl_min) });
        self.again = false;
        changed
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn answer(ttl: u64, hosts: &[u8]) -> Result<Answer, Failure> {
        let record = |last: &u8| Record {
            address: ([10, 0, 0, *last], 80).into(),
            hostname: Arc::from("orders.internal"),
            priority: 0,
            weight: 1,
        };
        Ok(Answer { records: hosts.iter().map(record).collect(), ttl: Duration::from_secs(ttl) })
    }

    fn unanswered() -> Result<Answer, Failure> {
        Err(Failure::Unanswered("timed out".into()))
    }

    fn empty() -> Result<Answer, Failure> {
        Err(Failure::Empty("no such name".into()))
    }

    fn at(seconds: u64) -> Tick {
        Tick::ZERO.plus(Duration::from_secs(seconds))
    }

    #[test]
    fn the_ttl_is_kept_within_bounds() {
        let dns = Dns::default();
        let mut rng = Rng::seeded(1);
        for (ttl, low, high) in [(0, 1.0, 1.1), (10, 10.0, 11.0), (1 << 40, 300.0, 330.0)] {
            let mut resolution = Resolution::new(at(0));
            resolution.begin();
            assert_eq!(resolution.due(), None);
            assert!(resolution.end(answer(ttl, &[1]), &dns, at(0), &mut rng));
            let wait = resolution.due().unwrap().since(at(0)).as_secs_f64();
            assert!((low..=high).contains(&wait), "{ttl}: {wait}");
        }
    }

    #[test]
    fn a_failure_keeps_what_was_there_and_says_so() {
        let dns = Dns::default();
        let mut rng = Rng::seeded(1);
        let mut resolution = Resolution::new(at(0));
        resolution.begin();
        assert!(!resolution.end(unanswered(), &dns, at(0), &mut rng));
        assert_eq!(resolution.state(), State::Failed);
        resolution.end(answer(5, &[2, 1]), &dns, at(1), &mut rng);
        assert_eq!((resolution.state(), resolution.error()), (State::Fresh, None));
        let mut longest = Duration::ZERO;
        for second in 10..100 {
            assert!(!resolution.end(unanswered(), &dns, at(second), &mut rng));
            assert_eq!(resolution.records().len(), 2);
            longest = longest.max(resolution.due().unwrap().since(at(second)));
        }
        assert_eq!((resolution.state(), resolution.error()), (State::Stale, Some("timed out")));
        assert!(longest > Duration::from_secs(25) && longest <= Duration::from_secs(33));
        assert!(!resolution.end(answer(5, &[1, 2, 2]), &dns, at(200), &mut rng), "the same again");
        assert!(resolution.end(answer(5, &[3]), &dns, at(201), &mut rng));
    }

    #[test]
    fn nothing_is_believed_when_it_is_repeated() {
        let dns = Dns::default();
        let mut rng = Rng::seeded(1);
        let mut resolution = Resolution::new(at(0));
        resolution.end(answer(5, &[1]), &dns, at(0), &mut rng);
        for (result, changed, left) in [
            (empty(), false, 1),
            (empty(), false, 1),
            (unanswered(), false, 1),
            (empty(), false, 1),
            (empty(), false, 1),
            (empty(), true, 0),
            (empty(), false, 0),
        ] {
            assert_eq!(resolution.end(result, &dns, at(1), &mut rng), changed);
            assert_eq!(resolution.records().len(), left);
        }
        assert_eq!(resolution.state(), State::Failed);
    }

    #[test]
    fn a_wish_brings_the_next_look_up_forward_to_the_lower_bound() {
        let dns = Dns::default();
        let mut rng = Rng::seeded(1);
        let mut resolution = Resolution::new(at(0));
        resolution.begin();
        resolution.end(answer(300, &[1]), &dns, at(10), &mut rng);
        resolution.want(&dns);
        assert_eq!(resolution.due(), Some(at(11)));
        resolution.begin();
        resolution.want(&dns);
        resolution.end(answer(300, &[1]), &dns, at(20), &mut rng);
        assert_eq!(resolution.due(), Some(at(21)));
    }
}
