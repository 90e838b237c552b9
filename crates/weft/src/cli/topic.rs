//! `weft topic`: the topics of a running node.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use weft_api::Noun;
use weft_broker_http::nouns;

use super::{
    admin::{self, Admin},
    message::{Publish, Tail},
    verbs::{Also, Named, Verbs},
};

/// The noun of topics.
#[derive(Clone, Debug)]
pub struct Topics;

impl Named for Topics {
    const NOUN: &'static Noun = &nouns::TOPIC;
    const ALSO: &'static [Also] = &[("retention.size", "size", None)];
}

/// Topics of a running node.
#[derive(Debug, Args)]
pub struct Topic {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    admin: Admin,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Those of the table of operations.
    #[command(flatten)]
    Table(Verbs<Topics>),
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
            Action::Table(verbs) => verbs.run(&admin),
            Action::Publish { topic, message } => message.run(&admin, &path(&topic)),
            Action::Tail { topic, tail } => tail.run(&admin, &path(&topic)),
        }
    }
}
