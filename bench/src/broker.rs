//! `bench broker`: Weft beside RabbitMQ and NATS JetStream.

mod client;
mod endure;
mod flow;
mod gates;
mod report;
mod rounds;
mod scenario;
mod server;
mod socket;
mod target;

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use clap::Args;
use tempfile::TempDir;

use self::{
    endure::Endured,
    rounds::{Size, Stand},
    scenario::Scenario,
    server::{Programs, Running},
    target::{Server, Target},
};
use crate::{
    asked::{Asked, Chosen},
    disk::Disk,
    gate,
    record::{
        Journal,
        durable::{Records, Target as _},
    },
    spin, stop,
    testbed::raise_descriptors,
};

/// What is measured besides the scenarios.
const RECOVERY: &str = "recovery";
const IDLE: &str = "idle";

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    asked: Asked,
    /// Only these.
    #[arg(long, value_delimiter = ',', value_enum)]
    targets: Vec<Target>,
    /// MiB of payload that are recovered.
    #[arg(long, default_value_t = 1024)]
    fill: u64,
}

fn choose(options: &Options) -> Result<Chosen<Scenario>> {
    options.asked.choose(scenario::ALL, &[(RECOVERY, false), (IDLE, false)])
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
    let programs = Programs::get(&servers, options.asked.weft()?.as_deref())?;
    for &server in &servers {
        println!("{:<12} {}", server.name(), programs.version(server)?);
    }
    let (rounds, time) = options.asked.extent((3, 2), (5, 3));
    let size = Size { rounds, time };
    let mut journal = Journal::open("broker")?;
    let folder = tempfile::Builder::new().prefix("weft-bench-").tempdir()?;
    // Every acknowledgement waits for a disk, and a processor that sleeps meanwhile wakes late.
    let spinners = spin::awake()?;
    let records = scenarios(&programs, &targets, &servers, &chosen, size, &folder, &mut journal)?;
    let (endured, failed) =
        endure(&programs, &targets, &chosen, options.fill, folder.path(), &mut journal)?;
    drop(spinners);
    let gates = gates::all(&records, &endured);
    let held = gate::judge(&gates, options.asked.is_whole() && options.targets.is_empty());
    println!("\nkept in {}", journal.path.display());
    // Peers that go wrong say that the measurement is.
    let wrong = records.bad(|_| true) > 0;
    Ok(if held && !failed && !wrong { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// All scenarios, on servers that are started once for all of them.
fn scenarios(
    programs: &Programs,
    targets: &[Target],
    servers: &[Server],
    chosen: &Chosen<Scenario>,
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
    chosen: &Chosen<Scenario>,
    fill: u64,
    folder: &Path,
    journal: &mut Journal,
) -> Result<(Endured, bool)> {
    let mut failed = false;
    let mut fails = |target: Target, error: anyhow::Error| {
        println!("  {:<16} FAILED: {error:#}", target.name());
        failed = true;
        stop::check()
    };
    let mut endured = Endured::default();
    // One way in is enough for each store.
    let stores = || targets.iter().copied().filter(|&target| target != Target::WeftHttp);
    if chosen.has(RECOVERY) {
        println!("\nrecovery: {fill} MiB in messages of 1 KiB, SIGKILL, start");
        for target in stores() {
            match endure::recovery(programs, target, folder, fill) {
                Ok(line) => {
                    journal.keep(&line)?;
                    println!("{}", report::recovery(&line));
                    endured.recovered.push(line);
                }
                Err(error) => fails(target, error)?,
            }
        }
    }
    if chosen.has(IDLE) {
        println!("\nidle: one queue, then 10,000");
        for target in stores().filter(|&target| target != Target::NatsAlways) {
            match endure::idle(programs, target, folder) {
                Ok(line) => {
                    journal.keep(&line)?;
                    println!("{}", report::idle(&line));
                    endured.idled.push(line);
                }
                Err(error) => fails(target, error)?,
            }
        }
    }
    Ok((endured, failed))
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
        assert!(all.scenarios.len() == scenario::ALL.len() && all.has(RECOVERY) && all.has(IDLE));
        let quick = choose(&options(&["--quick"])).expect("quick");
        assert!(quick.scenarios.len() < all.scenarios.len() && !quick.has(RECOVERY));
        let few = choose(&options(&["--only", "publish_64,idle"])).expect("few");
        assert!(few.scenarios.len() == 1 && few.has(IDLE) && !few.has(RECOVERY));
        assert!(choose(&options(&["--only", "publish_2"])).is_err());
        let some = options(&["--targets", "nats,weft-amqp"]);
        assert_eq!(targets(&some), [Target::WeftAmqp, Target::Nats]);
    }
}
