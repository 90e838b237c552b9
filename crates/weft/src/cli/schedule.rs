//! `weft schedule`: messages that a running node will publish.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::Value;
use weft_messages::settings::schedule::ScheduleSettings;

use super::{
    admin::{self, Admin},
    columns::{columns, members},
    options::Options,
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
        #[command(flatten)]
        options: Options<ScheduleSettings>,
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
            Action::Create { id, options } => {
                admin.ask(&Method::PUT, &path(&id), Some(&options.body()?), members)
            }
            Action::Delete { id } => {
                let done = |_: &Value| format!("cancelled schedule {id}\n");
                admin.ask(&Method::DELETE, &path(&id), None, done)
            }
        }
    }
}
