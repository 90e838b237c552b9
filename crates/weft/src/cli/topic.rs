//! `weft topic`: the topics of a running node.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::Value;
use weft_messages::settings::topic::TopicSettings;

use super::{
    admin::{self, Admin},
    columns::{columns, members},
    message::{Publish, Tail},
    options::{Options, create},
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
        /// Change it where it is there with other settings.
        #[arg(long)]
        change: bool,
        #[command(flatten)]
        options: Options<TopicSettings>,
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
            Action::Create { topic, change, options } => admin.ask(
                &Method::PUT,
                &create(&path(&topic), change),
                Some(&options.body()?),
                members,
            ),
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
