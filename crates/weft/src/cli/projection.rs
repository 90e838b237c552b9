//! `weft projection`: read models of a running node, how far they are, and what is done about them by hand.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value};
use weft_api::Noun;
use weft_broker_http::PROJECTION;

use super::{
    admin::{self, Admin},
    columns::members,
    verbs::{Named, Verbs},
};

/// The noun of projections.
#[derive(Clone, Debug)]
pub struct Projections;

impl Named for Projections {
    const NOUN: &'static Noun = &PROJECTION;
}

/// Projections of a running node.
#[derive(Debug, Args)]
pub struct Projection {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    admin: Admin,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Those of the table of operations.
    #[command(flatten)]
    Table(Verbs<Projections>),
    /// Build a projection again from the first event on, beside what answers.
    Rebuild {
        /// The projection
        #[arg(value_name = "PROJECTION")]
        name: String,
    },
    /// The documents and events of a projection that wait, and why.
    Parked {
        /// The projection
        #[arg(value_name = "PROJECTION")]
        name: String,
    },
    /// Apply a parked event again, and what has come since.
    Resume(Which),
    /// Leave a parked event out, and apply what has come since.
    Skip(Which),
}

/// Which of what is parked.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct Which {
    /// The projection
    #[arg(value_name = "PROJECTION")]
    name: String,
    /// Key of the document.
    #[arg(long)]
    key: Option<String>,
    /// Position of the event.
    #[arg(long)]
    position: Option<u64>,
}

impl Projection {
    /// Exits with 0 if it is there or was done, with 1 if not, with 2 if the node could not be asked.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let path =
            |name: &str, what: &str| format!("/v1/projections/{}/{what}", admin::segment(name));
        let resolve = |which: &Which, what: &str| {
            let said = [
                ("key", which.key.clone().map(Value::from)),
                ("position", which.position.map(Value::from)),
            ];
            let body: Map<String, Value> =
                said.into_iter().filter_map(|(name, of)| Some((name.to_owned(), of?))).collect();
            let body = Value::from(body);
            let body = Some(admin::json(&body));
            self.admin.show(&Method::POST, &path(&which.name, what), body, show)
        };
        match &self.action {
            Action::Table(verbs) => verbs.clone().run(&self.admin),
            Action::Rebuild { name } => {
                self.admin.show(&Method::POST, &path(name, "rebuild"), None, show)
            }
            Action::Parked { name } => {
                self.admin.show(&Method::GET, &path(name, "parked"), None, show)
            }
            Action::Resume(which) => resolve(which, "parked/resume"),
            Action::Skip(which) => resolve(which, "parked/skip"),
        }
    }
}

fn show(answer: Value) -> anyhow::Result<String> {
    Ok(match &answer {
        Value::Array(all) => all.iter().map(|one| format!("{one}\n")).collect(),
        one => members(one),
    })
}
