//! The shop: an example fleet of eight small services, one process each.
//!
//! They know nothing of Weft but a URL: no library of it is on their request path, so what the tour
//! shows works for services in any language. All state is in memory and bounded, and each instance
//! has its own. Every instance can be made slow, faulty or deaf while it runs (`PUT /knobs`).

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is a command-line program")]

mod accounts;
mod call;
mod cli;
mod failure;
mod inventory;
mod invoices;
mod knobs;
mod notifications;
mod orders;
mod payments;
mod proto;
mod server;
mod shipping;
mod store;
mod trace;
mod upstream;
mod users;

use std::process::ExitCode;

use clap::Parser;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let outcome = match cli::Cli::parse().command {
        cli::Command::Call(call) => call::run(call).await,
        cli::Command::Serve(service, options) => server::run(service, options).await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
