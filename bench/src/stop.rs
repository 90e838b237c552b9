//! Whether the person at the keyboard has had enough.
//!
//! SIGINT and SIGTERM only set a flag that every long loop looks at, so that the way out is the usual
//! one, on which every child is ended and every temporary folder removed.

use std::sync::{
    Arc, LazyLock,
    atomic::{AtomicBool, Ordering},
};

use anyhow::{Result, bail};

static ASKED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// From here on, signals set the flag.
pub(crate) fn watch() -> Result<()> {
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&ASKED))?;
    }
    Ok(())
}

/// Fails once a signal has come.
pub(crate) fn check() -> Result<()> {
    if ASKED.load(Ordering::Relaxed) {
        bail!("stopped by a signal");
    }
    Ok(())
}
