//! The room from outside: a scrape, a log on disk, and a collector on a socket.
#![allow(clippy::unwrap_used)]

mod access;
mod otlp;
mod scrape;
