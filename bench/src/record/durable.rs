//! One measured run of what keeps messages or events on a disk.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use super::Latency;
use crate::{
    disk::Sync,
    latency::{median, quantile},
};

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

/// What a run has done, and spent on it.
pub(crate) struct Spent {
    pub(crate) good: u64,
    pub(crate) wrong: u64,
    pub(crate) time: Duration,
    pub(crate) latencies: Vec<Duration>,
    pub(crate) cpu: Duration,
    pub(crate) client: Duration,
    pub(crate) written: Option<u64>,
    pub(crate) memory_kib: u64,
}

impl Record {
    /// Of a run of a scenario on a target, each of whose messages or events has so many bytes of payload. One that fails
    /// altogether is a record like any other: of one that is bad.
    pub(crate) fn of(
        (scenario, target, durability): (&'static str, &'static str, &'static str),
        round: usize,
        sync_us: Sync,
        size: usize,
        outcome: Result<Spent>,
    ) -> Self {
        let mut record = Self {
            at: super::now(),
            scenario,
            target,
            durability,
            round,
            good: 0,
            bad: 1,
            complaint: None,
            per_second: 0.0,
            cpu_us: 0.0,
            client_us: 0.0,
            disk_per_byte: None,
            memory_mib: 0.0,
            latency_us: None,
            sync_us,
        };
        match outcome {
            Err(error) => record.complaint = Some(format!("{error:#}")),
            Ok(spent) => {
                let count = spent.good.max(1) as f64;
                let each = |time: Duration| time.as_secs_f64() * 1e6 / count;
                let at =
                    |share| quantile(&spent.latencies, share).map(|time| time.as_secs_f64() * 1e6);
                record.good = spent.good;
                record.bad = spent.wrong;
                record.per_second = spent.good as f64 / spent.time.as_secs_f64().max(1e-9);
                record.cpu_us = each(spent.cpu);
                record.client_us = each(spent.client);
                record.disk_per_byte =
                    spent.written.map(|bytes| bytes as f64 / (count * size as f64));
                record.memory_mib = spent.memory_kib as f64 / 1024.0;
                if let (Some(p50), Some(p99), Some(p999)) = (at(0.5), at(0.99), at(0.999)) {
                    record.latency_us = Some(Latency { p50, p99, p999 });
                }
                if spent.wrong > 0 {
                    record.complaint = Some("lost, doubled, cut or out of order".to_owned());
                }
            }
        }
        record
    }
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
