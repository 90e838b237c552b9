//! `weft status`: how a running node is.

use std::{fmt::Write, process::ExitCode};

use clap::Args;
use http::Method;

use super::admin::{self, Admin, span};
use crate::node;

/// Show the status of a running node.
#[derive(Debug, Args)]
pub struct Status {
    #[command(flatten)]
    admin: Admin,
}

impl Status {
    /// Exits with 0 if the node answered, with 1 if it would not, with 2 if it could not be asked.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        self.admin.ask(&Method::GET, "/v1/status", None, tell)
    }
}

fn tell(status: &node::Status) -> String {
    let mut out = String::new();
    let config = &status.config;
    let connections: usize = status.workers.iter().map(|worker| worker.connections).sum();
    let spread: Vec<String> =
        status.workers.iter().map(|worker| worker.connections.to_string()).collect();
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "weft {}, up for {}{}",
        status.version,
        span(status.uptime_seconds),
        if status.draining { ", draining" } else { "" },
    );
    let _ = writeln!(
        out,
        "configuration {} of {}, applied {} ago{}",
        status.generation,
        config.path,
        span(config.age_seconds),
        match config.warnings {
            0 => String::new(),
            1 => ", 1 warning".into(),
            many => format!(", {many} warnings"),
        },
    );
    if !config.restart.is_empty() {
        let settings = config.restart.join(", ");
        let _ = writeln!(out, "changed, and in force with a restart only: {settings}");
    }
    if let Some(refused) = &config.refused {
        let ago = span(refused.age_seconds);
        let _ = writeln!(out, "a newer one was refused {ago} ago: {}", refused.reason);
    }
    let _ = writeln!(
        out,
        "{} routes, {} services, {} of {} endpoints available",
        status.routes, status.services, status.endpoints.available, status.endpoints.total,
    );
    let _ = writeln!(
        out,
        "{connections} connections over {} workers ({})",
        status.workers.len(),
        spread.join(", "),
    );
    if status.panics > 0 {
        let _ = writeln!(out, "{} tasks have panicked: please report it", status.panics);
    }
    if !status.listeners.is_empty() {
        out.push('\n');
        out.push_str(&admin::table(
            &["listener", "addresses", "connections", "certificates"],
            status.listeners.iter().map(|listener| {
                let certificates: Vec<String> = listener
                    .certificates
                    .iter()
                    .map(|of| {
                        let name = of.names.first().map_or("unnamed", String::as_str);
                        format!("{name} for {}", span(of.left_seconds))
                    })
                    .collect();
                [
                    listener.name.clone(),
                    listener.addresses.join(", "),
                    listener.connections.to_string(),
                    admin::or_dash(Some(&certificates.join(", "))),
                ]
            }),
        ));
    }
    out
}
