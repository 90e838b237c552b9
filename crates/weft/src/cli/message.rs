//! `weft message`: publishing messages, following them and looking at one.

use std::{io::Read, process::ExitCode};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};
use weft_broker_http::PUBLISH_BYTES_MAX;

use super::{
    Reader,
    admin::{self, Admin, Said},
    columns::members,
    print_to_reader, reader,
};

/// The most messages that are asked for at once.
const BATCH: u32 = 500;
/// The wait for more, after which it is looked whether anybody reads them.
const WAIT: &str = "&wait=5s";

/// Messages of topics and queues of a running node.
#[derive(Debug, Args)]
pub struct Message {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    admin: Admin,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Publish a message to a topic or a queue.
    Publish {
        /// The topic.
        #[arg(long, required_unless_present = "queue")]
        topic: Option<String>,
        /// The queue.
        #[arg(long, conflicts_with = "topic")]
        queue: Option<String>,
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
    /// Every message of a queue, from the first one on, without taking them.
    List {
        /// The queue; dead letters are in `QUEUE.dead`.
        queue: String,
        /// Number of messages, at most.
        #[arg(long, default_value_t = 20)]
        max: u32,
    },
    /// One message of a queue: what it is, and what has happened to it.
    Show {
        /// The queue; dead letters are in `QUEUE.dead`.
        queue: String,
        /// Position of the message.
        position: u64,
    },
}

impl Message {
    /// Exits with 0 if it was done, with 1 if the node refused, with 2 if it could not be asked.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let admin = self.admin;
        match self.action {
            Action::Publish { topic, queue, message } => {
                let path = match (topic, queue) {
                    (Some(topic), _) => format!("/v1/topics/{}", admin::segment(&topic)),
                    (None, queue) => {
                        format!("/v1/queues/{}", admin::segment(&queue.unwrap_or_default()))
                    }
                };
                message.run(&admin, &path)
            }
            Action::Tail { topic, tail } => {
                tail.run(&admin, &format!("/v1/topics/{}", admin::segment(&topic)))
            }
            Action::List { queue, max } => {
                super::queue::peek(&admin, &format!("/v1/queues/{}", admin::segment(&queue)), max)
            }
            Action::Show { queue, position } => {
                let path = format!("/v1/queues/{}/messages/{position}", admin::segment(&queue));
                admin.ask(&Method::GET, &path, None, members)
            }
        }
    }
}

/// A message to publish.
#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct Publish {
    /// Body; `-` reads it from the standard input.
    #[arg(long, short = 'd', default_value = "")]
    data: String,
    /// Type of the event.
    #[arg(long = "type", default_value = "weft.message")]
    kind: String,
    /// Source of the event, a URI reference.
    #[arg(long, default_value = "/weft/cli")]
    source: String,
    /// Id, by which a repetition is known; without it, a random one.
    #[arg(long)]
    id: Option<String>,
    /// Key, for order and compaction.
    #[arg(long)]
    key: Option<String>,
    /// Media type of the body.
    #[arg(long, default_value = "application/json")]
    content_type: String,
    /// Delay until it may be handed out, such as 5m; for queues.
    #[arg(long)]
    delay: Option<String>,
    /// Time to live: how long it may wait, such as 1h; for queues.
    #[arg(long)]
    ttl: Option<String>,
    /// Priority from 0 to 9; for queues that have priorities.
    #[arg(long)]
    priority: Option<u8>,
}

