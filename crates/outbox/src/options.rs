//! What an outbox is to read, and where to.

use std::{fmt, time::Duration};

use weft_broker::Key;
use weft_kernel::Name;

use crate::{database::Database, template::Template};

/// An outbox.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Its name.
    pub name: Name,
    /// The database that it is read from.
    pub database: Database,
    /// Name of its replication slot: 1 to 63 of `a-z`, `0-9` and `_`.
    pub slot: String,
    /// Name of its publication.
    pub publication: String,
    /// The table whose rows are published as they are inserted.
    pub table: Option<Table>,
    /// The messages of the log that are published.
    pub messages: Option<Messages>,
    /// The `source` of events that are made of rows.
    pub source: String,
    /// The queue that takes what topics refuse for what it is; without one the outbox stands still then.
    pub refused_to: Option<Key>,
    /// How often the server is looked at, and told that everything was published while nothing is.
    pub heartbeat: Duration,
}

/// An outbox table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// The names of its columns.
    pub columns: Columns,
    /// The topic of a row, by its columns.
    pub to: Template,
    /// The `datacontenttype` of its payloads; what the type of the column says if it is left out.
    pub content_type: Option<String>,
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// The names of the columns of an outbox table, as Debezium has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    /// Column of the event's id.
    pub id: String,
    /// Column of what it happened to, by kind.
    pub aggregate_type: String,
    /// Column of what it happened to, which orders events.
    pub aggregate_id: String,
    /// Column of the event's type.
    pub kind: String,
    /// Column of the event's data.
    pub payload: String,
}

impl Default for Columns {
    fn default() -> Self {
        Self {
            id: "id".into(),
            aggregate_type: "aggregatetype".into(),
            aggregate_id: "aggregateid".into(),
            kind: "type".into(),
            payload: "payload".into(),
        }
    }
}

/// Messages of the log: `pg_logical_emit_message(true, PREFIX, EVENT)`, where the event is JSON of CloudEvents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Messages {
    /// Their prefix.
    pub prefix: String,
    /// The topic of an event, by its attributes.
    pub to: Template,
}

/// Whether a text can be the name of a slot.
pub fn is_slot(text: &str) -> bool {
    let is_char = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
    (1..=63).contains(&text.len()) && text.bytes().all(is_char)
}

/// Whether a text can be the name of a table, schema, column or publication.
pub fn is_identifier(text: &str) -> bool {
    (1..=63).contains(&text.len()) && !text.contains('\0')
}
