//! The bounds that Weft is held to, as a table and a verdict.
//!
//! Bounds are ratios to a peer in the same minute on the same machine wherever there is a peer; only
//! memory and the time of a change are absolute, for they hardly depend on the machine.

use crate::{
    memory::Memory,
    peer::Peer,
    record::{Latency, Record, Records},
    routes::Routes,
};

/// One bound and what was found.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    pub(crate) what: String,
    pub(crate) found: Option<f64>,
    pub(crate) bound: f64,
    pub(crate) unit: &'static str,
}

/// How a gate went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Ok,
    Miss,
    /// What it needs was not measured.
    NotRun,
}

impl Gate {
    pub(crate) fn verdict(&self) -> Verdict {
        match self.found {
            None => Verdict::NotRun,
            Some(found) if found <= self.bound => Verdict::Ok,
            // Not a number is no success either.
            Some(_) => Verdict::Miss,
        }
    }
}

/// All that was measured.
pub(crate) struct Found<'a> {
    pub(crate) records: &'a Records,
    pub(crate) memory: &'a [Memory],
    pub(crate) routes: &'a [Routes],
}

/// Processor time per request: scenario, peer, most as a share of the peer's.
const CPU: &[(&str, Peer, f64)] = &[
    ("h1_100", Peer::Nginx, 1.0),
    ("h1_100", Peer::Envoy, 0.25),
    ("h2_100", Peer::Haproxy, 1.1),
    ("grpc", Peer::Envoy, 0.35),
    ("tls_h1", Peer::Haproxy, 0.9),
];

/// Added latency is compared with HAProxy's.
const FIXED: &str = "fix_h1";
const IDLE_MIB: f64 = 15.0;
const CONNECTION_KIB: f64 = 12.0;
const ADDED_MS: f64 = 30.0;

/// Every gate.
pub(crate) fn all(found: &Found<'_>) -> Vec<Gate> {
    let records = found.records;
    let cpu = |record: &Record| (record.good > 0).then_some(record.cpu_us);
    let mut gates = Vec::new();
    for &(scenario, peer, bound) in CPU {
        let what = format!("{scenario}: CPU per request to {}", peer.name());
        gates.push(Gate {
            what,
            found: records.ratio(scenario, (Peer::Weft.name(), peer.name()), cpu),
            bound,
            unit: "x",
        });
    }
    for (name, figure) in [("p50", (|at| at.p50) as fn(Latency) -> f64), ("p99", |at| at.p99)] {
        let what = format!("{FIXED}: added {name} to haproxy");
        gates.push(Gate { what, found: added(records, figure), bound: 1.0, unit: "x" });
    }
    let weft = |line: &&Memory| line.memory == Peer::Weft.name();
    let memory = found.memory.iter().find(weft);
    gates.push(Gate {
        what: "memory idle".into(),
        found: memory.map(|line| line.idle_mib),
        bound: IDLE_MIB,
        unit: "MiB",
    });
    gates.push(Gate {
        what: "memory per idle connection".into(),
        found: memory.map(|line| line.kib_per_connection),
        bound: CONNECTION_KIB,
        unit: "KiB",
    });
    let routes = found.routes.iter().find(|line| line.routes == Peer::Weft.name());
    gates.push(Gate {
        what: "one more route at 5,000".into(),
        found: routes.map(|line| line.added_ms),
        bound: ADDED_MS,
        unit: "ms",
    });
    gates.push(Gate {
        what: "requests failed meanwhile".into(),
        found: routes.map(|line| line.failed as f64),
        bound: 0.0,
        unit: "",
    });
    let ran = records.0.iter().any(|record| record.peer == Peer::Weft.name());
    gates.push(Gate {
        what: "wrong responses in all runs".into(),
        found: ran.then(|| records.bad(Peer::Weft.name()) as f64),
        bound: 0.0,
        unit: "",
    });
    gates
}

/// Weft's latency above none at all, as a share of HAProxy's.
fn added(records: &Records, figure: fn(Latency) -> f64) -> Option<f64> {
    let of = |peer| records.median(FIXED, Peer::name(peer), |record| record.latency_us.map(figure));
    let direct = of(Peer::Direct)?;
    let (ours, theirs) = (of(Peer::Weft)? - direct, of(Peer::Haproxy)? - direct);
    // On a noisy machine a proxy may seem to add nothing; below a microsecond all is one.
    Some(ours.max(1.0) / theirs.max(1.0))
}

/// Prints the table; whether all hold. Of a whole run, one that could not be judged is no success.
pub(crate) fn judge(gates: &[Gate], whole: bool) -> bool {
    println!("\ngates");
    for line in table(gates) {
        println!("{line}");
    }
    gates.iter().all(|gate| match gate.verdict() {
        Verdict::Ok => true,
        Verdict::Miss => false,
        Verdict::NotRun => !whole,
    })
}

/// The table, line by line.
fn table(gates: &[Gate]) -> Vec<String> {
    let line = |gate: &Gate| {
        let verdict = match gate.verdict() {
            Verdict::Ok => "ok",
            Verdict::Miss => "MISS",
            Verdict::NotRun => "not run",
        };
        let found = gate.found.map_or_else(|| "-".into(), |found| format!("{found:.2}"));
        let Gate { what, bound, unit, .. } = gate;
        format!("{what:<40} {found:>9} {unit:<4} most {bound:>6.2} {unit:<4} {verdict}")
    };
    gates.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::record;

    fn verdict(gates: &[Gate], what: &str) -> Verdict {
        gates.iter().find(|gate| gate.what.starts_with(what)).map(Gate::verdict).expect("a gate")
    }

    #[test]
    fn holds_ratios_and_counts() {
        let mut records = Records::default();
        records.0.push(record(Peer::Weft, 0, 15.0, 5.0));
        records.0.push(record(Peer::Nginx, 0, 20.0, 5.0));
        records.0.push(record(Peer::Envoy, 0, 50.0, 5.0));
        let found = Found { records: &records, memory: &[], routes: &[] };
        let gates = all(&found);
        assert_eq!(verdict(&gates, "h1_100: CPU per request to nginx"), Verdict::Ok);
        assert_eq!(verdict(&gates, "h1_100: CPU per request to envoy"), Verdict::Miss);
        assert_eq!(verdict(&gates, "memory idle"), Verdict::NotRun);
        assert_eq!(verdict(&gates, "wrong responses"), Verdict::Ok);
        records.0[0].bad = 1;
        let gates = all(&Found { records: &records, memory: &[], routes: &[] });
        assert_eq!(verdict(&gates, "wrong responses"), Verdict::Miss);
        assert_eq!(table(&gates).len(), gates.len());
    }

    #[test]
    fn compares_what_is_added() {
        let mut records = Records::default();
        for (peer, p50) in [(Peer::Direct, 100.0), (Peer::Weft, 120.0), (Peer::Haproxy, 140.0)] {
            let latency_us = Some(Latency { p50, p99: p50, p999: p50 });
            records.0.push(Record { scenario: FIXED, latency_us, ..record(peer, 0, 1.0, 1.0) });
        }
        let gates = all(&Found { records: &records, memory: &[], routes: &[] });
        let gate = gates.iter().find(|gate| gate.what.contains("p50")).expect("a gate");
        assert_eq!(gate.found, Some(0.5));
    }

    #[test]
    fn a_figure_that_is_none_misses() {
        let gate = Gate { what: String::new(), found: Some(f64::NAN), bound: 1.0, unit: "x" };
        assert_eq!(gate.verdict(), Verdict::Miss);
    }
}
