//! `weft queue`: the queues of a running node.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value, json};
use weft_api::Noun;
use weft_broker_http::nouns;

use super::{
    admin::{self, Admin},
    columns::{columns, members},
    message::Publish,
    receive::Receive,
    verbs::{Also, Named, Verbs},
};

/// The noun of queues.
#[derive(Clone, Debug)]
pub struct Queues;

impl Named for Queues {
    const NOUN: &'static Noun = &nouns::QUEUE;
    const ALSO: &'static [Also] =
        &[("retry.failures_max", "failures-max", None), ("limit.messages", "messages-max", None)];
}

/// Queues of a running node.
#[derive(Debug, Args)]
pub struct Queue {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    admin: Admin,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Those of the table of operations.
    #[command(flatten)]
    Table(Verbs<Queues>),
    /// Put a message into a queue.
    Publish {
        /// The queue.
        queue: String,
        #[command(flatten)]
        message: Publish,
    },
    /// Look at the first messages, without taking them.
    Peek {
        /// The queue.
        queue: String,
        /// Number of messages, at most.
        #[arg(long, default_value_t = 20)]
        max: u32,
    },
    /// Take messages, print them, and accept them.
    Receive {
        /// The queue.
        queue: String,
        #[command(flatten)]
        receive: Receive,
    },
    /// Look at the messages of a queue that failed for good, with why.
    Dead {
        /// The queue.
        queue: String,
        /// Number of messages, at most.
        #[arg(long, default_value_t = 20)]
        max: u32,
    },
    /// Put dead letters back where they came from.
    Redrive {
        /// The queue whose dead letters they are.
        queue: String,
        /// CEL expression over the attributes and `data`, which picks the messages.
        #[arg(long)]
        filter: Option<String>,
        /// Rate: messages in a second, at most.
        #[arg(long)]
        rate: Option<u32>,
        /// Queue to put them into; without it, where each came from.
        #[arg(long)]
        to: Option<String>,
        /// Only count: nothing is moved.
        #[arg(long)]
        dry_run: bool,
    },
    /// Delete every message that nobody works on.
    Purge {
        /// The queue.
        queue: String,
        /// The queue once more, so that nothing is deleted by a slip.
        #[arg(long, value_name = "QUEUE")]
        confirm: String,
    },
}

impl Queue {
    /// Exits with 0 if it was done, with 1 if the node refused, with 2 if it could not be asked.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let admin = self.admin;
        let path = |queue: &str| format!("/v1/queues/{}", admin::segment(queue));
        match self.action {
            Action::Table(verbs) => verbs.run(&admin),
            Action::Publish { queue, message } => message.run(&admin, &path(&queue)),
            Action::Peek { queue, max } => peek(&admin, &path(&queue), max),
            Action::Receive { queue, receive } => receive.run(&admin, &path(&queue)),
            Action::Dead { queue, max } => peek(&admin, &path(&format!("{queue}.dead")), max),
            Action::Redrive { queue, filter, rate, to, dry_run } => {
                let mut body = Map::new();
                body.extend(filter.map(|filter| ("filter".to_owned(), json!(filter))));
                body.extend(rate.map(|rate| ("rate".to_owned(), json!(rate))));
                body.extend(to.map(|to| ("to".to_owned(), json!(to))));
                body.insert("dry_run".into(), json!(dry_run));
                let path = format!("{}/redrive", path(&format!("{queue}.dead")));
                admin.ask(&Method::POST, &path, Some(&body.into()), members)
            }
            Action::Purge { queue, confirm } => {
                admin::confirmed("queue", &queue, &confirm)?;
                let path = format!("{}/messages?confirm={}", path(&queue), admin::segment(&queue));
                admin.ask(&Method::DELETE, &path, None, members)
            }
        }
    }
}

/// The first messages of a queue, as they are.
pub(super) fn peek(admin: &Admin, path: &str, max: u32) -> anyhow::Result<ExitCode> {
    admin.ask(&Method::GET, &format!("{path}/messages?max={max}"), None, |answer: &Value| {
        columns(
            &answer["messages"],
            &[
                ("position", "position"),
                ("state", "state"),
                ("failures", "failures"),
                ("type", "event.type"),
                ("id", "event.id"),
                ("died of", "dead.cause"),
                ("reason", "dead.reason"),
                ("from", "dead.from"),
            ],
        )
    })
}
