//! The command line: one enumeration of commands, each in a file of its own.

pub mod admin;
pub mod check;
mod columns;
pub mod config;
pub mod consumer;
pub mod engine;
pub mod explain;
pub mod key;
pub mod ledger;
pub mod listener;
pub mod message;
mod options;
pub mod outbox;
pub mod projection;
pub mod queue;
pub mod quota;
mod receive;
pub mod route;
pub mod schedule;
pub mod schema;
pub mod service;
pub mod status;
pub mod stream;
pub mod subject;
pub mod subscription;
pub mod topic;
pub mod up;
pub mod verbs;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand, ValueEnum};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{admin as admin_api, components};

/// The communication layer of a fleet of microservices.
#[derive(Debug, Parser)]
#[command(name = "weft", version, about, propagate_version = true)]
pub struct Cli {
    /// Subcommand.
    #[command(subcommand)]
    pub command: Command,
}

/// Subcommand.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a node.
    Up(up::Up),
    /// Validate a configuration and report every error in it, without opening a port.
    Check(check::Check),
    /// Print the JSON Schema of the configuration, for editors.
    Schema(schema::Schema),
    /// Print the configuration in effect: every value, and where it came from.
    Config(config::Config),
    /// Show the status of a running node.
    Status(status::Status),
    /// The noun of listeners.
    #[command(about = admin_api::LISTENER.title())]
    Listener(listener::Listener),
    /// The noun of routes.
    #[command(about = admin_api::ROUTE.title())]
    Route(route::Route),
    /// Nouns that components add.
    #[command(flatten)]
    Component(components::Noun),
    /// Explain which route a request gets, and why.
    Explain(explain::Explain),
    /// Draw API keys, and work out the digests that stand for them in a configuration.
    Key(key::Key),
}

/// Location of the configuration.
#[derive(Clone, Debug, Args)]
pub struct ConfigPath {
    /// A YAML file, or a folder of them.
    #[arg(long = "config", short = 'c', env = "WEFT_CONFIG", default_value = "weft.yaml")]
    pub path: PathBuf,
}

/// Output format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Text, for people.
    #[default]
    Text,
    /// JSON, for programs.
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
            Command::Listener(listener) => listener.run(),
            Command::Route(route) => route.run(),
            Command::Component(noun) => noun.run(),
            Command::Explain(explain) => explain.run(),
            Command::Key(key) => key.run(),
        }
    }
}

/// Writes to the standard output; a reader that has gone away is no error.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    print_to_reader(text).map(drop)
}

/// Writes to the standard output what is of use only if somebody reads it.
pub(crate) fn print_to_reader(text: &str) -> anyhow::Result<Reader> {
    write(&mut std::io::stdout().lock(), text)
}

/// Writes to the standard error; a reader that has gone away is no error.
pub(crate) fn print_error(text: &str) -> anyhow::Result<()> {
    write(&mut std::io::stderr().lock(), text).map(drop)
}

/// Whether what is printed is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// As far as is known.
    Present,
    /// The other end of the pipe is closed.
    Gone,
}

/// Looks whether anybody reads the standard output, without writing.
pub(crate) fn reader() -> Reader {
    let stdout = std::io::stdout();
    let mut output = [PollFd::new(&stdout, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    match poll(&mut output, Some(&now)) {
        Ok(1..) if output[0].revents().intersects(PollFlags::ERR | PollFlags::HUP) => Reader::Gone,
        _ => Reader::Present,
    }
}

/// Tells what went wrong, and what it came of; never with the way through the code, whatever the environment
/// asks for, since that is for who writes Weft, not for who runs it.
pub fn failed(error: &anyhow::Error) -> ExitCode {
    let mut text = format!("error: {error}\n");
    let mut last = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        // A cause that is said already is not said again.
        if !last.ends_with(&cause) {
            text.push_str(&format!("  because: {cause}\n"));
        }
        last = cause;
    }
    // There is nowhere left to say it if this fails.
    let _ = print_error(&text);
    ExitCode::FAILURE
}

fn write(out: &mut impl std::io::Write, text: &str) -> anyhow::Result<Reader> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(Reader::Present),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(error.into()),
    }
}
