//! Registry of schemas: subjects with versions, ids that are the same everywhere, and compatibility.
//!
//! A schema is Avro, JSON Schema or Protobuf. It is registered under a subject, as a version of it, and has one id
//! wherever it is registered. A subject has a level of compatibility, to which new versions are held.
//!
//! Invariants:
//! - An id stands for one schema for as long as anybody uses it; of two registrations of the same schema one makes it.
//! - A change is one transaction of the ledger; what was answered is on disk.
//! - What comes in is read in bounded time and memory: sizes, depths, references and steps of a comparison have bounds.
//! - What cannot be seen to fit is told not to fit, with its path and cause.
//!
//! The words and codes are those of Confluent's Schema Registry, so that its clients find what they know. Deliberately
//! absent: HTTP (a front hands in bytes), messages and topics, and reading of references from anywhere but the registry.
//!
//! Reading order: [`schema`], `avro`, `json`, `protobuf`, [`issue`], [`compatibility`] (the pure parts); `row`,
//! [`registry`] (what is kept); [`error`].

mod avro;
pub mod compatibility;
pub mod error;
pub mod issue;
mod json;
mod protobuf;
pub mod registry;
mod row;
pub mod schema;

pub use compatibility::{Level, Mode};
pub use error::Error;
pub use registry::{
    Deleted, Draft, HELD_VERSIONS_MAX, Kept, PayloadVerdict, Registered, Registry, SubjectSettings,
    Which,
};
pub use row::Reference;
pub use schema::{Format, PayloadFault, SCHEMA_BYTES_MAX, Schema};
