//! Outboxes of servers that follow a script: what is cut, what lies, and what does not fit.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod once;
mod server;
mod trouble;
