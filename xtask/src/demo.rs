//! `cargo xtask demo`: the shop's fleet with Weft in front, and a tour of what Weft does.
//!
//! Everything runs as real processes on free loopback ports. Each is ended by its own process id,
//! politely and then not, whichever way the tour ends.

mod edge;
mod fleet;
mod messages;
mod steps;
mod traffic;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::build;
use fleet::Fleet;

/// Set when somebody asks the tour to end.
#[derive(Clone, Debug, Default)]
struct Stop(Arc<AtomicBool>);

impl Stop {
    fn on_signals() -> Result<Self> {
        let stop = Self::default();
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&stop.0))?;
        }
        Ok(stop)
    }

    fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Asks again and again until it is so.
    fn wait_until(&self, patience: Duration, mut so: impl FnMut() -> bool) -> Result<Duration> {
        let began = Instant::now();
        loop {
            if self.asked() {
                bail!("interrupted");
            }
            if so() {
                return Ok(began.elapsed());
            }
            if began.elapsed() > patience {
                bail!("not so within {} s", patience.as_secs());
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// One stop of the tour: a line that says what Weft does, and the doing, which gives a line of how one
/// sees it.
struct Step {
    what: &'static str,
    run: fn(&mut Fleet) -> Result<String>,
}

/// The task.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let once = match arguments {
        [] => false,
        [flag] if flag == "--once" => true,
        other => bail!("unknown arguments {}: there is only --once", other.join(" ")),
    };
    visit(build::alone()?, once)
}

/// Starts the fleet of the binaries in a folder and tours it.
fn visit(binaries: PathBuf, once: bool) -> Result<()> {
    let stop = Stop::on_signals()?;
    let mut fleet = Fleet::start(binaries, stop.clone())?;
    let failed = tour(&mut fleet)?;
    if !once && !stop.asked() {
        println!("\n{}\nCtrl-C ends it.", fleet.where_to_look());
        while !stop.asked() {
            thread::sleep(Duration::from_millis(100));
        }
    }
    println!("ending the fleet");
    fleet.end();
    if failed > 0 {
        bail!(
            "{failed} of {} steps did not do what they should; logs are in target/tour",
            steps::TOUR.len()
        );
    }
    Ok(())
}

/// Starts the fleet with Weft in front, hands out where Weft takes requests, and ends the fleet.
pub(crate) fn with_fleet<T>(run: impl FnOnce(SocketAddr) -> Result<T>) -> Result<T> {
    let mut fleet = Fleet::start(build::with_tests()?, Stop::on_signals()?)?;
    let outcome = run(fleet.web());
    fleet.end();
    outcome
}

/// The tour as a suite of the tests: its line for the summary.
pub(crate) fn suite() -> Result<String> {
    visit(build::with_tests()?, true)?;
    Ok(format!(
        "{} of {} steps of the tour did what they should",
        steps::TOUR.len(),
        steps::TOUR.len()
    ))
}

/// Walks all steps, also after one that failed; gives how many did.
fn tour(fleet: &mut Fleet) -> Result<usize> {
    let mut failed = 0;
    for (at, step) in steps::TOUR.iter().enumerate() {
        println!("\n{:2} of {}  {}", at + 1, steps::TOUR.len(), step.what);
        let outcome = (step.run)(fleet);
        if fleet.stop().asked() {
            bail!("interrupted");
        }
        match outcome {
            Ok(seen) => println!("          {seen}"),
            Err(error) => {
                failed += 1;
                println!("          FAILED: {error:#}");
                // The next step begins with instances that are well.
                fleet.heal()?;
            }
        }
    }
    Ok(failed)
}
