//! What was found, as lines to read.

use super::{
    endure::{Idle, Recovery},
    scenario::Scenario,
    target::Target,
};
use crate::record::durable::{Record, Records, Target as _};

/// A head, a line per target, and Weft's ratios to each.
pub(super) fn scenario(scenario: &Scenario, targets: &[Target], records: &Records) -> Vec<String> {
    let mut lines = vec![format!("{}: {}", scenario.name, scenario.says())];
    lines.extend(targets.iter().map(|&target| line(scenario, target, targets, records)));
    lines
}

fn line(scenario: &Scenario, target: Target, targets: &[Target], records: &Records) -> String {
    let name = scenario.name;
    let figure = |figure: fn(&Record) -> f64| {
        records.median(name, target, |record| Some(figure(record))).unwrap_or(f64::NAN)
    };
    let mut line = format!(
        "  {:<16} {:<13} {:>9.0}/s {:>7.2} µs CPU {:>7.2} B written/B {:>6.0} MiB client {:>5.2} µs",
        target.name(),
        target.durability(),
        figure(|run| run.per_second),
        figure(|run| run.cpu_us),
        figure(|run| run.disk_per_byte.unwrap_or(f64::NAN)),
        figure(|run| run.memory_mib),
        figure(|run| run.client_us),
    );
    let latency = |at: fn(&Record) -> Option<f64>| records.median(name, target, at);
    if let (Some(p50), Some(p99), Some(over)) = (
        latency(|run| Some(run.latency_us?.p50)),
        latency(|run| Some(run.latency_us?.p99)),
        latency(|run| Some(run.latency_us?.p99 / run.sync_us.p99)),
    ) {
        line += &format!("  p50 {p50:.0} p99 {p99:.0} µs (×{over:.1} the disk's p99)");
    }
    for &ours in targets.iter().filter(|ours| ours.is_weft() && !target.is_weft()) {
        let speed = records.ratio(name, ours, target, |run| Some(run.per_second));
        let cpu = records.ratio(name, ours, target, |run| Some(run.cpu_us));
        if let (Some(speed), Some(cpu)) = (speed, cpu) {
            line += &format!("  {} ×{speed:.2} speed, ×{cpu:.2} CPU", ours.name());
        }
    }
    let bad: u64 = records.all(name, target).map(|record| record.bad).sum();
    if bad > 0 {
        let why = records.all(name, target).find_map(|record| record.complaint.as_deref());
        line += &format!("  {bad} WRONG: {}", why.unwrap_or("no complaint"));
    }
    line
}

/// What the disk itself took over all rounds.
pub(super) fn disk(records: &Records) -> String {
    let of = |figure: fn(&Record) -> f64| {
        crate::latency::median(&records.0.iter().map(figure).collect::<Vec<_>>())
    };
    let (p50, p99) = (of(|run| run.sync_us.p50), of(|run| run.sync_us.p99));
    format!("the disk's own fdatasync of 4 KiB: p50 {p50:.0} p99 {p99:.0} µs")
}

pub(super) fn recovery(line: &Recovery) -> String {
    let lost = if line.lost > 0 { format!("  {} LOST", line.lost) } else { String::new() };
    format!(
        "  {:<16} {:<13} {:>8.2} s until the first message, of {} ({:.0} MiB, {:.0} on disk){lost}",
        line.recovery, line.durability, line.seconds, line.messages, line.mib, line.mib_on_disk
    )
}

pub(super) fn idle(line: &Idle) -> String {
    format!(
        "  {:<16} {:>6.1} MiB, at rest after {} messages {:>6.1}; {:>6} queues declared in {:>5.1} s: \
         {:>7.1} MiB ({:.2} KiB each), CPU {:.1} → {:.1} ms/s",
        line.idle,
        line.one_mib,
        line.passed,
        line.rested_mib,
        line.queues,
        line.seconds_to_declare,
        line.many_mib,
        line.kib_per_queue,
        line.one_ms,
        line.many_ms
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{broker::scenario, record::durable::tests::record};

    #[test]
    fn shows_ratios_and_what_was_wrong() {
        let mut records = Records::default();
        records.0.push(record("publish_1000", Target::WeftAmqp, 0, 30_000.0));
        let wrong = Record {
            bad: 2,
            complaint: Some("lost".into()),
            ..record("publish_1000", Target::RabbitmqQuorum, 0, 10_000.0)
        };
        records.0.push(wrong);
        let asked = scenario::find("publish_1000").expect("a scenario");
        let targets = [Target::WeftAmqp, Target::RabbitmqQuorum];
        let lines = super::scenario(asked, &targets, &records);
        assert_eq!(lines.len(), 3);
        assert!(lines[1].contains("fsync") && !lines[1].contains("WRONG"), "{}", lines[1]);
        assert!(lines[1].contains("×2.0 the disk's p99"), "{}", lines[1]);
        assert!(lines[2].contains("weft-amqp ×3.00 speed, ×0.33 CPU"), "{}", lines[2]);
        assert!(lines[2].contains("2 WRONG: lost"), "{}", lines[2]);
    }
}
