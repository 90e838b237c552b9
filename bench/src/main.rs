//! Benchmarks that measure Weft side by side with its peers, and gate on the ratios.
//!
//! Absolute figures on a shared machine mean little, so everything is measured in one go, in turns, and
//! what is judged are ratios. `bench proxy` compares with nginx, HAProxy and Envoy; `bench edge` with itself
//! and with Envoy, both asking who calls and how often; `bench broker` with RabbitMQ and NATS JetStream; `bench events` with PostgreSQL;
//! `bench instructions` counts the instructions of Weft alone, which no neighbour can disturb, and compares
//! them with what is committed.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the report is what this program is for"
)]

mod asked;
mod broker;
mod certificates;
mod child;
mod disk;
mod edge;
mod events;
mod gate;
mod http1;
mod instructions;
mod latency;
mod load;
mod memory;
mod message;
mod peer;
mod poll;
mod proxy;
mod record;
mod report;
mod rounds;
mod routes;
mod scenario;
mod spin;
mod stop;
mod testbed;
mod upstream;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "bench", about = "Measure Weft side by side with its peers")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Weft beside nginx, HAProxy and Envoy.
    Proxy(proxy::Options),
    /// Weft beside Envoy, both asking who calls and how often.
    Edge(edge::Options),
    /// Weft beside RabbitMQ and NATS JetStream.
    Broker(broker::Options),
    /// The event store, as a node and as a library, beside a table of events in PostgreSQL.
    Events(events::Options),
    /// User instructions per request of Weft alone, against those committed.
    Instructions(instructions::Options),
    /// The server that all proxies lead to; ends with its standard input.
    #[command(hide = true)]
    Upstream(upstream::Options),
    /// Keeps a processor awake with what nobody else wants of it; ends with its standard input.
    #[command(hide = true)]
    Spin,
}

fn main() -> anyhow::Result<ExitCode> {
    let done = |()| ExitCode::SUCCESS;
    match Cli::parse().command {
        Command::Proxy(options) => proxy::run(&options),
        Command::Edge(options) => edge::run(&options),
        Command::Broker(options) => broker::run(&options),
        Command::Events(options) => events::run(&options),
        Command::Instructions(options) => instructions::run(&options),
        Command::Upstream(options) => upstream::run(&options).map(done),
        Command::Spin => {
            spin::run();
            Ok(ExitCode::SUCCESS)
        }
    }
}
