//! From a row of the outbox table, or a message of the log, to an event and its topic: pure.
//!
//! | of a row | of the event |
//! |---|---|
//! | `id` | `id` |
//! | `type`; `aggregatetype` if it is NULL | `type` |
//! | `aggregateid` | `subject`, `partitionkey` and the key that orders it |
//! | `payload` | data: JSON of `json` and `jsonb`, bytes of `bytea`, text else; none of NULL |
//! | time of the commit | `time` |
//! | `traceparent`, `tracestate`, `correlationid`, `causationid`, `dataschema`, if there are such columns | the attribute |
//! | any other column that is not NULL | a header; an array of text as JSON |

use bytes::Bytes;
use jiff::Timestamp;
use weft_broker::{MessageBuilder, Publish, message::Value as Attribute};
use weft_kernel::{Error, Reason, Result};
use weft_wire::cloudevents::{self, Event};

use crate::{
    array,
    options::{Messages, Table},
    pgoutput::{Relation, Value},
};

/// Microseconds from 1970 to 2000, from where PostgreSQL counts.
const EPOCH: i64 = 946_684_800_000_000;
/// Columns that are attributes of the event, and no headers.
const ATTRIBUTES: [&str; 5] =
    ["traceparent", "tracestate", "correlationid", "causationid", "dataschema"];

/// Numbers of types, of which something is made.
mod kind {
    pub(super) const BYTEA: u32 = 17;
    pub(super) const JSON: u32 = 114;
    pub(super) const JSONB: u32 = 3802;
    /// Arrays of `text`, `varchar` and `char(n)`.
    pub(super) const TEXTS: [u32; 3] = [1009, 1015, 1014];
}

/// An event, and the name of the topic that it goes to.
#[derive(Debug)]
pub struct Routed {
    /// The topic.
    pub topic: String,
    /// The event with its key.
    pub publish: Publish,
}

/// Where the columns of an outbox table stand.
#[derive(Debug)]
pub struct Layout {
    id: usize,
    aggregate_type: usize,
    aggregate_id: usize,
    kind: usize,
    payload: usize,
    relation: Relation,
}

impl Layout {
    /// Finds the columns of a table.
    ///
    /// # Errors
    /// Which one is not there.
    pub fn of(relation: Relation, table: &Table) -> Result<Self, String> {
        let find = |name: &str| {
            let found = relation.columns.iter().position(|column| column.name == name);
            found.ok_or_else(|| format!("table {table} has no column `{name}`"))
        };
        let columns = &table.columns;
        let (id, payload) = (find(&columns.id)?, find(&columns.payload)?);
        let aggregate_type = find(&columns.aggregate_type)?;
        let (aggregate_id, kind) = (find(&columns.aggregate_id)?, find(&columns.kind)?);
        for name in table.to.names() {
            find(name)?;
        }
        Ok(Self { id, aggregate_type, aggregate_id, kind, payload, relation })
    }

    /// The event of a row that was inserted.
    ///
    /// # Errors
    /// [`Reason::MalformedMessage`] with why there is none.
    pub fn event(&self, values: &[Value], table: &Table, source: &str, at: i64) -> Result<Routed> {
        let row = Values { layout: self, values };
        if values.len() != self.relation.columns.len() {
            return Err(malformed("the row does not have the columns of its table"));
        }
        let id = row.text(self.id)?.filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| malformed("the row has no id"))?;
        let topic = table.to.render(|name| row.named(name)).map_err(malformed)?;
        let aggregate_type = row.text(self.aggregate_type)?;
        let event_type = row.text(self.kind)?.filter(|kind| !kind.is_empty()).or(aggregate_type);
        let event_type = event_type.ok_or_else(|| malformed("the row has no type"))?;
        let aggregate_id = row.text(self.aggregate_id)?;
        let payload = row.payload()?;
        let time = time(at);
        let mut builder = MessageBuilder::event(512 + payload.as_ref().map_or(0, Bytes::len))
            .attribute("id", Attribute::Text(id))
            .attribute("source", Attribute::Text(source))
            .attribute("type", Attribute::Text(event_type));
        if let Some(subject) = aggregate_id.filter(|subject| !subject.is_empty()) {
            builder = builder
                .attribute("subject", Attribute::Text(subject))
                .attribute("partitionkey", Attribute::Text(subject));
        }
        builder = builder.attribute("time", Attribute::Text(&time));
        if payload.is_some() {
            let content_type = table.content_type.as_deref().unwrap_or(match self.payload_kind() {
                kind::JSON | kind::JSONB => "application/json",
                kind::BYTEA => "application/octet-stream",
                _ => "text/plain; charset=utf-8",
            });
            builder = builder.attribute("datacontenttype", Attribute::Text(content_type));
        }
        builder = self.rest(&row, builder)?;
        let message = match payload {
            Some(payload) => builder.body(&payload),
            None => builder.no_data(),
        };
        let key = Bytes::copy_from_slice(aggregate_id.unwrap_or_default().as_bytes());
        Ok(Routed { topic, publish: Publish::new(message.finish()?).keyed(key) })
    }

    /// A row as JSON, for who has to see what has become no event.
    pub(crate) fn shown(&self, values: &[Value]) -> Bytes {
        let value = |value: &Value| match value {
            Value::Text(text) => String::from_utf8_lossy(text).into_owned().into(),
            Value::Null | Value::Unchanged => serde_json::Value::Null,
        };
        let columns = self.relation.columns.iter().zip(values);
        let row: serde_json::Map<_, _> =
            columns.map(|(column, of)| (column.name.clone(), value(of))).collect();
        serde_json::Value::Object(row).to_string().into()
    }

    /// What a row has beside the columns that are known.
    fn rest(&self, row: &Values<'_>, mut builder: MessageBuilder) -> Result<MessageBuilder> {
        let known = [self.id, self.aggregate_type, self.aggregate_id, self.kind, self.payload];
        let rest = self.relation.columns.iter().enumerate().filter(|(at, _)| !known.contains(at));
        let mut headers = Vec::new();
        for (at, column) in rest {
            let Some(text) = row.text(at)? else { continue };
            if ATTRIBUTES.contains(&&*column.name) {
                builder = builder.attribute(&column.name, Attribute::Text(text));
                continue;
            }
            let array = kind::TEXTS.contains(&column.kind).then(|| array::json(text)).flatten();
            headers.push((header(&column.name), array.unwrap_or_else(|| text.to_owned())));
        }
        Ok(headers.iter().fold(builder, |builder, (name, value)| builder.header(name, value)))
    }

    fn payload_kind(&self) -> u32 {
        self.relation.columns.get(self.payload).map_or(0, |column| column.kind)
    }
}

