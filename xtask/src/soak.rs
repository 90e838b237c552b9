//! `cargo xtask soak`: does each kind of operation again and again, and tells what each leaves behind.
//!
//! One Weft runs through all kinds twice. The first round fills what all kinds share and what has a
//! bound: caches, pools, what is remembered for a while. In the second, each kind is begun again, then
//! there are a rest, a first sample, the operations that count, a rest and a second sample; what grew in
//! between, by the operation, is the kind's slope. A slope above the kind's bound fails the task, unless
//! all that grew is within what samples vary by.

mod amqp;
mod kinds;
mod measure;
mod messages;
mod requests;
mod service;
mod testbed;

use std::{
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::build;
use kinds::{KINDS, Kind};
use measure::{Growth, Sample};
use testbed::Testbed;

/// How long all kinds take together when nothing is said.
const MINUTES: f64 = 20.0;
/// The parts of a kind's time that go to the first round, and to begin again in the second.
const WARM_UP: f64 = 0.4;
const BEGIN: f64 = 0.1;
/// The least that a kind gets besides its rests, so that there is a slope at all.
const ROUND_MIN: Duration = Duration::from_millis(500);

const HELP: &str = "\
cargo xtask soak [--minutes N] [--only WORD] [--release] [--weft BINARY]
  --minutes N      how long all kinds take together, 20 if nothing is said; hours find what minutes do not
  --only WORD      only the kinds whose name holds the word
  --release        build Weft as it is shipped; what is resident is then what users see
  --weft BINARY    soak this binary and build none";

#[derive(Debug, PartialEq)]
struct Options {
    minutes: f64,
    only: String,
    release: bool,
    binary: Option<PathBuf>,
}

/// The task.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let options = read(arguments)?;
    let kinds: Vec<&Kind> = KINDS.iter().filter(|kind| kind.name.contains(&options.only)).collect();
    if kinds.is_empty() {
        bail!("no kind has `{}` in its name", options.only);
    }
    let binary = match options.binary {
        Some(binary) => binary,
        None => build::weft(options.release)?,
    };
    let mut testbed = Testbed::start(&binary)?;
    let round = share(options.minutes, &kinds);
    println!("each of {} kinds for {:.1} s besides its rests\n", kinds.len(), round.as_secs_f64());
    for kind in &kinds {
        warm_up(&mut testbed, kind, round)
            .with_context(|| format!("{}: {}", kind.name, testbed.last_words()))?;
    }
    println!("{}", Growth::HEAD);
    let mut over = Vec::new();
    for kind in &kinds {
        let growth = soak(&mut testbed, kind, round)
            .with_context(|| format!("{}: {}", kind.name, testbed.last_words()))?;
        let found = growth.over(&kind.bound);
        println!("{}", growth.line(kind.name, &found));
        over.extend(found.into_iter().map(|what| format!("{}: {what}", kind.name)));
    }
    testbed.end();
    if !over.is_empty() {
        bail!("{} slopes are above their bounds:\n  {}", over.len(), over.join("\n  "));
    }
    println!("\n{} kinds of operation leave nothing behind", kinds.len());
    Ok(())
}

fn read(arguments: &[String]) -> Result<Options> {
    let mut options =
        Options { minutes: MINUTES, only: String::new(), release: false, binary: None };
    let mut rest = arguments.iter();
    while let Some(flag) = rest.next() {
        let mut value = || rest.next().with_context(|| format!("{flag} needs a value\n{HELP}"));
        match flag.as_str() {
            "--release" => options.release = true,
            "--only" => value()?.clone_into(&mut options.only),
            "--weft" => options.binary = Some(value()?.into()),
            "--minutes" => {
                let minutes: f64 = value()?.parse().context("--minutes takes a number")?;
                if !(minutes.is_finite() && minutes > 0.0 && minutes <= 100_000.0) {
                    bail!("--minutes takes a number above 0 and up to 100000");
                }
                options.minutes = minutes;
            }
            other => bail!("unknown argument {other}\n{HELP}"),
        }
    }
    Ok(options)
}

/// What each kind gets of the time, besides its rests.
fn share(minutes: f64, kinds: &[&Kind]) -> Duration {
    let rests: Duration = kinds.iter().map(|kind| kind.rest * 2).sum();
    let all = Duration::from_secs_f64(minutes * 60.0);
    let each = all.saturating_sub(rests).div_f64(kinds.len() as f64);
    each.max(ROUND_MIN)
}

fn warm_up(testbed: &mut Testbed, kind: &Kind, round: Duration) -> Result<()> {
    repeat(testbed, kind, round.mul_f64(WARM_UP))?;
    testbed.disconnect();
    Ok(())
}

fn soak(testbed: &mut Testbed, kind: &Kind, round: Duration) -> Result<Growth> {
    repeat(testbed, kind, round.mul_f64(BEGIN))?;
    let before = sample(testbed, kind)?;
    let operations = repeat(testbed, kind, round.mul_f64(1.0 - WARM_UP - BEGIN))?;
    let after = sample(testbed, kind)?;
    Ok(Growth { operations, before, after })
}

/// Does it until the time is over, and at least once; how often it was.
fn repeat(testbed: &mut Testbed, kind: &Kind, time: Duration) -> Result<u64> {
    let until = Instant::now() + time;
    let mut done = 0;
    loop {
        testbed.goes_on()?;
        (kind.run)(testbed).with_context(|| format!("operation {done}"))?;
        done += 1;
        if Instant::now() >= until {
            return Ok(done);
        }
    }
}

/// With every connection of ours closed, and after the time that Weft may take to tidy up.
fn sample(testbed: &mut Testbed, kind: &Kind) -> Result<Sample> {
    testbed.disconnect();
    // What the ledger holds of the log until its next checkpoint has a bound, but one of many minutes.
    testbed.checkpoint()?;
    let until = Instant::now() + kind.rest;
    while Instant::now() < until {
        testbed.goes_on()?;
        thread::sleep(Duration::from_millis(50));
    }
    testbed.sample()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn arguments_are_read_or_refused() {
        let options = read(&words("--minutes 0.5 --only amqp --weft /x/weft --release")).unwrap();
        let expect = Options {
            minutes: 0.5,
            only: "amqp".into(),
            release: true,
            binary: Some("/x/weft".into()),
        };
        assert_eq!(options, expect);
        for line in ["--minutes", "--minutes x", "--minutes 0", "--minutes NaN", "--hours 1"] {
            assert!(read(&words(line)).is_err(), "{line}");
        }
    }

    #[test]
    fn the_time_is_shared_out_after_the_rests() {
        let kinds: Vec<&Kind> = KINDS.iter().collect();
        let rests: Duration = kinds.iter().map(|kind| kind.rest * 2).sum();
        let spent = share(600.0, &kinds) * u32::try_from(kinds.len()).unwrap() + rests;
        assert!(spent.abs_diff(Duration::from_secs(36_000)) < Duration::from_millis(1));
        assert_eq!(share(0.001, &kinds), ROUND_MIN);
    }

    #[test]
    fn each_kind_has_a_name_of_its_own() {
        let mut names: Vec<_> = KINDS.iter().map(|kind| kind.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), KINDS.len());
    }
}
