//! `weft consumer`: the consumers of a running node, and their keys.

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use http::Method;
use serde_json::{Map, Value};
use weft_api::Noun;

use super::{
    admin::{self, Admin},
    columns::{columns, members},
    verbs::{Named, Verbs},
};
use crate::components::consumers::api::CONSUMER;

/// The noun of consumers.
#[derive(Clone, Debug)]
pub struct Consumers;

impl Named for Consumers {
    const NOUN: &'static Noun = &CONSUMER;

    fn show(mut answer: Value) -> anyhow::Result<String> {
        let keys = answer.as_object_mut().and_then(|object| object.remove("keys"));
        let keys = keys.map(|keys| format!("\n{}", listed(&keys)));
        Ok(members(&answer) + &keys.unwrap_or_default())
    }
}

/// Consumers of a running node.
#[derive(Debug, Args)]
pub struct Consumer {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    admin: Admin,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Those of the table of operations.
    #[command(flatten)]
    Table(Verbs<Consumers>),
    /// Keys and passwords of a consumer: create, list, rotate, revoke.
    #[command(subcommand)]
    Key(KeyAction),
}

#[derive(Debug, Subcommand)]
enum KeyAction {
    /// Draw a key and print it, this once.
    Create {
        /// The consumer.
        consumer: String,
        /// What is drawn.
        #[arg(long, value_enum, default_value_t)]
        kind: Kind,
        /// Lifetime, such as 90d; without it, the key does not end by itself.
        #[arg(long, value_name = "DURATION")]
        expires_in: Option<String>,
    },
    /// List keys: their ids and last letters, when they end and were used.
    List {
        /// The consumer.
        consumer: String,
    },
    /// Draw a key in place of another, and print it, this once.
    Rotate {
        /// The consumer.
        consumer: String,
        /// The id of the key.
        id: String,
        /// Time for which the old key is still taken; 0 ends it at once.
        #[arg(long, value_name = "DURATION", default_value = "24h")]
        overlap: String,
    },
    /// End a key at once.
    Revoke {
        /// The consumer.
        consumer: String,
        /// The id of the key.
        id: String,
    },
}

/// What is drawn.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Kind {
    /// An API key.
    #[default]
    ApiKey,
    /// A password; the user name is that of the consumer.
    Password,
}

fn listed(keys: &Value) -> String {
    columns(
        keys,
        &[
            ("id", "id"),
            ("kind", "kind"),
            ("last4", "last4"),
            ("created", "created"),
            ("expires", "expires"),
            ("last used", "last_used"),
        ],
    )
}

impl Consumer {
    /// Exits with 0 if it was done, with 1 if the node refused, with 2 if it could not be asked.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.action {
            Action::Table(verbs) => verbs.run(&self.admin),
            Action::Key(action) => action.run(&self.admin),
        }
    }
}

impl KeyAction {
    fn run(self, admin: &Admin) -> anyhow::Result<ExitCode> {
        let path = |consumer: &str| format!("/v1/consumers/{}/keys", admin::segment(consumer));
        let of = |consumer: &str, id: &str| format!("{}/{}", path(consumer), admin::segment(id));
        let shown = |answer: Value| Ok(members(&answer));
        match self {
            Self::Create { consumer, kind, expires_in } => {
                let mut body = Map::new();
                if matches!(kind, Kind::Password) {
                    body.insert("kind".into(), "password".into());
                }
                body.extend(expires_in.map(|span| ("expires_in".into(), span.into())));
                let body = Value::Object(body);
                admin.show(&Method::POST, &path(&consumer), Some(admin::json(&body)), shown)
            }
            Self::List { consumer } => {
                admin.show(&Method::GET, &path(&consumer), None, |keys| Ok(listed(&keys)))
            }
            Self::Rotate { consumer, id, overlap } => {
                let body = serde_json::json!({ "overlap": overlap });
                let path = format!("{}/rotate", of(&consumer, &id));
                admin.show(&Method::POST, &path, Some(admin::json(&body)), shown)
            }
            Self::Revoke { consumer, id } => {
                admin.show(&Method::DELETE, &of(&consumer, &id), None, |_| {
                    Ok(format!("revoked key {id} of consumer {consumer}\n"))
                })
            }
        }
    }
}
