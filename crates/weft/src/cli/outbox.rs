//! `weft outbox`: what services commit to databases, how far it is published, and from where one goes on.

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use http::Method;
use serde_json::json;
use weft_api::Noun;

use super::{
    admin::{self, Admin},
    columns::members,
    verbs::{Named, Verbs},
};
use crate::components::outboxes::api::OUTBOX;

/// The noun of outboxes.
#[derive(Clone, Debug)]
pub struct Outboxes;

impl Named for Outboxes {
    const NOUN: &'static Noun = &OUTBOX;
}

/// Outboxes of a running node.
#[derive(Debug, Args)]
pub struct OutboxNoun {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    admin: Admin,
}

#[derive(Debug, Subcommand)]
enum Verb {
    #[command(flatten)]
    Table(Verbs<Outboxes>),
    /// Have one go on from somewhere else, once it is known what is missing.
    Reset {
        /// The outbox
        #[arg(value_name = "OUTBOX")]
        name: String,
        /// From where on.
        #[arg(long)]
        from: From,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum From {
    /// From now on, with a slot that is made anew: what was committed before and not published is left out
    Now,
    /// From where the slot is that is there: what was published of that comes again
    Slot,
    /// From the last transaction that was published, on another server with the same log, as after a failover
    Kept,
}

impl OutboxNoun {
    /// Exits with 0 if it is there or was done, with 1 if not, with 2 if the node could not be asked.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match &self.verb {
            Verb::Table(verb) => verb.clone().run(&self.admin),
            Verb::Reset { name, from } => {
                let from = match from {
                    From::Now => "now",
                    From::Slot => "slot",
                    From::Kept => "kept",
                };
                let path = format!("/v1/outboxes/{}/reset", admin::segment(name));
                let body = json!({ "from": from });
                let told = |answer| Ok(members(&answer));
                self.admin.show(&Method::POST, &path, Some(admin::json(&body)), told)
            }
        }
    }
}
