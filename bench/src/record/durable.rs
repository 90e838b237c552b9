//! One measured run of what keeps messages or events on a disk.

use serde::Serialize;

use super::Latency;
use crate::{disk::Sync, latency::median};

/// What is measured.
pub(crate) trait Target: Copy {
    /// As records tell it.
    fn name(self) -> &'static str;
}

/// What one run of one scenario on one target came to.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Record {
    /// Seconds since 1970.
    pub(crate) at: u64,
    pub(crate) scenario: &'static str,
    pub(crate) target: &'static str,
    /// What an acknowledgement means.
    pub(crate) durability: &'static str,
    pub(crate) round: usize,
    /// Messages or events.
    pub(crate) good: u64,
    /// Messages lost, doubled, cut, out of order or never confirmed; runs in which an event was not as it should be.
    pub(crate) bad: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) complaint: Option<String>,
    pub(crate) per_second: f64,
    /// Of the server's tree, per one; of this program where that is the server.
    pub(crate) cpu_us: f64,
    /// Of this program, per one.
    pub(crate) client_us: f64,
    /// Written by the device per byte of payload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) disk_per_byte: Option<f64>,
    /// Of the server's tree at the end; of this program where that is the server.
    pub(crate) memory_mib: f64,
    /// From publish to confirm; of a transaction, or of a stream that is read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) latency_us: Option<Latency>,
    /// What the disk itself takes, in the same round.
    pub(crate) sync_us: Sync,
}

/// All runs.
#[derive(Debug, Default)]
pub(crate) struct Records(pub(crate) Vec<Record>);

impl Records {
    /// The runs of a scenario on a target that came to something.
    pub(crate) fn of(&self, scenario: &str, target: impl Target) -> impl Iterator<Item = &Record> {
        self.all(scenario, target).filter(|record| record.good > 0)
    }

    /// All runs of a scenario on a target.
    pub(crate) fn all(&self, scenario: &str, target: impl Target) -> impl Iterator<Item = &Record> {
        let is_asked =
            move |record: &&Record| record.scenario == scenario && record.target == target.name();
        self.0.iter().filter(is_asked)
    }

    /// The median of a figure.
    pub(crate) fn median(
        &self,
        scenario: &str,
        target: impl Target,
        figure: impl Fn(&Record) -> Option<f64>,
    ) -> Option<f64> {
        let figures: Vec<f64> = self.of(scenario, target).filter_map(figure).collect();
        (!figures.is_empty()).then(|| median(&figures))
    }

    /// The median over the rounds of the ratio of one target's figure to another's in the same round.
    pub(crate) fn ratio(
        &self,
        scenario: &str,
        ours: impl Target,
        theirs: impl Target,
        figure: impl Fn(&Record) -> Option<f64>,
    ) -> Option<f64> {
        let ratio = |record: &Record| {
            let other = self.of(scenario, theirs).find(|other| other.round == record.round)?;
            let (ours, theirs) = (figure(record)?, figure(other)?);
            (theirs > 0.0).then(|| ours / theirs)
        };
        let ratios: Vec<f64> = self.of(scenario, ours).filter_map(ratio).collect();
        (!ratios.is_empty()).then(|| median(&ratios))
    }

    /// What was not as it should be.
    pub(crate) fn bad(&self, is_asked: impl Fn(&Record) -> bool) -> u64 {
        self.0.iter().filter(|record| is_asked(record)).map(|record| record.bad).sum()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    impl Target for &'static str {
        fn name(self) -> &'static str {
            self
        }
    }

    pub(crate) fn record(
        scenario: &'static str,
        target: impl Target,
        round: usize,
        per_second: f64,
    ) -> Record {
        Record {
            at: 0,
            scenario,
            target: target.name(),
            durability: "fsync",
            round,
            good: 1_000,
            bad: 0,
            complaint: None,
            per_second,
            cpu_us: 1e6 / per_second,
            client_us: 1.0,
            disk_per_byte: Some(1.5),
            memory_mib: 30.0,
            latency_us: Some(Latency { p50: 100.0, p99: 200.0, p999: 300.0 }),
            sync_us: Sync { p50: 50.0, p99: 100.0 },
        }
    }

    #[test]
    fn compares_within_a_round() {
        let mut records = Records::default();
        for (round, (ours, theirs)) in
            [(10.0, 5.0), (90.0, 10.0), (20.0, 5.0)].into_iter().enumerate()
        {
            records.0.push(record("one", "ours", round, ours));
            records.0.push(record("one", "theirs", round, theirs));
        }
        let speed = |record: &Record| Some(record.per_second);
        let ratio = |theirs| records.ratio("one", "ours", theirs, speed);
        assert_eq!((ratio("theirs"), ratio("others")), (Some(4.0), None));
        assert_eq!(records.median("one", "ours", speed), Some(20.0));
        assert_eq!(records.bad(|_| true), 0);
    }
}
