//! `bench edge`: what it costs to ask who calls and how often: Weft with and without, beside Envoy.
//!
//! Everybody is shown the same tokens, also who does not look at them, so that what is compared is the work
//! of the policies alone. With them, a token is verified (what came of it is remembered), its consumer is
//! told to the service, and a limit that nobody gets to is kept for each consumer.

mod token;

use std::{process::ExitCode, time::Duration};

use anyhow::Result;
use clap::Args;

use self::token::Issuer;
pub(crate) use self::token::{AUDIENCE, ISSUER};
use crate::{
    asked::{Asked, Chosen},
    gate::{self, Gate},
    peer::{Peer, install},
    record::{Journal, Record, Records},
    report, rounds,
    rounds::Extent,
    routes::{self, Routes},
    scenario::{self, Scenario},
    stop,
    testbed::{Running, Testbed},
};

/// What is measured besides the scenarios.
const ROUTES: &str = "routes";
/// The scenarios.
const SCENARIOS: [&str; 2] = ["h1_100", "h2_100"];
/// Consumers that are known.
const CONSUMERS: usize = 10_000;
/// Consumers that call; each connection is one of theirs.
const CALLERS: usize = 32;
/// Requests a second that a consumer may make.
pub(crate) const RATE: u32 = 1_000_000;
/// The field in which the service is told the consumer.
pub(crate) const CONSUMER: &str = "x-consumer-username";

/// Most that the policies may cost, in microseconds of a processor and as a share of the whole.
const ADDED_US: f64 = 2.0;
const ADDED_SHARE: f64 = 1.25;
/// Most of Envoy's cost with the same policies.
const ENVOY_SHARE: f64 = 0.3;
const ROUTE_MS: f64 = 30.0;

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    asked: Asked,
}

/// What is asked of every request.
#[derive(Clone, Debug)]
pub(crate) struct Edge {
    /// The keys of the issuer.
    pub(crate) jwks: String,
    /// How many consumers are known.
    pub(crate) consumers: usize,
}

/// The name of a consumer, and the subject of its tokens.
pub(crate) fn consumer(number: usize) -> String {
    format!("c{number:05}")
}

/// What is asked of every request, and the tokens of those that call.
pub(crate) fn prepare() -> Result<(Edge, Vec<String>)> {
    let issuer = Issuer::new()?;
    let tokens = (0..CALLERS).map(|number| issuer.token(&consumer(number)));
    let tokens = tokens.collect::<Result<_>>()?;
    Ok((Edge { jwks: issuer.jwks()?, consumers: CONSUMERS }, tokens))
}

/// Measures, prints, and judges.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    stop::watch()?;
    let all = SCENARIOS.into_iter().filter_map(scenario::find);
    let chosen: Chosen<Scenario> = options.asked.choose(all, &[(ROUTES, true)])?;
    let programs = install::programs(&[Peer::Weft, Peer::Envoy], options.asked.weft()?.as_deref())?;
    let (rounds, time) = options.asked.extent((5, 2), (9, 4));
    let extent = Extent { rounds, time, warm_up: Duration::from_secs(1) };
    let mut journal = Journal::open("edge")?;
    let mut testbed = Testbed::new(programs)?;
    let (edge, tokens) = prepare()?;
    testbed.tokens = tokens;

    let mut added = None;
    if chosen.has(ROUTES) {
        println!("one more route at 5,000 with {CONSUMERS} consumers, under 1,000 requests/s");
        let line = routes::measure(&testbed, Peer::Weft, Some(&edge), extent.rounds)?;
        journal.keep(&line)?;
        println!("{}", report::routes(&line));
        added = Some(line);
    }
    let records = scenarios(&testbed, &edge, &chosen, extent, &mut journal)?;
    drop(testbed);
    let held = gate::judge(&gates(&records, added.as_ref()), options.asked.is_whole());
    println!("\nkept in {}", journal.path.display());
    Ok(if held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// All scenarios, on each of them with and without.
fn scenarios(
    testbed: &Testbed,
    edge: &Edge,
    chosen: &Chosen<Scenario>,
    extent: Extent,
    journal: &mut Journal,
) -> Result<Records> {
    if chosen.scenarios.is_empty() {
        return Ok(Records::default());
    }
    let mut running: Vec<Running> = Vec::new();
    for peer in [Peer::Weft, Peer::Envoy] {
        for edge in [None, Some(edge)] {
            let name = if edge.is_some() { "edge" } else { "bare" };
            let mut site = testbed.site(peer, name, 2)?;
            site.edge = edge.cloned();
            running.push(testbed.start(peer, site)?);
        }
    }
    rounds::all(testbed, &running, &chosen.scenarios, OURS, extent, journal)
}

/// Weft with the policies, without them, and Envoy with the same.
const OURS: &str = "weft edge";
const BARE: &str = "weft";
const ENVOY: &str = "envoy edge";

fn gates(records: &Records, added: Option<&Routes>) -> Vec<Gate> {
    let cpu = |record: &Record| (record.good > 0).then_some(record.cpu_us);
    let mut gates = Vec::new();
    for scenario in SCENARIOS {
        let mut gate = |what: &str, found, bound, unit| {
            gates.push(Gate { what: format!("{scenario}: {what}"), found, bound, unit });
        };
        let more =
            records.compare(scenario, (OURS, BARE), cpu, |with, without| Some(with - without));
        gate("CPU that the policies add", more, ADDED_US, "µs");
        gate("CPU with to without", records.ratio(scenario, (OURS, BARE), cpu), ADDED_SHARE, "x");
        let to_envoy = records.ratio(scenario, (OURS, ENVOY), cpu);
        gate("CPU to envoy with the same", to_envoy, ENVOY_SHARE, "x");
    }
    let mut gate = |what: &str, found, bound, unit| {
        gates.push(Gate { what: what.into(), found, bound, unit });
    };
    gate("one more route at 5,000", added.map(|line| line.added_ms), ROUTE_MS, "ms");
    gate("requests failed meanwhile", added.map(|line| line.failed as f64), 0.0, "");
    let wrong = (!records.0.is_empty()).then(|| (records.bad(OURS) + records.bad(BARE)) as f64);
    gate("wrong responses in all runs", wrong, 0.0, "");
    gates
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::record;

    #[test]
    fn what_the_policies_cost_is_judged_round_by_round() {
        let mut records = Records::default();
        for (peer, cpu_us) in [(BARE, 10.0), (OURS, 12.5), (ENVOY, 50.0)] {
            records.0.push(Record { peer, ..record(Peer::Weft, 0, cpu_us, 5.0) });
        }
        let gates = gates(&records, None);
        let found = |what: &str| gates.iter().find(|gate| gate.what.contains(what)).unwrap().found;
        assert_eq!(found("h1_100: CPU that"), Some(2.5));
        assert_eq!(found("h1_100: CPU with to"), Some(1.25));
        assert_eq!(found("h1_100: CPU to envoy"), Some(0.25));
        assert_eq!(found("h2_100: CPU to envoy"), None);
        assert_eq!(found("one more route"), None);
    }

    #[test]
    fn tokens_have_three_parts_and_keys_a_name() {
        let issuer = Issuer::new().unwrap();
        assert_eq!(issuer.token("c00001").unwrap().split('.').count(), 3);
        assert!(issuer.jwks().unwrap().contains("bench-1"));
    }
}
