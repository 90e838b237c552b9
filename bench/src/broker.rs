//! `bench broker`: Weft beside RabbitMQ and NATS JetStream.

mod client;
mod disk;
mod endure;
mod flow;
mod gates;
mod message;
mod record;
mod report;
mod rounds;
mod scenario;
mod server;
mod socket;
mod target;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Result, bail};
use clap::Args;
use tempfile::TempDir;

use self::{
    disk::Disk,
    endure::Recovery,
    record::Records,
    rounds::{Size, Stand},
    scenario::Scenario,
    server::{Programs, Running},
    target::{Server, Target},
};
use crate::{
    gate::{self, Verdict},
    record::Journal,
    rig::raise_descriptors,
    spin, stop,
};

/// What is measured besides the scenarios.
const RECOVERY: &str = "recovery";
const IDLE: &str = "idle";

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only the main scenarios, with short runs.
    #[arg(long)]
    quick: bool,
    /// Only these: scenarios, `recovery`, `idle`.
    #[arg(long, value_delimiter = ',', value_name = "NAME,…")]
    only: Vec<String>,
    /// Rounds, in each of which every target has one run.
    #[arg(long)]
    rounds: Option<usize>,
    /// Seconds of one run.
    #[arg(long)]
    secs: Option<u64>,
    /// Only these.
    #[arg(long, value_delimiter = ',', value_enum)]
    targets: Vec<Target>,
    /// MiB of payload that are recovered.
    #[arg(long, default_value_t = 1024)]
    fill: u64,
    /// A Weft that is already built, instead of building it.
    #[arg(long)]
    weft: Option<PathBuf>,
}

/// What is asked for.
#[derive(Debug)]
struct Chosen {
    scenarios: Vec<&'static Scenario>,
    recovery: bool,
    idle: bool,
}

fn choose(options: &Options) -> Result<Chosen> {
    if options.only.is_empty() {
        let is_chosen = |scenario: &&Scenario| scenario.quick || !options.quick;
        let scenarios = scenario::ALL.iter().filter(is_chosen).collect();
        return Ok(Chosen { scenarios, recovery: !options.quick, idle: !options.quick });
    }
    let mut chosen = Chosen { scenarios: Vec::new(), recovery: false, idle: false };
    for name in &options.only {
        match (name.as_str(), scenario::find(name)) {
            (_, Some(scenario)) => chosen.scenarios.push(scenario),
            (RECOVERY, None) => chosen.recovery = true,
            (IDLE, None) => chosen.idle = true,
            (other, None) => {
                let names: Vec<&str> = scenario::ALL.iter().map(|known| known.name).collect();
                bail!("{other} is none of {}, {RECOVERY}, {IDLE}", names.join(", "));
            }
        }
    }
    Ok(chosen)
}

/// Targets in their order, which is that of the report.
fn targets(options: &Options) -> Vec<Target> {
    let is_chosen =
        |target: &Target| options.targets.is_empty() || options.targets.contains(target);
    Target::ALL.into_iter().filter(is_chosen).collect()
}

