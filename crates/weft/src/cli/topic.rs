//! `weft topic`: the topics of a running node.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value, json};

use super::{
    admin::{self, Admin},
    columns::{columns, members},
    message::{Publish, Tail},
};

/// Show, make and delete topics; publish to them and follow them.
#[derive(Debug, Args)]
pub struct Topic {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    admin: Admin,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Every topic.
    List,
    /// One topic: its settings, what it holds, who reads it.
    Show {
        /// The topic.
        topic: String,
    },
    /// Make a topic; it is no error if it is there already with the same settings.
    Create {
        /// The topic.
        topic: String,
        /// The age after which messages go, such as 7d; `off` for never.
        #[arg(long)]
        retention: Option<String>,
        /// The size above which the oldest go, such as 10GiB.
        #[arg(long)]
        size: Option<String>,
        /// What has happened to a message before it is acknowledged: fsync, os or memory.
        #[arg(long)]
        durability: Option<String>,
        /// Whether only the newest message of each key has to stay.
        #[arg(long)]
        compact: bool,
    },
    /// Delete a topic with all its messages and subscriptions.
    Delete {
        /// The topic.
        topic: String,
        /// The topic once more, so that nothing is deleted by a slip.
        #[arg(long, value_name = "TOPIC")]
        confirm: String,
    },
    /// Publish a message to a topic.
    Publish {
        /// The topic.
        topic: String,
        #[command(flatten)]
        message: Publish,
    },
    /// Print the messages of a topic, and go on as they come.
    Tail {
        /// The topic.
        topic: String,
        #[command(flatten)]
        tail: Tail,
    },
}

impl Topic {
    /// Exits with 0 if it was done, with 1 if the node refused, with 2 if it could not be asked.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let admin = self.admin;
        let path = |topic: &str| format!("/v1/topics/{}", admin::segment(topic));
        match self.action {
            Action::List => admin.ask(&Method::GET, "/v1/topics", None, |all: &Value| {
                columns(
                    &all["topics"],
                    &[
                        ("topic", "name"),
                        ("messages", "messages"),
                        ("bytes", "bytes"),
                        ("next", "end"),
                        ("subscriptions", "subscriptions"),
                    ],
                )
            }),
            Action::Show { topic } => admin.ask(&Method::GET, &path(&topic), None, members),
            Action::Create { topic, retention, size, durability, compact } => {
                let mut options = Map::new();
                let mut kept = Map::new();
                kept.extend(retention.map(|age| ("age".to_owned(), json!(age))));
                kept.extend(size.map(|size| ("size".to_owned(), json!(size))));
                if !kept.is_empty() {
                    options.insert("retention".into(), kept.into());
                }
                options.extend(durability.map(|level| ("durability".to_owned(), json!(level))));
                if compact {
                    options.insert("compact".into(), json!(true));
                }
                admin.ask(&Method::PUT, &path(&topic), Some(&options.into()), members)
            }
            Action::Delete { topic, confirm } => {
                admin::confirmed("topic", &topic, &confirm)?;
                let done = |_: &Value| format!("deleted topic {topic}\n");
                admin.ask(&Method::DELETE, &path(&topic), None, done)
            }
            Action::Publish { topic, message } => message.run(&admin, &path(&topic)),
            Action::Tail { topic, tail } => tail.run(&admin, &path(&topic)),
        }
    }
}
