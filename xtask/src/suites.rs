//! Third-party suites and clients, run against a real Weft: one table.
//!
//! A suite is somebody else's judgement of how we speak a protocol. It names what it needs, runs what
//! it tests by itself on free ports, and ends it again; `cargo xtask test` runs all of them, `--quick`
//! none.

use anyhow::{Context, Result};

use crate::{
    demo,
    need::{Need, PYTHON, Source},
    shell,
};

/// One suite.
pub(crate) struct Suite {
    /// Its name in the summary.
    pub(crate) name: &'static str,
    /// What must be installed for it.
    pub(crate) needs: &'static [Need],
    /// Runs it; gives the line for the summary, such as `12 of 12 cases passed`.
    pub(crate) run: fn() -> Result<String>,
}

const GRPCIO: Need = Need {
    name: "grpcio",
    why: "the suite of gRPC clients",
    check: &[PYTHON, "-c", "import grpc"],
    source: Source::Python(&["grpcio==1.84.0"]),
};

/// Every suite, in the order in which they run.
pub(crate) const SUITES: &[Suite] = &[
    Suite { name: "tour", needs: &[], run: demo::suite },
    Suite { name: "gRPC clients", needs: &[GRPCIO], run: grpc_clients },
];

fn grpc_clients() -> Result<String> {
    demo::with_fleet(|web| {
        let script = "xtask/suites/grpc_clients.py";
        python(script, &[&web.to_string()])
    })
}

/// Runs a script that ends with a line `PASSED n/m`, and gives that line.
fn python(script: &str, arguments: &[&str]) -> Result<String> {
    let lines = shell::command(PYTHON, [script])
        .args(arguments)
        .run_keeping(|line| line.starts_with("PASSED "))?;
    lines.into_iter().last().with_context(|| format!("{script} did not say how many passed"))
}
