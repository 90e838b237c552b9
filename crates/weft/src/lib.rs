//! The binary's own room: command line, configuration, and what joins the other rooms.
//!
//! Reading order: [`cli`] (what can be asked of Weft), [`config`] (from YAML to a checked plan),
//! [`component`] (what a capability of the node is), [`components`] (which there are), [`node`] (what runs them).

pub mod admin;
pub mod cli;
pub mod component;
pub mod components;
pub mod config;
pub mod node;
