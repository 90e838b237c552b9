//! `bench events`: streams of events, as a node and as a library, beside a table of events in PostgreSQL.

mod client;
mod flow;
mod gates;
mod report;
mod rounds;
mod scenario;
mod server;
mod target;

use std::{fs, os::unix::fs::PermissionsExt, process::ExitCode};

use anyhow::Result;
use clap::Args;

use self::{rounds::Size, scenario::Scenario, server::Programs, target::Target};
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

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    asked: Asked,
    /// Only these.
    #[arg(long, value_delimiter = ',', value_enum)]
    targets: Vec<Target>,
}

fn choose(options: &Options) -> Result<Chosen<Scenario>> {
    options.asked.choose(scenario::ALL, &[])
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
    let programs = Programs::get(&targets, options.asked.weft()?.as_deref())?;
    for &target in &targets {
        println!("{:<12} {}", target.name(), programs.version(target)?);
    }
    let (rounds, time) = options.asked.extent((3, 2), (5, 3));
    let size = Size { rounds, time };
    let mut journal = Journal::open("events")?;
    let mut records = Records::default();
    // Every append waits for a disk, and a processor that sleeps meanwhile wakes late.
    let spinners = spin::awake()?;
    for &scenario in &chosen.scenarios {
        // Of its own, so that gigabytes of one scenario are gone before the next. PostgreSQL's user walks through.
        let folder = tempfile::Builder::new()
            .prefix("weft-bench-")
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir()?;
        let disk = Disk::new(folder.path())?;
        let place = (&programs, folder.path());
        rounds::run(place, &targets, scenario, size, &disk, &mut journal, &mut records)?;
        println!();
        for line in report::scenario(scenario, &targets, &records) {
            println!("{line}");
        }
    }
    drop(spinners);
    println!("\n{}", report::disk(&records));
    let held =
        gate::judge(&gates::all(&records), options.asked.is_whole() && options.targets.is_empty());
    println!("\nkept in {}", journal.path.display());
    Ok(if held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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
        let words = std::iter::once("events").chain(line.iter().copied());
        Line::try_parse_from(words).expect("options").options
    }

    #[test]
    fn chooses_what_is_asked_for() {
        let names = |line: &[&str]| -> Vec<&str> {
            let chosen = choose(&options(line)).expect("chosen");
            chosen.scenarios.iter().map(|scenario| scenario.name).collect()
        };
        assert_eq!(names(&[]).len(), scenario::ALL.len());
        assert!(!names(&["--quick"]).contains(&"append_10m"));
        assert_eq!(names(&["--only", "catch_up"]), ["catch_up"]);
        assert!(choose(&options(&["--only", "append_2"])).is_err());
        let some = options(&["--targets", "postgres,weft-store"]);
        assert_eq!(targets(&some), [Target::WeftStore, Target::Postgres]);
    }
}
