//! The bounds that Weft is held to as an event store: a ratio to PostgreSQL in the same round, and what an
//! event may cost at all.

use super::target::Target;
use crate::{
    gate::Gate,
    record::durable::{Record, Records, Target as _},
};

use Target::{Postgres, Weft, WeftStore};

/// Time of an append, as a share of PostgreSQL's. The node's, which pays for HTTP too, is told beside it.
const TO_POSTGRES: (&str, Target, f64) = ("append_100k", WeftStore, 1.0 / 5.0);
/// Microseconds of an event that is on the disk: 30,000 transactions of one a second, and 300,000 events in
/// transactions of a hundred.
const TIME_US: &[(&str, Target, f64)] =
    &[("append_100k", WeftStore, 1e6 / 30_000.0), ("append_batch", WeftStore, 1e6 / 300_000.0)];
/// MiB of a node with ten million streams.
const MEMORY_MIB: (&str, Target, f64) = ("append_10m", Weft, 300.0);

/// Every gate.
pub(super) fn all(records: &Records) -> Vec<Gate> {
    let time_us = |record: &Record| (record.per_second > 0.0).then(|| 1e6 / record.per_second);
    let (scenario, ours, bound) = TO_POSTGRES;
    let mut gates = vec![Gate {
        what: format!("{scenario}: time, {} to postgres", ours.name()),
        found: records.ratio(scenario, ours, Postgres, time_us),
        bound,
        unit: "x",
    }];
    for &(scenario, ours, bound) in TIME_US {
        gates.push(Gate {
            what: format!("{scenario}: time of an event, {}", ours.name()),
            found: records.median(scenario, ours, time_us),
            bound,
            unit: "µs",
        });
    }
    let (scenario, ours, bound) = MEMORY_MIB;
    let most = records.of(scenario, ours).map(|record| record.memory_mib).reduce(f64::max);
    gates.push(Gate {
        what: format!("{scenario}: memory of the node"),
        found: most,
        bound,
        unit: "MiB",
    });
    gates.push(Gate {
        what: "wrong answers in all runs".into(),
        found: (!records.0.is_empty()).then(|| records.bad(|_| true) as f64),
        bound: 0.0,
        unit: "",
    });
    gates
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{events::scenario, gate::Verdict, record::durable::tests::record};

    fn verdict(records: &Records, what: &str) -> Verdict {
        all(records).iter().find(|gate| gate.what == what).map(Gate::verdict).expect("a gate")
    }

    #[test]
    fn holds_ratios_and_times() {
        let mut records = Records::default();
        let (ratio, time) = (
            "append_100k: time, weft-store to postgres",
            "append_100k: time of an event, weft-store",
        );
        assert_eq!(verdict(&records, ratio), Verdict::NotRun);
        assert_eq!(verdict(&records, "wrong answers in all runs"), Verdict::NotRun);
        records.0.push(record("append_100k", WeftStore, 0, 29_000.0));
        records.0.push(record("append_100k", Postgres, 0, 5_000.0));
        assert_eq!(verdict(&records, ratio), Verdict::Ok);
        assert_eq!(verdict(&records, time), Verdict::Miss);
        assert_eq!(verdict(&records, "append_10m: memory of the node"), Verdict::NotRun);
        assert_eq!(verdict(&records, "wrong answers in all runs"), Verdict::Ok);
        records.0[1].bad = 1;
        assert_eq!(verdict(&records, "wrong answers in all runs"), Verdict::Miss);
    }

    #[test]
    fn asks_only_for_what_is_measured() {
        let names = TIME_US.iter().chain([&TO_POSTGRES, &MEMORY_MIB]).map(|(name, ..)| name);
        for name in names {
            assert!(scenario::find(name).is_some(), "{name}");
        }
    }
}
