//! The bound on a termination: a process that was told to end ends, whatever hangs in it.
//!
//! A thread of its own waits for the signal, so that neither a control runtime that is held up nor a
//! disk that never answers can keep the process. What was acknowledged is on the disk already. A node that
//! is not up yet has nothing to drain, and ends at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

/// How long after the drain the rest may take: closing the ledger, mostly.
const GRACE: Duration = Duration::from_secs(15);

/// Tells the termination that the node is up, and ends by itself from then on.
#[derive(Clone, Debug)]
pub struct Start(Arc<AtomicBool>);

impl Start {
    /// Notes that it is. Whoever drains the node must hear of signals by then.
    pub fn is_over(&self) {
        self.0.store(true, SeqCst);
    }
}

/// Ends the process at SIGTERM or SIGINT: at once with status 0 while it starts, and with status 1 when it is
/// still there fifteen seconds after its `drain`.
pub fn bound(drain: Duration) -> anyhow::Result<Start> {
    let start = Start(Arc::default());
    let is_up = start.0.clone();
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
            if !is_up.load(SeqCst) {
                tracing::info!("told to end before weft was up");
                std::process::exit(0);
            }
            tokio::time::sleep(drain.saturating_add(GRACE)).await;
        });
        tracing::error!(after = ?drain.saturating_add(GRACE), "something hangs: the process is ended");
        std::process::exit(1);
    };
    std::thread::Builder::new().name("termination".to_owned()).spawn(run)?;
    Ok(start)
}
