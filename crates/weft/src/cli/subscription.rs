//! `weft subscription`: the subscriptions of a running node.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};
use weft_messages::settings::subscription::SubscriptionSettings;

use super::{
    admin::{self, Admin},
    columns::{columns, members},
    options::{Options, create},
    receive::Receive,
};

/// Show, make and delete subscriptions; hold them, move them, take from them.
#[derive(Debug, Args)]
pub struct Subscription {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    admin: Admin,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Every subscription, with how far it is behind.
    List,
    /// One subscription: its settings, how far it is, who takes from it.
    Show {
        /// The subscription.
        #[arg(value_name = "SUBSCRIPTION")]
        name: String,
    },
    /// Make a subscription; it is no error if it is there already with the same settings.
    Create {
        /// The subscription.
        #[arg(value_name = "SUBSCRIPTION")]
        name: String,
        /// Change it where it is there with other settings.
        #[arg(long)]
        change: bool,
        #[command(flatten)]
        options: Options<SubscriptionSettings>,
    },
    /// Delete a subscription, and with it how far it was.
    Delete {
        /// The subscription.
        #[arg(value_name = "SUBSCRIPTION")]
        name: String,
    },
    /// Hand out nothing until it is resumed.
    Pause {
        /// The subscription.
        #[arg(value_name = "SUBSCRIPTION")]
        name: String,
    },
    /// Go on.
    Resume {
        /// The subscription.
        #[arg(value_name = "SUBSCRIPTION")]
        name: String,
    },
    /// Go on from elsewhere: `first`, `last`, `next`, a position, or a time.
    Seek {
        /// The subscription.
        #[arg(value_name = "SUBSCRIPTION")]
        name: String,
        /// Where to.
        to: String,
    },
    /// Pass over one message, as if it had been accepted.
    Skip {
        /// The subscription.
        #[arg(value_name = "SUBSCRIPTION")]
        name: String,
        /// The message's position.
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
            Action::List => admin.ask(&Method::GET, "/v1/subscriptions", None, |all: &Value| {
                columns(
                    &all["subscriptions"],
                    &[
                        ("subscription", "name"),
                        ("topic", "topic"),
                        ("state", "state"),
                        ("lag", "lag_messages"),
                        ("seconds", "lag_seconds"),
                        ("leased", "leased"),
                        ("waiting", "waiting"),
                        ("consumers", "consumers"),
                    ],
                )
            }),
            Action::Show { name } => admin.ask(&Method::GET, &path(&name), None, members),
            Action::Create { name, change, options } => admin.ask(
                &Method::PUT,
                &create(&path(&name), change),
                Some(&options.body()?),
                members,
            ),
            Action::Delete { name } => {
                let done = |_: &Value| format!("deleted subscription {name}\n");
                admin.ask(&Method::DELETE, &path(&name), None, done)
            }
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
