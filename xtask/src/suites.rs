//! Third-party suites and clients, run against a real Weft: one table.
//!
//! A suite is somebody else's judgement of how we speak a protocol. It names what it needs, runs what
//! it tests by itself on free ports, and ends it again; `cargo xtask test` runs all of them, `--quick`
//! none.

use anyhow::Result;

use crate::need::Need;

/// One suite.
pub(crate) struct Suite {
    /// Its name in the summary.
    pub(crate) name: &'static str,
    /// What must be installed for it.
    pub(crate) needs: &'static [Need],
    /// Runs it; gives the line for the summary, such as `12 of 12 cases passed`.
    pub(crate) run: fn() -> Result<String>,
}

/// Every suite, in the order in which they run.
pub(crate) const SUITES: &[Suite] = &[];
