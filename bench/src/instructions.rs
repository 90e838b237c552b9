//! `bench instructions`: how many user instructions Weft takes per request, which no neighbour on the
//! machine can disturb, so that a change of a few percent is seen in every change.
//!
//! Two runs under callgrind with one worker, of 1,000 and of 3,000 requests; what they differ by is that
//! of 2,000 requests, without start, connections and end.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use rustix::process::Signal;

use crate::{
    edge::{self, Edge},
    load::{Asked, Driver, Pace},
    peer::{Peer, Programs, install},
    scenario::{self, Scenario},
    stop,
    testbed::Testbed,
};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Takes what is found as what is committed.
    #[arg(long)]
    bless: bool,
    /// A Weft that is already built, instead of building it.
    #[arg(long)]
    weft: Option<PathBuf>,
}

const FEW: u64 = 1_000;
const MANY: u64 = 3_000;
/// How far a figure may be from what is committed: above is a regression, below a gain to commit.
const TOLERANCE: f64 = 0.03;
/// Name, scenario, whether the policies of the edge are on, connections, requests in flight on each: few, so that a
/// slow server is not flooded.
const COUNTED: &[(&str, &str, bool, usize, usize)] = &[
    ("h1_100", "h1_100", false, 8, 1),
    ("h1_100 edge", "h1_100", true, 8, 1),
    ("h2_100", "h2_100", false, 4, 8),
    ("h2_100 edge", "h2_100", true, 4, 8),
    ("grpc", "grpc", false, 4, 8),
];
/// How long Weft may take to end under valgrind.
const END: Duration = Duration::from_secs(60);

/// Scenario → instructions per request.
type Counts = BTreeMap<String, u64>;

/// Counts, compares, and judges.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    stop::watch()?;
    if !install::runs("valgrind", "--version") {
        install::apt(&["valgrind"])?;
    }
    let weft = match &options.weft {
        Some(path) => std::path::absolute(path)?,
        None => install::built()?,
    };
    let mut testbed = Testbed::new(Programs { weft, envoy: PathBuf::new() })?;
    let (edge, tokens) = edge::prepare()?;
    let committed_at = Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.json");
    let committed = read(&committed_at)?;
    let mut found = Counts::new();
    let mut good = true;
    for &(name, scenario, is_edge, connections, streams) in COUNTED {
        let Some(scenario) = scenario::find(scenario) else { bail!("no scenario {scenario}") };
        let scenario = Scenario { connections, streams, ..*scenario };
        let edge = is_edge.then_some(&edge);
        testbed.tokens = if is_edge { tokens.clone() } else { Vec::new() };
        let few = count(&testbed, &scenario, edge, FEW)?;
        let many = count(&testbed, &scenario, edge, MANY)?;
        let each = many.saturating_sub(few) / (MANY - FEW);
        let verdict = judge(each, committed.get(name).copied());
        println!("{name:<12} {each:>8} user instructions per request  {}", verdict.0);
        good &= verdict.1;
        found.insert(name.to_owned(), each);
    }
    if options.bless {
        fs::write(&committed_at, format!("{}\n", serde_json::to_string_pretty(&found)?))?;
        println!("written to {}", committed_at.display());
        return Ok(ExitCode::SUCCESS);
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn read(path: &Path) -> Result<Counts> {
    match fs::read_to_string(path) {
        Ok(text) => serde_json::from_str(&text).with_context(|| path.display().to_string()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Counts::new()),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

/// What is said of a figure, and whether it holds.
fn judge(found: u64, committed: Option<u64>) -> (String, bool) {
    let Some(committed) = committed.filter(|&committed| committed > 0) else {
        return ("nothing is committed; --bless does".into(), false);
    };
    let change = found as f64 / committed as f64 - 1.0;
    let shown = format!("{committed} committed, {:+.1} %", change * 100.0);
    if change > TOLERANCE {
        (format!("{shown}: MISS"), false)
    } else if change < -TOLERANCE {
        (format!("{shown}: better; keep it by --bless"), false)
    } else {
        (format!("{shown}: ok"), true)
    }
}

/// The instructions of a whole life of Weft with so many requests in it.
fn count(
    testbed: &Testbed,
    scenario: &Scenario,
    edge: Option<&Edge>,
    requests: u64,
) -> Result<u64> {
    let kind = if edge.is_some() { "edge" } else { "bare" };
    let name = format!("count-{}-{kind}-{requests}", scenario.name);
    let mut site = testbed.site(Peer::Weft, &name, 1)?;
    site.edge = edge.cloned();
    let out = site.folder.join("callgrind");
    let under = |command: Command| {
        let mut valgrind = Command::new("valgrind");
        valgrind.args(["--quiet", "--tool=callgrind"]);
        valgrind.arg(format!("--callgrind-out-file={}", out.display()));
        valgrind.arg(command.get_program()).args(command.get_args());
        valgrind
    };
    let mut running = testbed.start_with(Peer::Weft, site, under)?;
    let to = running.address(scenario);
    let path = scenario.path();
    let asked = Asked { path: &path, tokens: &testbed.tokens };
    let mut driver = Driver::connect(scenario, asked, to, &testbed.trust)?;
    let outcome = driver.run(Pace::Count(requests))?;
    drop(driver);
    if outcome.bad > 0 || outcome.good != requests {
        bail!(
            "{}: {} of {requests} were good: {}",
            scenario.name,
            outcome.good,
            outcome.complaint.unwrap_or_default()
        );
    }
    let child = running.child.as_mut().context("weft runs")?;
    child.signal(Signal::TERM)?;
    child.wait(END)?;
    let text = fs::read_to_string(&out).context("callgrind wrote nothing")?;
    total(&text).context("callgrind's file has no total")
}

/// The count of a whole callgrind file.
fn total(text: &str) -> Option<u64> {
    let lines = text
        .lines()
        .filter_map(|line| line.strip_prefix("totals:").or_else(|| line.strip_prefix("summary:")));
    lines.filter_map(|rest| rest.split_whitespace().next()?.parse().ok()).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_figures_to_what_is_committed() {
        for (found, committed, holds) in [
            (1_000, Some(1_000), true),
            (1_029, Some(1_000), true),
            (1_031, Some(1_000), false),
            (969, Some(1_000), false),
            (1_000, None, false),
            (1_000, Some(0), false),
        ] {
            assert_eq!(judge(found, committed).1, holds, "{found} {committed:?}");
        }
    }

    #[test]
    fn reads_the_total() {
        assert_eq!(total("events: Ir\nsummary: 12\nfn=(1)\n16 3\ntotals: 12\n"), Some(12));
        assert_eq!(total("events: Ir\n"), None);
    }

    #[test]
    fn what_is_committed_is_read() {
        let at = Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.json");
        let counts = read(&at).expect("a table of counts");
        assert!(counts.keys().all(|name| COUNTED.iter().any(|(counted, ..)| counted == name)));
    }
}
