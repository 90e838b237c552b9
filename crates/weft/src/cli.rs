//! The command line: one enumeration of commands, each in a file of its own.

pub mod admin;
pub mod check;
mod columns;
pub mod config;
pub mod explain;
pub mod ledger;
pub mod message;
pub mod queue;
mod receive;
pub mod route;
pub mod schedule;
pub mod schema;
pub mod service;
pub mod status;
pub mod subscription;
pub mod topic;
pub mod up;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand, ValueEnum};

/// The communication layer of a fleet of microservices.
#[derive(Debug, Parser)]
#[command(name = "weft", version, about, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a node.
    Up(up::Up),
    /// Tell everything that is wrong with a configuration, without opening a port.
    Check(check::Check),
    /// Print the JSON Schema of the configuration, for editors.
    Schema(schema::Schema),
    /// Print the configuration in effect: every value, and where it came from.
    Config(config::Config),
    /// Tell how a running node is.
    Status(status::Status),
    /// Show the routes of a running node.
    Route(route::Route),
    /// Show the services of a running node; take their endpoints out and back.
    Service(service::Service),
    /// Topics: durable logs of messages that many subscriptions read.
    Topic(topic::Topic),
    /// Queues: messages that are each handled once.
    Queue(queue::Queue),
    /// Subscriptions: cursors over topics.
    Subscription(subscription::Subscription),
    /// Messages: publish them, follow them, look at one.
    Message(message::Message),
    /// Messages that are published later, or again and again.
    Schedule(schedule::Schedule),
    /// Where messages are kept: look at it, verify it, back it up and restore it.
    Ledger(ledger::Ledger),
    /// Tell why a request gets the route that it gets.
    Explain(explain::Explain),
}

/// Where the configuration is.
#[derive(Clone, Debug, Args)]
pub struct ConfigPath {
    /// A YAML file, or a folder of them.
    #[arg(long = "config", short = 'c', env = "WEFT_CONFIG", default_value = "weft.yaml")]
    pub path: PathBuf,
}

/// How output looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

impl Cli {
    /// Does it; the exit code says how it went.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Up(up) => up.run(),
            Command::Check(check) => check.run(),
            Command::Schema(schema) => schema.run(),
            Command::Config(config) => config.run(),
            Command::Status(status) => status.run(),
            Command::Route(route) => route.run(),
            Command::Service(service) => service.run(),
            Command::Topic(topic) => topic.run(),
            Command::Queue(queue) => queue.run(),
            Command::Subscription(subscription) => subscription.run(),
            Command::Message(message) => message.run(),
            Command::Schedule(schedule) => schedule.run(),
            Command::Ledger(ledger) => ledger.run(),
            Command::Explain(explain) => explain.run(),
        }
    }
}

/// Writes to the standard output; a reader that has gone away is no error.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    write(&mut std::io::stdout().lock(), text)
}

/// Writes to the standard error; a reader that has gone away is no error.
pub(crate) fn print_error(text: &str) -> anyhow::Result<()> {
    write(&mut std::io::stderr().lock(), text)
}

fn write(out: &mut impl std::io::Write, text: &str) -> anyhow::Result<()> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
