//! `weft subscription`: the subscriptions of a running node.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};
use weft_api::Noun;
use weft_broker_http::nouns;

use super::{
    admin::{self, Admin},
    columns::members,
    receive::Receive,
    verbs::{Also, Named, Verbs},
};

/// The noun of subscriptions.
#[derive(Clone, Debug)]
pub struct Subscriptions;

impl Named for Subscriptions {
    const NOUN: &'static Noun = &nouns::SUBSCRIPTION;
    const ALSO: &'static [Also] = &[("retry.failures_max", "failures-max", None)];
}

/// Subscriptions of a running node.
#[derive(Debug, Args)]
pub struct Subscription {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    admin: Admin,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Those of the table of operations.
    #[command(flatten)]
    Table(Verbs<Subscriptions>),
    /// Pause a subscription: nothing is handed out until it is resumed.
    Pause {
        /// The subscription.
        #[arg(value_name = "SUBSCRIPTION")]
        name: String,
    },
    /// Resume a subscription that was paused.
    Resume {
        /// The subscription.
        #[arg(value_name = "SUBSCRIPTION")]
        name: String,
    },
    /// Move a subscription; retries and leases are forgotten.
    Seek {
        /// The subscription.
        #[arg(value_name = "SUBSCRIPTION")]
        name: String,
        /// Destination: `first`, `last`, `next`, a position, or a time (RFC 3339).
        to: String,
    },
    /// Pass over one message, as if it had been accepted.
    Skip {
        /// The subscription.
        #[arg(value_name = "SUBSCRIPTION")]
        name: String,
        /// Position of the message.
        position: u64,
    },
    /// Take messages, print them, and accept them.
    Receive {
        /// The subscription.
        #[arg(value_name = "SUBSCRIPTION")]
        name: String,
        #[command(flatten)]
        receive: Receive,
    },
}

impl Subscription {
    /// Exits with 0 if it was done, with 1 if the node refused, with 2 if it could not be asked.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let admin = self.admin;
        let path = |name: &str| format!("/v1/subscriptions/{}", admin::segment(name));
        let act = |name: &str, what: &str, body: Option<Value>| {
            let path = format!("{}/{what}", path(name));
            admin.ask(&Method::POST, &path, body.as_ref(), members)
        };
        match self.action {
            Action::Table(verbs) => verbs.run(&admin),
            Action::Pause { name } => act(&name, "pause", None),
            Action::Resume { name } => act(&name, "resume", None),
            Action::Seek { name, to } => act(&name, "seek", Some(json!({ "to": to }))),
            Action::Skip { name, position } => {
                act(&name, "skip", Some(json!({ "position": position })))
            }
            Action::Receive { name, receive } => receive.run(&admin, &path(&name)),
        }
    }
}
