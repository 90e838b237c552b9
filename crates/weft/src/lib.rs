//! The binary's own room: command line, configuration, and what joins the other rooms.
//!
//! Reading order: [`cli`] (what can be asked of Weft), [`config`] (from YAML to a checked plan).

pub mod admin;
pub mod cli;
pub mod config;
pub mod node;
