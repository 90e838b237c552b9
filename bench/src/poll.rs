//! Waiting for a condition.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use crate::stop;

/// Asks until there is something, and fails once it has taken too long.
pub(crate) fn until<T>(
    what: &str,
    longest: Duration,
    mut ask: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let end = Instant::now() + longest;
    loop {
        if let Some(found) = ask()? {
            return Ok(found);
        }
        stop::check()?;
        if Instant::now() > end {
            bail!("{what}: not within {longest:?}");
        }
        thread::sleep(Duration::from_millis(5));
    }
}
