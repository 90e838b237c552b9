//! The bound on a termination: a process that was told to end ends, whatever hangs in it.
//!
//! A thread of its own waits for the signal, so that neither a control runtime that is held up nor a
//! disk that never answers can keep the process. What was acknowledged is on the disk already.

use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

/// How long after the drain the rest may take: closing the ledger, mostly.
const GRACE: Duration = Duration::from_secs(15);

/// Ends the process with status 1 when it is still there fifteen seconds after SIGTERM or SIGINT and `drain`.
pub fn bound(drain: Duration) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime of the termination could not be started")?;
    let (mut terminate, mut interrupt) = {
        let _inside = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    let run = move || {
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tokio::time::sleep(drain.saturating_add(GRACE)).await;
        });
        tracing::error!(after = ?drain.saturating_add(GRACE), "something hangs: the process is ended");
        std::process::exit(1);
    };
    std::thread::Builder::new().name("termination".to_owned()).spawn(run)?;
    Ok(())
}
