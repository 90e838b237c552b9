//! What was found, as lines to read.

use crate::{
    memory::Memory,
    record::{Record, Records},
    routes::Routes,
    scenario::Scenario,
};

pub(crate) fn memory(line: &Memory) -> String {
    format!(
        "  {:<8} {:>7.1} MiB idle {:>7.1} MiB held {:>6.1} KiB a connection {:>6.1} KiB with TLS",
        line.memory,
        line.idle_mib,
        line.held_mib,
        line.kib_per_connection,
        line.kib_per_tls_connection
    )
}

pub(crate) fn routes(line: &Routes) -> String {
    let complaint = line.complaint.as_deref().map(|why| format!(" ({why})")).unwrap_or_default();
    format!(
        "  {:<8} {:>7.1} MiB {:>8.1} ms until it answers, {} failed{complaint}",
        line.routes, line.memory_mib, line.added_ms, line.failed
    )
}

/// What no proxy at all is called.
const DIRECT: &str = "direct";

/// A head, a line per proxy, and the ratios of ours to each.
pub(crate) fn scenario(
    scenario: &Scenario,
    names: &[&str],
    ours: &str,
    records: &Records,
) -> Vec<String> {
    let kind = match scenario.rate {
        None => "closed loop".to_owned(),
        Some(rate) => format!("open loop at {rate}/s"),
    };
    let mut lines = vec![format!(
        "{}: {:?}{}, {} bytes, {} connections × {}, {kind}",
        scenario.name,
        scenario.protocol,
        if scenario.tls { " with TLS" } else { "" },
        scenario.size,
        scenario.connections,
        scenario.streams
    )];
    for name in names {
        lines.push(proxy(scenario, name, ours, records));
    }
    lines
}

fn proxy(scenario: &Scenario, peer: &str, ours: &str, records: &Records) -> String {
    let runs = records.of(scenario.name, peer);
    let figure = |figure: fn(&Record) -> f64| {
        records.median(scenario.name, peer, |record| Some(figure(record))).unwrap_or(f64::NAN)
    };
    let fold =
        |by: fn(f64, f64) -> f64| runs.iter().map(|run| run.cpu_us).reduce(by).unwrap_or(f64::NAN);
    let mut line = format!(
        "  {:<10} {:>9.0}/s {:>8.1} µs CPU ({:.1} to {:.1}) upstream {:>6.1} µs",
        peer,
        figure(|run| run.per_second),
        figure(|run| run.cpu_us),
        fold(f64::min),
        fold(f64::max),
        figure(|run| run.upstream_us),
    );
    let latency = |at: fn(crate::record::Latency) -> f64| {
        records.median(scenario.name, peer, |run| run.latency_us.map(at))
    };
    if let (Some(p50), Some(p99), Some(p999)) =
        (latency(|at| at.p50), latency(|at| at.p99), latency(|at| at.p999))
    {
        line += &format!("  p50 {p50:.0} p99 {p99:.0} p99.9 {p999:.0} µs");
    }
    if peer != DIRECT
        && peer != ours
        && let Some(ratio) =
            records.ratio(scenario.name, (ours, peer), |run| (run.good > 0).then_some(run.cpu_us))
    {
        let speed = records.ratio(scenario.name, (ours, peer), |run| Some(run.per_second));
        line += &format!("  {ours} ×{ratio:.2} CPU, ×{:.2} speed", speed.unwrap_or(f64::NAN));
    }
    // Counted over all runs: what was wrong is never set aside.
    let of = |record: &&Record| record.scenario == scenario.name && record.peer == peer;
    let bad: u64 = records.0.iter().filter(of).map(|record| record.bad).sum();
    if bad > 0 {
        let why = records.0.iter().filter(of).find_map(|record| record.complaint.as_deref());
        line += &format!("  {bad} WRONG: {}", why.unwrap_or("no complaint"));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{peer::Peer, record::tests::record, scenario};

    #[test]
    fn shows_ratios_and_what_was_wrong() {
        let mut records = Records::default();
        records.0.push(record(Peer::Weft, 0, 10.0, 5.0));
        let wrong = Record {
            bad: 3,
            complaint: Some("status 503".into()),
            ..record(Peer::Nginx, 0, 20.0, 5.0)
        };
        records.0.push(wrong);
        let scenario = scenario::find("h1_100").expect("a scenario");
        let lines = super::scenario(scenario, &["weft", "nginx"], "weft", &records);
        assert_eq!(lines.len(), 3);
        assert!(!lines[1].contains("WRONG"), "{}", lines[1]);
        assert!(lines[2].contains("weft ×0.50 CPU"), "{}", lines[2]);
        assert!(lines[2].contains("3 WRONG: status 503"), "{}", lines[2]);
    }
}
