//! One measured run, kept as a line of JSON.

use serde::Serialize;

use super::target::Target;
use crate::{disk::Sync, latency::median, record::Latency};

/// What one run of one scenario on one target came to.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Record {
    /// Seconds since 1970.
    pub(super) at: u64,
    pub(super) scenario: &'static str,
    pub(super) target: &'static str,
    pub(super) round: usize,
    /// Events.
    pub(super) good: u64,
    /// Runs in which an answer, a count or an event was not as it should be.
    pub(super) bad: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) complaint: Option<String>,
    /// Events.
    pub(super) per_second: f64,
    /// Of the server's tree, per event; of this program where that is the server.
    pub(super) cpu_us: f64,
    /// Of this program, per event.
    pub(super) client_us: f64,
    /// Written by the device per byte of payload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) disk_per_byte: Option<f64>,
    /// Of the server's tree at the end; of this program where that is the server.
    pub(super) memory_mib: f64,
    /// Of a transaction, or of a stream that is read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) latency_us: Option<Latency>,
    /// What the disk itself takes, in the same round.
    pub(super) sync_us: Sync,
}

/// All runs.
#[derive(Debug, Default)]
pub(super) struct Records(pub(super) Vec<Record>);

impl Records {
    /// The runs of a scenario on a target that came to something.
    pub(super) fn of(&self, scenario: &str, target: Target) -> impl Iterator<Item = &Record> {
        self.all(scenario, target).filter(|record| record.good > 0)
    }

    /// All runs of a scenario on a target.
    pub(super) fn all(&self, scenario: &str, target: Target) -> impl Iterator<Item = &Record> {
        let is_asked =
            move |record: &&Record| record.scenario == scenario && record.target == target.name();
        self.0.iter().filter(is_asked)
    }

    /// The median of a figure.
    pub(super) fn median(
        &self,
        scenario: &str,
        target: Target,
        figure: impl Fn(&Record) -> Option<f64>,
    ) -> Option<f64> {
        let figures: Vec<f64> = self.of(scenario, target).filter_map(figure).collect();
        (!figures.is_empty()).then(|| median(&figures))
    }

    /// The median over the rounds of the ratio of one target's figure to another's in the same round.
    pub(super) fn ratio(
        &self,
        scenario: &str,
        ours: Target,
        theirs: Target,
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

    /// Runs that were not as they should be.
    pub(super) fn bad(&self) -> u64 {
        self.0.iter().map(|record| record.bad).sum()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::events) fn record(target: Target, round: usize, per_second: f64) -> Record {
        Record {
            at: 0,
            scenario: "append_100k",
            target: target.name(),
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
            records.0.push(record(Target::Weft, round, ours));
            records.0.push(record(Target::Postgres, round, theirs));
        }
        let speed = |record: &Record| Some(record.per_second);
        let ratio = |ours, theirs| records.ratio("append_100k", ours, theirs, speed);
        assert_eq!(ratio(Target::Weft, Target::Postgres), Some(4.0));
        assert_eq!(ratio(Target::WeftStore, Target::Postgres), None);
        assert_eq!(records.median("append_100k", Target::Weft, speed), Some(20.0));
        assert_eq!(records.bad(), 0);
    }
}