struct Values<'a> {
    layout: &'a Layout,
    values: &'a [Value],
}

impl<'a> Values<'a> {
    fn bytes(&self, at: usize) -> Result<Option<&'a Bytes>> {
        match self.values.get(at) {
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(Value::Null) => Ok(None),
            _ => Err(malformed("the server has not sent the whole row")),
        }
    }

    fn text(&self, at: usize) -> Result<Option<&'a str>> {
        let read = |bytes: &'a Bytes| {
            let column = self.layout.relation.columns.get(at).map_or("", |column| &column.name);
            let say = || malformed(format!("what column `{column}` has is no UTF-8"));
            std::str::from_utf8(bytes).map_err(|_not_text| say())
        };
        self.bytes(at)?.map(read).transpose()
    }

    fn named(&self, name: &str) -> Option<&'a str> {
        let at = self.layout.relation.columns.iter().position(|column| column.name == name)?;
        self.text(at).ok().flatten()
    }

    fn payload(&self) -> Result<Option<Bytes>> {
        let Some(bytes) = self.bytes(self.layout.payload)? else { return Ok(None) };
        if self.layout.payload_kind() != kind::BYTEA {
            return Ok(Some(bytes.clone()));
        }
        let decoded = unhex(bytes).ok_or_else(|| malformed("the payload is no bytea in hex"))?;
        Ok(Some(decoded))
    }
}

/// The event of a message of the log.
///
/// # Errors
/// [`Reason::MalformedMessage`] with why there is none.
pub fn message(content: &[u8], messages: &Messages, at: i64) -> Result<Routed> {
    let event = cloudevents::json::parse(content).map_err(|fault| {
        malformed(format!("the message of the log is no event in JSON: {fault}"))
    })?;
    let time = time(at);
    let event = match event.time {
        Some(_) => event,
        None => Event { time: Some(time.into()), ..event },
    };
    let extension = |name: &str| match event.extension(name)? {
        cloudevents::Attribute::Text(text) => Some(&**text),
        _ => None,
    };
    let value = |name: &str| match name {
        "id" => Some(&*event.id),
        "source" => Some(&*event.source),
        "type" => Some(&*event.kind),
        "subject" => event.subject.as_deref(),
        name => extension(name),
    };
    let topic = messages.to.render(value).map_err(malformed)?;
    let key = extension("partitionkey").or(event.subject.as_deref()).unwrap_or_default();
    let key = Bytes::copy_from_slice(key.as_bytes());
    let message = MessageBuilder::from_wire(&event, &[])?;
    Ok(Routed { topic, publish: Publish::new(message).keyed(key) })
}

fn malformed(say: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(Reason::MalformedMessage, say)
}

/// The name of a column as the name of a header.
fn header(column: &str) -> String {
    let is_token = |byte: char| byte.is_ascii_alphanumeric() || matches!(byte, '-' | '_' | '.');
    column.chars().map(|c| if is_token(c) { c.to_ascii_lowercase() } else { '-' }).collect()
}

/// Microseconds since 2000 as RFC 3339.
fn time(at: i64) -> String {
    let time = Timestamp::from_microsecond(at.saturating_add(EPOCH));
    time.map_or_else(|_beyond| "1970-01-01T00:00:00Z".into(), |time| time.to_string())
}

/// Milliseconds since 1970 of microseconds since 2000.
pub(crate) fn unix_ms(at: i64) -> u64 {
    u64::try_from(at.saturating_add(EPOCH) / 1_000).unwrap_or(0)
}

/// The bytes of `\x…`.
fn unhex(text: &[u8]) -> Option<Bytes> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|it| u8::try_from(it).ok());
    let (pairs, odd) = text.strip_prefix(b"\\x")?.as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?));
    if odd.is_empty() { bytes.collect::<Option<Vec<u8>>>().map(Bytes::from) } else { None }
}

#[cfg(test)]
mod tests;
