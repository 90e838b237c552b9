//! The room from outside: a scrape, and a log on disk.
#![allow(clippy::unwrap_used)]

mod access;
mod scrape;
