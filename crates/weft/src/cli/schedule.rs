//! `weft schedule`: messages that a running node will publish.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value, json};

use super::{
    admin::{self, Admin},
    columns::{columns, members},
};

/// Show, make and delete messages that are published later or again and again.
#[derive(Debug, Args)]
pub struct Schedule {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    admin: Admin,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Every schedule, with when it is due.
    List,
    /// One schedule: when it is due, and what it publishes.
    Show {
        /// The schedule.
        #[arg(value_name = "SCHEDULE")]
        id: String,
    },
    /// Make a schedule; it is no error if it is there already with the same settings.
    Create {
        /// The schedule.
        #[arg(value_name = "SCHEDULE")]
        id: String,
        /// Fields of cron, `@daily` and the like, or `@every 5m`.
        #[arg(long, required_unless_present_any = ["at", "delay"])]
        cron: Option<String>,
        /// Once, at a time such as 2026-01-31T08:00:00Z.
        #[arg(long, conflicts_with = "cron")]
        at: Option<String>,
        /// Once, after a time such as 5m.
        #[arg(long, conflicts_with_all = ["cron", "at"])]
        delay: Option<String>,
        /// The time zone of the fields, such as Europe/Berlin.
        #[arg(long)]
        time_zone: Option<String>,
        /// The topic.
        #[arg(long, required_unless_present = "queue")]
        topic: Option<String>,
        /// The queue.
        #[arg(long, conflicts_with = "topic")]
        queue: Option<String>,
        /// The type of the message.
        #[arg(long = "type")]
        kind: Option<String>,
        /// The body of the message.
        #[arg(long, short = 'd')]
        data: Option<String>,
    },
    /// Delete a schedule, so that it publishes nothing more.
    Delete {
        /// The schedule.
        #[arg(value_name = "SCHEDULE")]
        id: String,
    },
}

impl Schedule {
    /// Exits with 0 if it was done, with 1 if the node refused, with 2 if it could not be asked.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let admin = self.admin;
        let path = |id: &str| format!("/v1/schedules/{}", admin::segment(id));
        match self.action {
            Action::List => {
                admin.ask(&Method::GET, "/v1/schedules?max=1000", None, |all: &Value| {
                    let mut told = columns(
                        &all["schedules"],
                        &[
                            ("schedule", "id"),
                            ("when", "cron"),
                            ("zone", "time_zone"),
                            ("next", "next"),
                            ("topic", "to.topic"),
                            ("queue", "to.queue"),
                        ],
                    );
                    if let Some(next) = all["next"].as_str() {
                        told += &format!(
                            "there are more: GET /v1/schedules?after={}\n",
                            admin::segment(next)
                        );
                    }
                    told
                })
            }
            Action::Show { id } => admin.ask(&Method::GET, &path(&id), None, members),
            Action::Create { id, cron, at, delay, time_zone, topic, queue, kind, data } => {
                let mut body = Map::new();
                let to = match (topic, queue) {
                    (Some(topic), _) => json!({ "topic": topic }),
                    (None, queue) => json!({ "queue": queue }),
                };
                body.insert("to".into(), to);
                for (name, value) in [
                    ("cron", cron),
                    ("at", at),
                    ("delay", delay),
                    ("time_zone", time_zone),
                    ("type", kind),
                    ("data", data),
                ] {
                    body.extend(value.map(|value| (name.to_owned(), json!(value))));
                }
                admin.ask(&Method::PUT, &path(&id), Some(&body.into()), members)
            }
            Action::Delete { id } => {
                let done = |_: &Value| format!("cancelled schedule {id}\n");
                admin.ask(&Method::DELETE, &path(&id), None, done)
            }
        }
    }
}
