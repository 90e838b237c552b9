//! The count behind a verdict: pure.

use weft_kernel::{Rng, Tick};

use crate::{endpoint::Verdict, options::Health};

/// The run of equal findings about one endpoint, and when it is checked next.
#[derive(Clone, Debug)]
pub struct Pulse {
    verdict: Verdict,
    streak: u32,
    last_ok: bool,
    due: Tick,
    running: bool,
}

impl Pulse {
    /// An endpoint with this verdict, to be checked at once.
    pub fn new(verdict: Verdict, now: Tick) -> Self {
        Self { verdict, streak: 0, last_ok: true, due: now, running: false }
    }

    /// What stands.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// When it is checked next; `None` while a check is under way.
    pub fn due(&self) -> Option<Tick> {
        (!self.running).then_some(self.due)
    }

    /// A check begins.
    pub fn begin(&mut self) {
        self.running = true;
    }

    /// A check ended; the verdict, if it is another now.
    ///
    /// A new endpoint has earned no trust: its first finding decides alone.
    pub fn end(&mut self, ok: bool, options: &Health, now: Tick, rng: &mut Rng) -> Option<Verdict> {
        self.running = false;
        self.streak = if ok == self.last_ok { self.streak.saturating_add(1) } else { 1 };
        self.last_ok = ok;
        let needed = match (self.verdict, ok) {
            (Verdict::Unknown, _) => 1,
            (_, true) => options.up.max(1),
            (_, false) => options.down.max(1),
        };
        let said = if ok { Verdict::Healthy } else { Verdict::Unhealthy };
        let changed = said != self.verdict && self.streak >= needed;
        if changed {
            self.verdict = said;
        }
        let interval = match self.verdict {
            Verdict::Unhealthy => options.unhealthy_interval,
            Verdict::Healthy | Verdict::Unknown => options.interval,
        };
        self.due = now.plus(rng.around(interval, options.jitter.clamp(0.0, 1.0)));
        changed.then_some(said)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::options::Check;

    #[test]
    fn verdicts_follow_the_runs() {
        use Verdict::{Healthy, Unhealthy, Unknown};
        for (from, findings, expect) in [
            (Unknown, &[true][..], &[Some(Healthy)][..]),
            (Unknown, &[false], &[Some(Unhealthy)]),
            (
                Healthy,
                &[false, false, true, false, false, false],
                &[None, None, None, None, None, Some(Unhealthy)],
            ),
            (Unhealthy, &[false, true, true], &[None, Some(Healthy), None]),
            (Healthy, &[true, true], &[None, None]),
        ] {
            let options = Health::new(Check::tcp());
            let mut pulse = Pulse::new(from, Tick::ZERO);
            let mut rng = Rng::seeded(1);
            let said: Vec<_> =
                findings.iter().map(|ok| pulse.end(*ok, &options, Tick::ZERO, &mut rng)).collect();
            assert_eq!(said, expect, "{from:?} {findings:?}");
        }
    }

    #[test]
    fn the_next_check_is_due_within_the_jitter() {
        let mut options = Health::new(Check::tcp());
        options.unhealthy_interval = Duration::from_secs(20);
        let mut pulse = Pulse::new(Verdict::Unknown, Tick::ZERO);
        let mut rng = Rng::seeded(1);
        let (mut low, mut high) = (Duration::MAX, Duration::ZERO);
        for _ in 0..200 {
            pulse.begin();
            assert_eq!(pulse.due(), None);
            pulse.end(true, &options, Tick::ZERO, &mut rng);
            let due = pulse.due().unwrap().since(Tick::ZERO);
            (low, high) = (low.min(due), high.max(due));
        }
        assert!(low >= Duration::from_millis(4_250) && low < Duration::from_millis(4_400));
        assert!(high <= Duration::from_millis(5_750) && high > Duration::from_millis(5_600));
        for _ in 0..3 {
            pulse.end(false, &options, Tick::ZERO, &mut rng);
        }
        assert!(pulse.due().unwrap().since(Tick::ZERO) >= Duration::from_secs(17));
    }
}