/// Measures, prints, and judges.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    stop::watch()?;
    raise_descriptors()?;
    let chosen = choose(options)?;
    let targets = targets(options);
    let is_used = |server: &Server| targets.iter().any(|target| target.server() == *server);
    let servers: Vec<Server> = Server::ALL.into_iter().filter(is_used).collect();
    let weft = options.weft.as_deref().map(std::path::absolute).transpose()?;
    let programs = Programs::get(&servers, weft.as_deref())?;
    for &server in &servers {
        println!("{:<12} {}", server.name(), programs.version(server)?);
    }
    let (rounds, secs) = if options.quick { (3, 2) } else { (5, 3) };
    let size = Size {
        rounds: options.rounds.unwrap_or(rounds).max(1),
        time: Duration::from_secs(options.secs.unwrap_or(secs).max(1)),
    };
    let mut journal = Journal::open("broker")?;
    let folder = tempfile::Builder::new().prefix("weft-bench-").tempdir()?;
    // Every acknowledgement waits for a disk, and a processor that sleeps meanwhile wakes late.
    let spinners = spin::awake()?;
    let records = scenarios(&programs, &targets, &servers, &chosen, size, &folder, &mut journal)?;
    let (recovered, failed) =
        endure(&programs, &targets, &chosen, options.fill, folder.path(), &mut journal)?;
    drop(spinners);
    let gates = gates::all(&records, &recovered);
    println!("\ngates");
    for line in gate::table(&gates) {
        println!("{line}");
    }
    println!("\nkept in {}", journal.path.display());
    let missed = gates.iter().any(|gate| gate.verdict() == Verdict::Miss);
    // Of a whole run, a gate that could not be judged is no success.
    let whole = options.only.is_empty() && options.targets.is_empty() && !options.quick;
    let unjudged = whole && gates.iter().any(|gate| gate.verdict() == Verdict::NotRun);
    // Peers that go wrong say that the measurement is.
    let wrong = records.bad(|_| true) > 0;
    Ok(if missed || unjudged || failed || wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// All scenarios, on servers that are started once for all of them.
fn scenarios(
    programs: &Programs,
    targets: &[Target],
    servers: &[Server],
    chosen: &Chosen,
    size: Size,
    folder: &TempDir,
    journal: &mut Journal,
) -> Result<Records> {
    let mut records = Records::default();
    if chosen.scenarios.is_empty() {
        return Ok(records);
    }
    let disk = Disk::new(folder.path())?;
    let mut running = Vec::with_capacity(servers.len());
    for &server in servers {
        running.push(Running::start(programs, server, folder.path().join(server.name()))?);
    }
    for &scenario in &chosen.scenarios {
        let fitting: Vec<Target> =
            targets.iter().copied().filter(|&target| scenario.fits(target)).collect();
        let stands: Vec<Stand<'_>> = fitting
            .iter()
            .flat_map(|&target| {
                let server = running.iter().find(|server| server.server == target.server())?;
                Some(Stand { target, server })
            })
            .collect();
        rounds::run(&stands, scenario, size, &disk, journal, &mut records)?;
        println!();
        for line in report::scenario(scenario, &fitting, &records) {
            println!("{line}");
        }
    }
    println!("\n{}", report::disk(&records));
    Ok(records)
}

/// Recovery and idling, each on a server of its own; whether any failed altogether.
fn endure(
    programs: &Programs,
    targets: &[Target],
    chosen: &Chosen,
    fill: u64,
    folder: &Path,
    journal: &mut Journal,
) -> Result<(Vec<Recovery>, bool)> {
    let mut failed = false;
    let mut fails = |target: Target, error: anyhow::Error| {
        println!("  {:<16} FAILED: {error:#}", target.name());
        failed = true;
        stop::check()
    };
    let mut recovered = Vec::new();
    // One way in is enough for each store.
    let stores = || targets.iter().copied().filter(|&target| target != Target::WeftHttp);
    if chosen.recovery {
        println!("\nrecovery: {fill} MiB in messages of 1 KiB, SIGKILL, start");
        for target in stores() {
            match endure::recovery(programs, target, folder, fill) {
                Ok(line) => {
                    journal.keep(&line)?;
                    println!("{}", report::recovery(&line));
                    recovered.push(line);
                }
                Err(error) => fails(target, error)?,
            }
        }
    }
    if chosen.idle {
        println!("\nidle: one queue, then 10,000");
        for target in stores().filter(|&target| target != Target::NatsAlways) {
            match endure::idle(programs, target, folder) {
                Ok(line) => {
                    journal.keep(&line)?;
                    println!("{}", report::idle(&line));
                }
                Err(error) => fails(target, error)?,
            }
        }
    }
    Ok((recovered, failed))
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
        let words = std::iter::once("broker").chain(line.iter().copied());
        Line::try_parse_from(words).expect("options").options
    }

    #[test]
    fn chooses_what_is_asked_for() {
        let all = choose(&options(&[])).expect("all");
        assert!(all.scenarios.len() == scenario::ALL.len() && all.recovery && all.idle);
        let quick = choose(&options(&["--quick"])).expect("quick");
        assert!(quick.scenarios.len() < all.scenarios.len() && !quick.recovery);
        let few = choose(&options(&["--only", "publish_64,idle"])).expect("few");
        assert!(few.scenarios.len() == 1 && few.idle && !few.recovery);
        assert!(choose(&options(&["--only", "publish_2"])).is_err());
        let some = options(&["--targets", "nats,weft-amqp"]);
        assert_eq!(targets(&some), [Target::WeftAmqp, Target::Nats]);
    }
}
