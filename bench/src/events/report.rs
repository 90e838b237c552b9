//! What was found, as lines to read.

use super::{scenario::Scenario, target::Target};
use crate::{
    latency::median,
    record::durable::{Record, Records, Target as _},
};

/// A head, a line per target, and Weft's ratios to PostgreSQL.
pub(super) fn scenario(scenario: &Scenario, targets: &[Target], records: &Records) -> Vec<String> {
    let mut lines = vec![format!("{}: {}", scenario.name, scenario.says())];
    lines.extend(targets.iter().map(|&target| line(scenario.name, target, targets, records)));
    lines
}

fn line(name: &str, target: Target, targets: &[Target], records: &Records) -> String {
    let figure = |figure: fn(&Record) -> f64| {
        records.median(name, target, |record| Some(figure(record))).unwrap_or(f64::NAN)
    };
    let mut line = format!(
        "  {:<10} {:>9.0} events/s {:>7.2} µs CPU {:>7.2} B written/B {:>6.0} MiB client {:>6.2} µs",
        target.name(),
        figure(|run| run.per_second),
        figure(|run| run.cpu_us),
        figure(|run| run.disk_per_byte.unwrap_or(f64::NAN)),
        figure(|run| run.memory_mib),
        figure(|run| run.client_us),
    );
    let latency = |at: fn(&Record) -> Option<f64>| records.median(name, target, at);
    if let (Some(p50), Some(p99)) =
        (latency(|run| Some(run.latency_us?.p50)), latency(|run| Some(run.latency_us?.p99)))
    {
        line += &format!("  p50 {p50:.0} p99 {p99:.0} µs");
    }
    for &ours in targets.iter().filter(|ours| ours.is_weft() && !target.is_weft()) {
        if let Some(speed) = records.ratio(name, ours, target, |run| Some(run.per_second)) {
            line += &format!("  {} ×{speed:.2} speed", ours.name());
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
    let of = |figure: fn(&Record) -> f64| median(&records.0.iter().map(figure).collect::<Vec<_>>());
    let (p50, p99) = (of(|run| run.sync_us.p50), of(|run| run.sync_us.p99));
    format!("the disk's own fdatasync of 4 KiB: p50 {p50:.0} p99 {p99:.0} µs")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{events::scenario, record::durable::tests::record};

    #[test]
    fn shows_ratios_and_what_was_wrong() {
        let mut records = Records::default();
        records.0.push(record("append_100k", Target::WeftStore, 0, 30_000.0));
        let wrong = Record {
            bad: 1,
            complaint: Some("version 4 instead of 3".into()),
            ..record("append_100k", Target::Postgres, 0, 10_000.0)
        };
        records.0.push(wrong);
        let asked = scenario::find("append_100k").expect("a scenario");
        let targets = [Target::WeftStore, Target::Postgres];
        let lines = super::scenario(asked, &targets, &records);
        assert_eq!(lines.len(), 3);
        assert!(!lines[1].contains("WRONG"), "{}", lines[1]);
        assert!(lines[2].contains("weft-store ×3.00 speed"), "{}", lines[2]);
        assert!(lines[2].contains("1 WRONG: version 4"), "{}", lines[2]);
    }
}
