//! `bench proxy`: Weft beside nginx, HAProxy and Envoy.

use std::{process::ExitCode, time::Duration};

use anyhow::Result;
use clap::Args;

use crate::{
    asked::{Asked, Chosen},
    gate, memory,
    peer::{self, Peer, install},
    record::{Journal, Records},
    report,
    rounds::{self, Extent},
    routes,
    scenario::{self, Scenario},
    stop,
    testbed::{Running, Testbed},
};

/// What is measured besides the scenarios.
const MEMORY: &str = "memory";
const ROUTES: &str = "routes";

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    asked: Asked,
    /// Only these beside Weft.
    #[arg(long, value_delimiter = ',', value_enum)]
    peers: Vec<Peer>,
}

fn choose(options: &Options) -> Result<Chosen<Scenario>> {
    options.asked.choose(scenario::ALL, &[(MEMORY, true), (ROUTES, true)])
}

/// The proxies in their order, which is that of the report.
fn peers(options: &Options) -> Vec<Peer> {
    let is_chosen = |peer: &Peer| {
        matches!(peer, Peer::Direct | Peer::Weft)
            || options.peers.is_empty()
            || options.peers.contains(peer)
    };
    Peer::ALL.into_iter().filter(is_chosen).collect()
}

/// Measures, prints, and judges.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    stop::watch()?;
    let chosen = choose(options)?;
    let peers = peers(options);
    let programs = install::programs(&peers, options.asked.weft()?.as_deref())?;
    for &peer in &peers {
        println!("{:<8} {}", peer.name(), peer::version(peer, &programs)?);
    }
    let (rounds, time) = options.asked.extent((3, 2), (5, 4));
    let extent = Extent { rounds, time, warm_up: Duration::from_secs(1) };
    let mut journal = Journal::open("proxy")?;
    let testbed = Testbed::new(programs)?;
    // What fails altogether is told at once, fails the run, and keeps nothing else from being measured.
    let mut failed = false;
    let mut memory = Vec::new();
    if chosen.has(MEMORY) {
        println!("\nmemory: idle, and with 1,000 kept-alive connections");
        for &peer in peers.iter().filter(|&&peer| peer != Peer::Direct) {
            match memory::measure(&testbed, peer) {
                Ok(line) => {
                    journal.keep(&line)?;
                    println!("{}", report::memory(&line));
                    memory.push(line);
                }
                Err(error) => {
                    stop::check()?;
                    println!("  {:<8} FAILED: {error:#}", peer.name());
                    failed = true;
                }
            }
        }
    }
    let mut routes = Vec::new();
    if chosen.has(ROUTES) {
        println!("\nroutes: one more at 5,000, under 1,000 requests/s");
        for &peer in peers.iter().filter(|&&peer| peer != Peer::Direct) {
            match routes::measure(&testbed, peer, None, extent.rounds) {
                Ok(line) => {
                    journal.keep(&line)?;
                    println!("{}", report::routes(&line));
                    routes.push(line);
                }
                Err(error) => {
                    stop::check()?;
                    println!("  {:<8} FAILED: {error:#}", peer.name());
                    failed = true;
                }
            }
        }
    }
    let records = scenarios(&testbed, &peers, &chosen, extent, &mut journal)?;
    drop(testbed);
    let found = gate::Found { records: &records, memory: &memory, routes: &routes };
    let gates = gate::all(&found);
    let whole = options.asked.is_whole() && options.peers.is_empty();
    let held = gate::judge(&gates, whole);
    println!("\nkept in {}", journal.path.display());
    Ok(if held && !failed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// All scenarios, on proxies that are started once for all of them.
fn scenarios(
    testbed: &Testbed,
    peers: &[Peer],
    chosen: &Chosen<Scenario>,
    extent: Extent,
    journal: &mut Journal,
) -> Result<Records> {
    if chosen.scenarios.is_empty() {
        return Ok(Records::default());
    }
    let mut running: Vec<Running> = Vec::with_capacity(peers.len());
    for &peer in peers {
        running.push(testbed.start(peer, testbed.site(peer, "load", 2)?)?);
    }
    rounds::all(testbed, &running, &chosen.scenarios, Peer::Weft.name(), extent, journal)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn options(line: &[&str]) -> Options {
        let words = std::iter::once("proxy").chain(line.iter().copied());
        Line::try_parse_from(words).expect("options").options
    }

    #[test]
    fn chooses_what_is_asked_for() {
        let all = choose(&options(&[])).expect("all");
        assert_eq!(all.scenarios.len(), scenario::ALL.len());
        let quick = choose(&options(&["--quick"])).expect("quick");
        assert!(
            quick.scenarios.len() < all.scenarios.len() && quick.has(MEMORY) && quick.has(ROUTES)
        );
        let few = choose(&options(&["--only", "grpc,routes"])).expect("few");
        assert!(few.scenarios.len() == 1 && few.has(ROUTES) && !few.has(MEMORY));
        assert!(choose(&options(&["--only", "h3"])).is_err());
        assert_eq!(peers(&options(&["--peers", "nginx"])), [Peer::Direct, Peer::Weft, Peer::Nginx]);
    }

    #[test]
    fn quick_judges_every_gate() {
        let quick = choose(&options(&["--quick"])).expect("quick");
        for name in ["h1_100", "h2_100", "grpc", "tls_h1", "fix_h1"] {
            assert!(quick.scenarios.iter().any(|scenario| scenario.name == name), "{name}");
        }
    }
}
