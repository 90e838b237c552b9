//! `weft listener`: the listeners of a running node.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::Value;

use super::{
    admin::{self, Admin},
    columns::members,
};
use crate::node::ListenerStatus;

/// Show the listeners of a running node.
#[derive(Debug, Args)]
pub struct Listener {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    admin: Admin,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Every listener.
    List,
    /// One listener: its addresses, connections and certificates.
    Show {
        /// The listener.
        #[arg(value_name = "LISTENER")]
        name: String,
    },
}

impl Listener {
    /// Exits with 0 if it is there, with 1 if not, with 2 if the node could not be asked.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.action {
            Action::List => {
                self.admin
                    .ask(&Method::GET, "/v1/listeners", None, |all: &Vec<ListenerStatus>| list(all))
            }
            Action::Show { name } => {
                let path = format!("/v1/listeners/{}", admin::segment(&name));
                self.admin.ask(&Method::GET, &path, None, |one: &Value| members(one))
            }
        }
    }
}

fn list(listeners: &[ListenerStatus]) -> String {
    let row = |listener: &ListenerStatus| {
        [
            listener.name.clone(),
            listener.addresses.join(", "),
            listener.connections.to_string(),
            listener.certificates.len().to_string(),
        ]
    };
    admin::table(
        &["listener", "addresses", "connections", "certificates"],
        listeners.iter().map(row),
    )
}
