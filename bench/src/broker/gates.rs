//! The bounds that Weft is held to as a broker: ratios to a peer in the same round.

use super::{
    endure::{Endured, Recovery},
    target::Target,
};
use crate::{
    gate::Gate,
    record::durable::{Record, Records, Target as _},
};

use Target::{Nats, NatsAlways, RabbitmqQuorum, WeftAmqp, WeftHttp};

/// Time per message, as a share of the peer's: scenario, Weft, peer, most.
const TIME: &[(&str, Target, Target, f64)] = &[
    ("publish_1", WeftAmqp, RabbitmqQuorum, 1.0 / 2.0),
    ("publish_64", WeftAmqp, RabbitmqQuorum, 1.0 / 3.0),
    ("publish_1000", WeftAmqp, RabbitmqQuorum, 1.0 / 3.0),
    ("publish_64", WeftAmqp, NatsAlways, 1.0 / 8.0),
    ("publish_1000", WeftHttp, NatsAlways, 1.0 / 15.0),
    ("publish_1000", WeftHttp, Nats, 1.0 / 2.0),
    ("end_to_end", WeftAmqp, RabbitmqQuorum, 1.0 / 3.0),
    ("end_to_end", WeftAmqp, Nats, 1.0),
    ("replay", WeftHttp, Nats, 1.0),
];

/// Processor time per message, as a share of the peer's.
const CPU: &[(&str, Target, Target, f64)] =
    &[("publish_1000", WeftAmqp, RabbitmqQuorum, 0.25), ("publish_1000", WeftAmqp, Nats, 0.7)];

/// Where the 99th percentile of an acknowledgement is held to twice the disk's own sync and a millisecond.
const ACKNOWLEDGED: &[&str] = &["publish_1", "publish_64"];
/// Milliseconds of processor time a second that 10,000 idle queues may take more than one: two ticks of
/// the clock by which it is counted, in five seconds.
const IDLE_MS: f64 = 4.0;
/// MiB of a node with a ledger that has nothing to do, before and after a load.
const IDLE_MIB: f64 = 40.0;
/// Bytes written per byte of payload with at least 64 in flight.
const DISK: f64 = 2.5;
/// Seconds from the start after a crash to the first message, with a GiB in the ledger.
const RECOVERY: f64 = 1.0;

/// Every gate.
pub(super) fn all(records: &Records, endured: &Endured) -> Vec<Gate> {
    let mut gates = Vec::new();
    let slowness = |record: &Record| (record.per_second > 0.0).then(|| 1.0 / record.per_second);
    for &(scenario, ours, theirs, bound) in TIME {
        let what = format!("{scenario}: time, {} to {}", ours.name(), theirs.name());
        let found = records.ratio(scenario, ours, theirs, slowness);
        gates.push(Gate { what, found, bound, unit: "x" });
    }
    for &(scenario, ours, theirs, bound) in CPU {
        let what = format!("{scenario}: CPU, {} to {}", ours.name(), theirs.name());
        let found = records.ratio(scenario, ours, theirs, |record| Some(record.cpu_us));
        gates.push(Gate { what, found, bound, unit: "x" });
    }
    for scenario in ACKNOWLEDGED {
        let found = records.median(scenario, WeftAmqp, |record| {
            let (ours, disk) = (record.latency_us?, record.sync_us);
            Some(ours.p99 / (2.0 * disk.p50 + 1_000.0))
        });
        let what = format!("{scenario}: p99 to twice the disk's sync and 1 ms");
        gates.push(Gate { what, found, bound: 1.0, unit: "x" });
    }
    gates.push(Gate {
        what: "publish_64: written per byte".into(),
        found: records.median("publish_64", WeftAmqp, |record| record.disk_per_byte),
        bound: DISK,
        unit: "B",
    });
    let ours = |line: &&Recovery| line.recovery == WeftAmqp.name();
    let recovery = endured.recovered.iter().find(ours);
    gates.push(Gate {
        what: "recovery of a GiB".into(),
        found: recovery.map(|line| line.seconds),
        bound: RECOVERY,
        unit: "s",
    });
    let idle = endured.idled.iter().find(|line| line.idle == WeftAmqp.name());
    gates.push(Gate {
        what: "10,000 idle queues: CPU more than one".into(),
        found: idle.map(|line| line.many_ms - line.one_ms),
        bound: IDLE_MS,
        unit: "ms/s",
    });
    for (when, mib) in [
        ("at the start", idle.map(|line| line.one_mib)),
        ("at rest after a load", idle.map(|line| line.rested_mib)),
    ] {
        let what = format!("a node with a ledger, {when}");
        gates.push(Gate { what, found: mib, bound: IDLE_MIB, unit: "MiB" });
    }
    let is_ours =
        |record: &Record| [WeftAmqp, WeftHttp].iter().any(|ours| record.target == ours.name());
    let ran = records.0.iter().any(is_ours) || recovery.is_some();
    let lost = recovery.map_or(0, |line| line.lost);
    gates.push(Gate {
        what: "wrong messages in all runs".into(),
        found: ran.then(|| (records.bad(is_ours) + lost) as f64),
        bound: 0.0,
        unit: "",
    });
    gates
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{broker::scenario, gate::Verdict, record::durable::tests::record};

    fn verdict(gates: &[Gate], what: &str) -> Verdict {
        gates.iter().find(|gate| gate.what == what).map(Gate::verdict).expect("a gate")
    }

    #[test]
    fn holds_ratios_and_counts() {
        let mut records = Records::default();
        records.0.push(record("publish_1000", WeftAmqp, 0, 90_000.0));
        records.0.push(record("publish_1000", RabbitmqQuorum, 0, 29_000.0));
        let gates = all(&records, &Endured::default());
        let time = "publish_1000: time, weft-amqp to rabbitmq-quorum";
        assert_eq!(verdict(&gates, time), Verdict::Ok);
        assert_eq!(
            verdict(&gates, "publish_1000: CPU, weft-amqp to rabbitmq-quorum"),
            Verdict::Miss
        );
        assert_eq!(verdict(&gates, "recovery of a GiB"), Verdict::NotRun);
        assert_eq!(verdict(&gates, "wrong messages in all runs"), Verdict::Ok);
        records.0[0].bad = 1;
        assert_eq!(
            verdict(&all(&records, &Endured::default()), "wrong messages in all runs"),
            Verdict::Miss
        );
    }

    #[test]
    fn asks_only_for_what_is_measured() {
        for &(name, ours, theirs, _) in TIME.iter().chain(CPU) {
            let scenario = scenario::find(name).expect("a scenario");
            assert!(scenario.fits(ours) && scenario.fits(theirs), "{name}");
        }
    }
}
