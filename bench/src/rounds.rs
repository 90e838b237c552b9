//! Rounds in which every proxy has its turn, and the next in reverse (A B B A), so that what drifts on the
//! machine falls on all alike.

use std::time::Duration;

use anyhow::Result;

use crate::{
    latency::quantile,
    load::{Asked, Driver, Outcome, Pace},
    record::{self, Journal, Latency, Record, Records},
    report,
    scenario::Scenario,
    spin, stop,
    testbed::{Running, Testbed},
};

/// How much of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    pub(crate) rounds: usize,
    pub(crate) time: Duration,
    pub(crate) warm_up: Duration,
}

/// Runs scenarios on all of them, and prints each with the ratios of ours to the others.
pub(crate) fn all(
    testbed: &Testbed,
    running: &[Running],
    scenarios: &[&'static Scenario],
    ours: &str,
    extent: Extent,
    journal: &mut Journal,
) -> Result<Records> {
    let mut records = Records::default();
    let names: Vec<&str> = running.iter().map(Running::name).collect();
    for &scenario in scenarios {
        // At a fixed rate processors idle in between, and what would be measured is how they wake.
        let spinners = if scenario.rate.is_some() { spin::awake()? } else { Vec::new() };
        run(testbed, running, scenario, extent, journal, &mut records)?;
        drop(spinners);
        println!();
        for line in report::scenario(scenario, &names, ours, &records) {
            println!("{line}");
        }
    }
    Ok(records)
}

/// Runs a scenario on all of them.
fn run(
    testbed: &Testbed,
    running: &[Running],
    scenario: &'static Scenario,
    extent: Extent,
    journal: &mut Journal,
    records: &mut Records,
) -> Result<()> {
    for proxy in running {
        // What fails here fails below as well, where it is told.
        let _ = drive(testbed, proxy, scenario, extent.warm_up);
        stop::check()?;
    }
    for round in 0..extent.rounds {
        let forth = running.iter();
        let turns: Vec<&Running> =
            if round % 2 == 0 { forth.collect() } else { forth.rev().collect() };
        for proxy in turns {
            let record = measure(testbed, proxy, scenario, round, extent.time);
            stop::check()?;
            journal.keep(&record)?;
            records.0.push(record);
        }
    }
    Ok(())
}

/// What was spent on an outcome.
struct Spent {
    outcome: Outcome,
    proxy: Duration,
    upstream: Duration,
}

fn drive(testbed: &Testbed, proxy: &Running, scenario: &Scenario, time: Duration) -> Result<Spent> {
    let to = proxy.address(scenario);
    let asked = Asked { path: &scenario.path(), tokens: &testbed.tokens };
    let mut driver = Driver::connect(scenario, asked, to, &testbed.trust)?;
    let pace = match scenario.rate {
        None => Pace::Closed(time),
        Some(rate) => Pace::Open { rate, time },
    };
    let before = (proxy.cpu(), testbed.upstream.cpu());
    let outcome = driver.run(pace)?;
    let after = (proxy.cpu(), testbed.upstream.cpu());
    Ok(Spent {
        outcome,
        proxy: after.0.saturating_sub(before.0),
        upstream: after.1.saturating_sub(before.1),
    })
}

/// A run that fails altogether is a record like any other: of one bad response.
fn measure(
    testbed: &Testbed,
    proxy: &Running,
    scenario: &'static Scenario,
    round: usize,
    time: Duration,
) -> Record {
    let spent = drive(testbed, proxy, scenario, time).unwrap_or_else(|error| Spent {
        outcome: Outcome { bad: 1, complaint: Some(format!("{error:#}")), ..Outcome::default() },
        proxy: Duration::ZERO,
        upstream: Duration::ZERO,
    });
    let Spent { outcome, proxy: cpu, upstream } = spent;
    let each = |time: Duration| time.as_secs_f64() * 1e6 / outcome.good.max(1) as f64;
    let at = |share| quantile(&outcome.latencies, share).map(|time| time.as_secs_f64() * 1e6);
    let latency_us = match (at(0.5), at(0.99), at(0.999)) {
        (Some(p50), Some(p99), Some(p999)) => Some(Latency { p50, p99, p999 }),
        _ => None,
    };
    Record {
        at: record::now(),
        scenario: scenario.name,
        peer: proxy.name(),
        round,
        good: outcome.good,
        bad: outcome.bad,
        per_second: outcome.good as f64 / outcome.time.as_secs_f64().max(1e-9),
        cpu_us: each(cpu),
        upstream_us: each(upstream),
        latency_us,
        complaint: outcome.complaint,
    }
}
