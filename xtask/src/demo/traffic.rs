//! Callers that ask without pause, and count what they get.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::http::Client;

const CALLERS: usize = 4;
/// A pause after each answer: the tour shows behaviour, not speed.
const PAUSE: Duration = Duration::from_millis(1);
const FAILURES_SHOWN: usize = 5;

/// What the callers got so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) answers: u64,
    pub(super) by_instance: BTreeMap<String, u64>,
    pub(super) failed: u64,
    /// The first few failures, in words.
    pub(super) failures: Vec<String>,
}

impl Tally {
    /// How many answers an instance gave.
    pub(super) fn of(&self, instance: &str) -> u64 {
        self.by_instance.get(instance).copied().unwrap_or(0)
    }

    /// What was counted after an earlier tally.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        let by_instance =
            self.by_instance.iter().map(|(name, count)| (name.clone(), count - earlier.of(name)));
        Self {
            answers: self.answers - earlier.answers,
            by_instance: by_instance.filter(|(_, count)| *count > 0).collect(),
            failed: self.failed - earlier.failed,
            failures: self.failures.clone(),
        }
    }

    /// The answers by instance, in words.
    pub(super) fn shares(&self) -> String {
        let shares: Vec<String> =
            self.by_instance.iter().map(|(name, count)| format!("{name} {count}")).collect();
        shares.join(", ")
    }

    fn failed(&mut self, what: String) {
        self.failed += 1;
        if self.failures.len() < FAILURES_SHOWN {
            self.failures.push(what);
        }
    }
}

/// Callers at work.
#[derive(Debug)]
pub(super) struct Traffic {
    tally: Arc<Mutex<Tally>>,
    stop: Arc<AtomicBool>,
    callers: Vec<JoinHandle<()>>,
}

impl Traffic {
    /// Starts callers that all GET one path.
    pub(super) fn start(to: SocketAddr, path: &'static str) -> Self {
        let tally = Arc::new(Mutex::new(Tally::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let callers = (0..CALLERS)
            .map(|_| {
                let (tally, stop) = (Arc::clone(&tally), Arc::clone(&stop));
                thread::spawn(move || call(to, path, &tally, &stop))
            })
            .collect();
        Self { tally, stop, callers }
    }

    /// What they got so far.
    pub(super) fn tally(&self) -> Tally {
        locked(&self.tally).clone()
    }

    /// Ends the callers and gives what they got.
    pub(super) fn end(mut self) -> Tally {
        self.halt();
        self.tally()
    }

    fn halt(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for caller in self.callers.drain(..) {
            // A caller that panicked shows on its own.
            let _ = caller.join();
        }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.halt();
    }
}

fn locked(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

fn call(to: SocketAddr, path: &str, tally: &Mutex<Tally>, stop: &AtomicBool) {
    let mut client = Client::new(to);
    while !stop.load(Ordering::Relaxed) {
        let got = client.get(path);
        let mut tally = locked(tally);
        tally.answers += 1;
        match got {
            Ok(answer) if answer.status == 200 => {
                *tally.by_instance.entry(answer.instance().to_owned()).or_default() += 1;
            }
            Ok(answer) => tally.failed(format!("{}: {}", answer.status, answer.body.trim())),
            Err(error) => {
                tally.failed(error.to_string());
                client = Client::new(to);
            }
        }
        drop(tally);
        thread::sleep(PAUSE);
    }
}