impl Publish {
    /// Publishes to the topic or queue at a path of the API.
    pub(super) fn run(self, admin: &Admin, path: &str) -> anyhow::Result<ExitCode> {
        let data = match self.data.as_str() {
            "-" => body(std::io::stdin().lock())?,
            _ => self.data,
        };
        let is_json =
            self.content_type == "application/json" || self.content_type.ends_with("+json");
        let data = match serde_json::from_str::<Value>(&data) {
            Ok(data) if is_json => data,
            Err(error) if is_json && !data.is_empty() => {
                anyhow::bail!(
                    "the body is not JSON ({error}); say --content-type if it is not meant to be"
                );
            }
            _ => Value::String(data),
        };
        let mut event = json!({
            "specversion": "1.0",
            "type": self.kind,
            "source": self.source,
            "datacontenttype": self.content_type,
            "data": data,
        });
        event["id"] = json!(self.id.unwrap_or_else(made_id));
        if let Some(key) = self.key {
            event["partitionkey"] = json!(key);
        }
        let query: Vec<String> = [
            ("delay", self.delay),
            ("ttl", self.ttl),
            ("priority", self.priority.map(|priority| priority.to_string())),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some(format!("{name}={}", admin::segment(&value?))))
        .collect();
        let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
        let path = format!("{path}/messages{query}");
        admin.ask_as(&Method::POST, &path, Some((&event, "application/cloudevents+json")), members)
    }
}

/// A body, read as far as the API would take it.
fn body(from: impl Read) -> anyhow::Result<String> {
    let mut data = Vec::new();
    from.take(PUBLISH_BYTES_MAX as u64 + 1)
        .read_to_end(&mut data)
        .context("cannot read the body")?;
    anyhow::ensure!(
        data.len() <= PUBLISH_BYTES_MAX,
        "the body is larger than {} MiB, the most that is taken",
        PUBLISH_BYTES_MAX >> 20
    );
    String::from_utf8(data).context("the body is not UTF-8")
}

/// An id that no other message has.
fn made_id() -> String {
    let mut rng = weft_kernel::Rng::from_entropy();
    format!("{:016x}{:016x}", rng.next_u64(), rng.next_u64())
}

/// Which messages are followed.
#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct Tail {
    /// Beginning: `first`, `last`, `next`, a position, or a time.
    #[arg(long, default_value = "next")]
    from: String,
    /// CEL expression over the attributes and `data`, which picks the messages.
    #[arg(long)]
    filter: Option<String>,
    /// End with what is there now, rather than wait for more.
    #[arg(long)]
    once: bool,
}

impl Tail {
    /// Follows the topic at a path of the API, until it is interrupted or nobody reads it any more.
    pub(super) fn run(self, admin: &Admin, path: &str) -> anyhow::Result<ExitCode> {
        let mut from = self.from;
        let filter = self
            .filter
            .map_or(String::new(), |filter| format!("&filter={}", admin::segment(&filter)));
        let wait = if self.once { "" } else { WAIT };
        loop {
            let path =
                format!("{path}/messages?from={}&max={BATCH}{wait}{filter}", admin::segment(&from));
            let answer = match admin.send(&Method::GET, &path, None)? {
                Said::Yes(answer) => answer,
                Said::No(why) => return admin.refused(&why),
            };
            if answer["gap"].is_object() {
                let gap = json!({"gap": answer["gap"]});
                if print_to_reader(&format!("{gap}\n"))? == Reader::Gone {
                    return Ok(ExitCode::SUCCESS);
                }
            }
            let messages = answer["messages"].as_array().map_or(&[][..], Vec::as_slice);
            for message in messages {
                if print_to_reader(&format!("{message}\n"))? == Reader::Gone {
                    return Ok(ExitCode::SUCCESS);
                }
            }
            if reader() == Reader::Gone {
                return Ok(ExitCode::SUCCESS);
            }
            let next = answer["next"].as_u64().context("the node does not say how to go on")?;
            // A page that a filter leaves empty may end before the topic does.
            let next = next.to_string();
            if self.once && messages.is_empty() && next == from {
                return Ok(ExitCode::SUCCESS);
            }
            from = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_without_an_end_is_read_no_further_than_it_could_be_sent() {
        let error = body(std::io::repeat(b'x')).unwrap_err();
        assert!(error.to_string().contains("larger than 16 MiB"), "{error}");
        assert_eq!(body(&b"{}"[..]).unwrap(), "{}");
    }
}
