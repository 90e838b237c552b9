//! What is said about outboxes.

use weft_kernel::Name;

use crate::config::{
    catalogue::KeyOf,
    leaf::{InputFile, Named, Secret, Span},
    setting::{At, Field, settings},
};

/// Outboxes.
pub const OUTBOXES: KeyOf<Named<OutboxSection>> = KeyOf::new(
    "outboxes",
    "Outboxes by name: tables or logs of PostgreSQL databases that are published to topics, exactly once.",
);

/// All of them.
pub const ALL: &[Field] = &[OUTBOXES.field()];

settings! {
    /// Outbox: what services commit to a PostgreSQL database, published to topics exactly once and in the order of
    /// the commits.
    pub struct OutboxSection = "outbox" {
        /// URL of the database: `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, of a role that may replicate. TLS is
        /// spoken, and the server's certificate checked, unless the host is this machine or `?sslmode=disable` stands
        /// there. `file:PATH` reads it from a file.
        database: At<Secret>,
        /// Authority of the server's certificate, in PEM; those of the system if it is left out.
        ca_file: Option<At<InputFile>>,
        /// Table whose rows are published as they are inserted.
        table: Option<At<TableSection>>,
        /// Messages of the log that are published.
        messages: Option<At<LogSection>>,
        /// Name of the replication slot; `weft_NAME` if it is left out.
        slot: Option<At<String>>,
        /// Name of the publication, which is made if it is not there; that of the slot if it is left out.
        publication: Option<At<String>>,
        /// Attribute `source` of events that are made of rows; `/weft/outboxes/NAME` if it is left out.
        source: Option<String>,
        /// Queue for what topics refuse, and for what is no event. Without one the outbox stands still until that
        /// is mended.
        refused_to: Option<At<Name>>,
        /// How often the server is looked at, and its slot moved on while nothing is published.
        heartbeat: At<Span> = "10s",
        /// Whether the node is not ready while the outbox stands still.
        required: bool = "false",
    }

    /// Outbox table, with columns as Debezium's outbox event router has them. What a row has beside them comes as
    /// headers.
    pub struct TableSection = "outbox table", short "name" {
        /// Name of the table, with its schema before a dot if that is not `public`.
        name: At<String>,
        /// Topic of a row; `{COLUMN}` stands for what a column has.
        to: At<String> = "outbox.event.{aggregatetype}",
        /// Column of the event's id.
        id: At<String> = "id",
        /// Column of what it happened to, by kind.
        aggregate_type: At<String> = "aggregatetype",
        /// Column of what it happened to: the key that orders events, and their `subject`.
        aggregate_id: At<String> = "aggregateid",
        /// Column of the event's type.
        event_type("type"): At<String> = "type",
        /// Column of the event's data.
        payload: At<String> = "payload",
        /// Attribute `datacontenttype` of the events; by the type of the column if it is left out.
        content_type: Option<String>,
    }

    /// Messages of the log, `SELECT pg_logical_emit_message(true, PREFIX, EVENT)`: an outbox without a table. The
    /// event is JSON of CloudEvents.
    pub struct LogSection = "log messages", short "prefix" {
        /// Their prefix.
        prefix: At<String>,
        /// Topic of an event; `{ATTRIBUTE}` stands for what an attribute has.
        to: At<String> = "'{type}'",
    }
}
