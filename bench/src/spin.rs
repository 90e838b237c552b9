//! Processors that stay awake.
//!
//! A virtual processor that idles wakes late, at the host's leisure, and what is then measured as
//! latency is its sleep. A process of the idle class per processor keeps it awake and takes nothing from
//! whoever wants to run.
//!
//! Where the kernel shares processors by session first, being idle counts within a session alone: in one
//! of its own a spinner would keep who wakes waiting for the next tick. So they stay in the session of the
//! servers and clients that are measured, which start none of their own.

use std::{
    io::Read,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::{Context, Result};

use crate::child::Child;

/// Spins until standard input ends, which it does when the parent is gone, however it went.
pub(crate) fn run() {
    static ENDED: AtomicBool = AtomicBool::new(false);
    let watcher = thread::spawn(|| {
        let mut rest = Vec::new();
        // Nothing is ever written; an error is an end as well.
        let _ = std::io::stdin().take(1).read_to_end(&mut rest);
        ENDED.store(true, Ordering::Relaxed);
    });
    while !ENDED.load(Ordering::Relaxed) {
        for _ in 0..10_000 {
            std::hint::spin_loop();
        }
    }
    let _ = watcher.join();
}

/// One spinner per processor; they end when these are dropped. None where `chrt` is missing, which is
/// said.
pub(crate) fn awake() -> Result<Vec<Child>> {
    let program = std::env::current_exe().context("find this program")?;
    let count = thread::available_parallelism().map_or(1, usize::from);
    let mut spinners = Vec::with_capacity(count);
    for core in 0..count {
        let mut command = Command::new("chrt");
        command.args(["--idle", "0", "taskset", "-c", &core.to_string()]);
        command.arg(&program).arg("spin").stdin(Stdio::piped()).stdout(Stdio::null());
        match Child::start("spin", &mut command) {
            Ok(child) => spinners.push(child),
            Err(error) => {
                println!("processors may sleep, and latencies are worse for it: {error:#}");
                break;
            }
        }
    }
    Ok(spinners)
}
