//! `weft stream`: the streams of events of a running node.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use http::Method;
use weft_api::Noun;
use weft_broker_http::STREAM;

use super::{
    Reader,
    admin::{self, Admin, Said},
    print_to_reader,
    verbs::{Named, Verbs},
};

/// The most events of one answer.
const PAGE: u64 = 1_000;

/// The noun of streams.
#[derive(Clone, Debug)]
pub struct Streams;

impl Named for Streams {
    const NOUN: &'static Noun = &STREAM;
}

/// Streams of a running node.
#[derive(Debug, Args)]
pub struct Stream {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    admin: Admin,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Those of the table of operations.
    #[command(flatten)]
    Table(Verbs<Streams>),
    /// Print the events of a stream, or of all that have what is asked for, a line of JSON each.
    Events(Events),
}

/// Which events, from where to where.
#[derive(Debug, Args)]
struct Events {
    /// The stream; without it, all of them.
    stream: Option<String>,
    /// Category of their streams: what stands before the first hyphen of the name.
    #[arg(long, conflicts_with = "stream")]
    category: Option<String>,
    /// Type of the events, or several with commas between them.
    #[arg(long = "type", conflicts_with = "stream")]
    kind: Option<String>,
    /// Tags that each event has, with commas between them.
    #[arg(long, conflicts_with = "stream")]
    tags: Option<String>,
    /// Correlation id of the events.
    #[arg(long, conflicts_with = "stream")]
    correlation: Option<String>,
    /// Beginning: `start`, `end`, or a number: a version of the stream, or a position among all.
    #[arg(long)]
    from: Option<String>,
    /// Time of the first events, such as 2026-01-31T00:00:00Z.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Time of the last events.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// From new to old.
    #[arg(long)]
    backward: bool,
    /// Number of events, at most.
    #[arg(long, default_value_t = 100)]
    max: u64,
}

impl Stream {
    /// Exits with 0 if it was done, with 1 if the node refused, with 2 if it could not be asked.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.action {
            Action::Table(verbs) => verbs.run(&self.admin),
            Action::Events(events) => events.run(&self.admin),
        }
    }
}

impl Events {
    /// Prints pages until there is enough, nothing more, or nobody who reads it.
    fn run(self, admin: &Admin) -> anyhow::Result<ExitCode> {
        let mut path = match &self.stream {
            Some(stream) => format!("/v1/streams/{}/events?", admin::segment(stream)),
            None => "/v1/events?".to_owned(),
        };
        let direction = self.backward.then(|| "backward".to_owned());
        for (name, value) in [
            ("category", self.category),
            ("type", self.kind),
            ("tags", self.tags),
            ("correlation", self.correlation),
            ("since", self.since),
            ("until", self.until),
            ("direction", direction),
        ] {
            if let Some(value) = value {
                path.push_str(&format!("{name}={}&", admin::segment(&value)));
            }
        }
        let (mut from, mut left) = (self.from, self.max);
        while left > 0 {
            let begin = from.map(|from| format!("&from={}", admin::segment(&from)));
            let path = format!("{path}max={}{}", left.min(PAGE), begin.unwrap_or_default());
            let answer = match admin.send(&Method::GET, &path, None)? {
                Said::Yes(answer) => answer,
                Said::No(why) => return admin.refused(&why),
            };
            let events = answer["events"].as_array().context("the node shows no events")?;
            for event in events {
                if print_to_reader(&format!("{event}\n"))? == Reader::Gone {
                    return Ok(ExitCode::SUCCESS);
                }
            }
            left = left.saturating_sub(events.len() as u64);
            let Some(next) = answer["next"].as_u64() else { break };
            from = Some(next.to_string());
        }
        Ok(ExitCode::SUCCESS)
    }
}
