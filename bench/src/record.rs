//! One measured run, kept as a line of JSON.

pub(crate) mod durable;

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Result;
use serde::Serialize;

use crate::{latency::median, peer::install};

/// What one run of one scenario on one proxy came to.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Record {
    /// Seconds since 1970.
    pub(crate) at: u64,
    pub(crate) scenario: &'static str,
    pub(crate) peer: &'static str,
    pub(crate) round: usize,
    pub(crate) good: u64,
    pub(crate) bad: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) complaint: Option<String>,
    pub(crate) per_second: f64,
    /// Of the proxy's tree, per good response.
    pub(crate) cpu_us: f64,
    /// Of the upstream, which does the same for all: when it strays, the machine was disturbed.
    pub(crate) upstream_us: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) latency_us: Option<Latency>,
}

/// From the scheduled instant, in open loop.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Where lines are kept.
pub(crate) struct Journal {
    file: File,
    pub(crate) path: PathBuf,
}

impl Journal {
    /// Opens `target/bench/NAME.jsonl` to append to it.
    pub(crate) fn open(name: &str) -> Result<Self> {
        let folder = install::kept();
        fs::create_dir_all(&folder)?;
        let path = folder.join(format!("{name}.jsonl"));
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        Ok(Self { file, path })
    }

    pub(crate) fn keep(&mut self, line: &impl Serialize) -> Result<()> {
        let mut text = serde_json::to_string(line)?;
        text.push('\n');
        Ok(self.file.write_all(text.as_bytes())?)
    }
}

/// How far the upstream's cost of a run may be from its median before the run is set aside.
const STRAY: f64 = 0.3;

/// All runs.
#[derive(Debug, Default)]
pub(crate) struct Records(pub(crate) Vec<Record>);

impl Records {
    /// The runs of a scenario on a proxy that the machine let be, in order.
    pub(crate) fn of(&self, scenario: &str, peer: &str) -> Vec<&Record> {
        let is_asked = |record: &&Record| record.scenario == scenario && record.peer == peer;
        let all: Vec<&Record> = self.0.iter().filter(is_asked).collect();
        let usual = median(&all.iter().map(|record| record.upstream_us).collect::<Vec<_>>());
        let calm: Vec<&Record> = all
            .iter()
            .copied()
            .filter(|record| (record.upstream_us - usual).abs() <= usual * STRAY)
            .collect();
        // Of two that disagree, nobody knows which was disturbed.
        if all.len() >= 3 && calm.len() >= 2 { calm } else { all }
    }

    /// The median of a figure.
    pub(crate) fn median(
        &self,
        scenario: &str,
        peer: &str,
        figure: impl Fn(&Record) -> Option<f64>,
    ) -> Option<f64> {
        let figures: Vec<f64> = self.of(scenario, peer).into_iter().filter_map(figure).collect();
        (!figures.is_empty()).then(|| median(&figures))
    }

    /// The median over the rounds of the ratio of one's figure to another's in the same round.
    pub(crate) fn ratio(
        &self,
        scenario: &str,
        (one, other): (&str, &str),
        figure: impl Fn(&Record) -> Option<f64>,
    ) -> Option<f64> {
        self.compare(scenario, (one, other), figure, |one, other| {
            (other > 0.0).then(|| one / other)
        })
    }

    /// The median over the rounds of what is made of one's figure and another's in the same round.
    pub(crate) fn compare(
        &self,
        scenario: &str,
        (one, other): (&str, &str),
        figure: impl Fn(&Record) -> Option<f64>,
        by: impl Fn(f64, f64) -> Option<f64>,
    ) -> Option<f64> {
        let others = self.of(scenario, other);
        let found: Vec<f64> = self
            .of(scenario, one)
            .into_iter()
            .filter_map(|one| {
                let other = others.iter().find(|other| other.round == one.round)?;
                by(figure(one)?, figure(other)?)
            })
            .collect();
        (!found.is_empty()).then(|| median(&found))
    }

    /// Responses of one that were not as they should be.
    pub(crate) fn bad(&self, peer: &str) -> u64 {
        self.0.iter().filter(|record| record.peer == peer).map(|record| record.bad).sum()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::peer::Peer;

    pub(crate) fn record(peer: Peer, round: usize, cpu_us: f64, upstream_us: f64) -> Record {
        Record {
            at: 0,
            scenario: "h1_100",
            peer: peer.name(),
            round,
            good: 1_000,
            bad: 0,
            complaint: None,
            per_second: 1_000.0,
            cpu_us,
            upstream_us,
            latency_us: None,
        }
    }

    #[test]
    fn compares_round_by_round_and_sets_disturbed_ones_aside() {
        let mut records = Records::default();
        for (round, (ours, theirs)) in
            [(10.0, 20.0), (30.0, 60.0), (11.0, 20.0)].into_iter().enumerate()
        {
            records.0.push(record(Peer::Weft, round, ours, 5.0));
            records.0.push(record(Peer::Nginx, round, theirs, 5.0));
        }
        let cpu = |record: &Record| Some(record.cpu_us);
        assert_eq!(records.ratio("h1_100", ("weft", "nginx"), cpu), Some(0.5));
        assert_eq!(records.ratio("h1_100", ("weft", "envoy"), cpu), None);
        assert_eq!(
            records.compare("h1_100", ("nginx", "weft"), cpu, |a, b| Some(a - b)),
            Some(10.0)
        );
        assert_eq!(records.median("h1_100", "weft", cpu), Some(11.0));
        records.0.push(record(Peer::Weft, 3, 99.0, 9.0));
        assert_eq!(records.of("h1_100", "weft").len(), 3);
    }
}
