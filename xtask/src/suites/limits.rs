//! Rate limits that several nodes share in a real Redis, and in Valkey where that is there.

use anyhow::Result;

use super::{amqp, script, tokens};
use crate::{
    build,
    need::{Need, PYTHON, Source},
    shell,
};

/// The server, and what makes its certificates.
pub(super) const NEEDS: &[Need] = &[
    Need {
        name: "redis-server",
        why: "the store of limits that several nodes share",
        check: &["redis-server", "--version"],
        source: Source::Apt(&["redis-server"]),
    },
    tokens::NEEDS[0],
];

/// Three nodes against each server that is there.
pub(super) fn weft() -> Result<String> {
    let binary = build::with_tests()?.join("weft");
    let folder = amqp::emptied("limits")?;
    let mut arguments = vec![binary.display().to_string(), folder.display().to_string()];
    let servers = ["redis-server", "valkey-server"];
    let there = servers.into_iter().filter(|of| shell::command(of, ["--version"]).succeeds());
    arguments.extend(there.map(str::to_owned));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    script(PYTHON, "xtask/suites/shared_limits.py", &arguments)
}
