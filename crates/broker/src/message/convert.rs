//! From one form to the other, only for readers that want it.
//!
//! An event becomes an AMQP message by the CloudEvents AMQP binding in its AMQP 0-9-1 reading: the
//! attributes are headers that begin with `cloudEvents:`, the content type is the property. An AMQP
//! message that carries an event (headers of that prefix or `cloudEvents_`, or structured JSON) becomes
//! that event; any other, also one whose event is malformed, becomes an event of the type of its property `type`, or `amqp.message`, from
//! the source `/amqp/{exchange}`, with its application headers as headers.

use std::borrow::Cow;

use jiff::Timestamp;
use weft_kernel::{Error, Reason, Result};
use weft_wire::{
    amqp::{Properties, Table, TableWriter, Value as Field},
    cloudevents::{self, Attribute, Event as Wire},
};

use super::{Amqp, Form, Item, Message, MessageBuilder, Value};

impl MessageBuilder {
    /// An event as the codecs read it, whole.
    ///
    /// # Errors
    /// As [`MessageBuilder::finish`].
    pub fn from_wire(event: &Wire<'_>, headers: &[(&str, &str)]) -> Result<Message> {
        let data = event.data.as_deref();
        let mut builder = Self::event(256 + data.map_or(0, <[u8]>::len))
            .attribute("id", Value::Text(&event.id))
            .attribute("source", Value::Text(&event.source))
            .attribute("type", Value::Text(&event.kind));
        for (name, value) in [
            ("subject", &event.subject),
            ("time", &event.time),
            ("datacontenttype", &event.data_content_type),
            ("dataschema", &event.data_schema),
        ] {
            if let Some(value) = value {
                builder = builder.attribute(name, Value::Text(value));
            }
        }
        for (name, value) in &event.extensions {
            builder = builder.attribute(
                name,
                match value {
                    Attribute::Text(text) => Value::Text(text),
                    Attribute::Bool(truth) => Value::Boolean(*truth),
                    Attribute::Integer(number) => Value::Integer(*number),
                    Attribute::Binary(bytes) => Value::Binary(bytes),
                },
            );
        }
        for (name, value) in headers {
            builder = builder.header(name, value);
        }
        match data {
            Some(data) => builder.body(data),
            None => builder.no_data(),
        }
        .finish()
    }
}

impl Message {
    /// The event as the codecs write it; `body` is the message's own body. `None` for another form:
    /// [`Message::to_event`] comes first.
    pub fn to_wire<'a>(&'a self, body: &'a [u8]) -> Option<Wire<'a>> {
        let event = self.event()?;
        let mut wire = Wire::default();
        let mut data = Some(Cow::Borrowed(body));
        for item in event.items() {
            match item {
                Item::Attribute("id", Value::Text(text)) => wire.id = text.into(),
                Item::Attribute("source", Value::Text(text)) => wire.source = text.into(),
                Item::Attribute("type", Value::Text(text)) => wire.kind = text.into(),
                Item::Attribute("subject", Value::Text(text)) => wire.subject = Some(text.into()),
                Item::Attribute("time", Value::Text(text)) => wire.time = Some(text.into()),
                Item::Attribute("datacontenttype", Value::Text(text)) => {
                    wire.data_content_type = Some(text.into());
                }
                Item::Attribute("dataschema", Value::Text(text)) => {
                    wire.data_schema = Some(text.into());
                }
                Item::Attribute(name, value) => wire.extensions.push((
                    name.into(),
                    match value {
                        Value::Text(text) => Attribute::Text(text.into()),
                        Value::Integer(number) => Attribute::Integer(number),
                        Value::Boolean(truth) => Attribute::Bool(truth),
                        Value::Binary(bytes) => Attribute::Binary(bytes.into()),
                    },
                )),
                Item::Header(..) => {}
                Item::NoData => data = None,
            }
        }
        wire.data = data;
        Some(wire)
    }

    /// What `say` says of the event that an AMQP message carries; `None` if it carries none.
    pub(crate) fn carried<T>(&self, say: impl FnOnce(&Wire<'_>) -> T) -> Option<T> {
        let properties = Properties::parse(self.amqp()?.properties).ok()?;
        let body = self.body();
        let event = cloudevents::amqp::parse(&properties, &body)?.ok()?;
        Some(say(&event))
    }

    /// This message as an event; `id` is what it is called if it has no id of its own.
    ///
    /// # Errors
    /// [`Reason::MalformedMessage`] when its properties cannot be read.
    pub fn to_event(&self, id: &str) -> Result<Self> {
        let Some(amqp) = self.amqp() else {
            if self.form == Form::Event {
                return Ok(self.clone());
            }
            return Err(malformed("the head of the message cannot be read"));
        };
        let properties = Properties::parse(amqp.properties)
            .map_err(|error| malformed("the properties cannot be read").because(error))?;
        let body = self.body();
        // What claims to be an event and is none is an AMQP message like any other: it was taken, and
        // whoever consumes it must be able to get past it.
        let carried =
            cloudevents::amqp::parse(&properties, &body).and_then(Result::ok).and_then(|event| {
                let headers =
                    texts(&properties, |name| cloudevents::amqp::attribute_of(name).is_none());
                MessageBuilder::from_wire(&event, &pairs(&headers)).ok()
            });
        let mut message = match carried {
            Some(event) => event,
            None => {
                let headers = texts(&properties, |_| true);
                plain(&amqp, &properties, &pairs(&headers), &body, id)
                    .or_else(|_too_large| plain(&amqp, &properties, &[], &body, id))?
            }
        };
        message.death = self.death.clone();
        Ok(message)
    }

    /// This message as an AMQP 0-9-1 message, as if published to an exchange with a routing key.
    ///
    /// # Errors
    /// [`Reason::MessageTooLarge`] when its attributes do not fit the properties.
    pub fn to_amqp(&self, exchange: &str, routing_key: &str) -> Result<Self> {
        let body = self.body();
        let Some(event) = self.event() else { return Ok(self.clone()) };
        let Some(wire) = self.to_wire(&body) else { return Ok(self.clone()) };
        let mut table = Vec::new();
        {
            let mut writer = TableWriter::new(&mut table);
            for item in event.items() {
                if let Item::Header(name, value) = item
                    && name.len() <= 255
                {
                    writer.entry(name, Field::Long(value.as_bytes()));
                }
            }
        }
        let text =
            |name: &str| event.get(name).and_then(Value::as_text).filter(|text| text.len() <= 255);
        let others = Properties {
            headers: Table::parse(table.get(4..).unwrap_or_default()).ok(),
            delivery_mode: Some(2),
            correlation_id: text("correlationid"),
            reply_to: text("replyto"),
            message_id: text("id"),
            kind: text("type"),
            ..Properties::default()
        };
        let mut properties = Vec::with_capacity(512);
        cloudevents::amqp::write(&wire, &others, &mut properties);
        let mut message = MessageBuilder::amqp(exchange, routing_key, &properties, body.len())?
            .body(&body)
            .finish()?;
        message.death = self.death.clone();
        Ok(message)
    }
}

/// An AMQP message that carries no event, as one.
fn plain(
    amqp: &Amqp<'_>,
    properties: &Properties<'_>,
    headers: &[(&str, &str)],
    body: &[u8],
    id: &str,
) -> Result<Message> {
    let source = format!("/amqp/{}", amqp.exchange);
    let time = properties
        .timestamp
        .and_then(|seconds| Timestamp::from_second(i64::try_from(seconds).ok()?).ok())
        .map(|time| time.to_string());
    let id = properties.message_id.filter(|id| !id.is_empty()).unwrap_or(id);
    let kind = properties.kind.filter(|kind| !kind.is_empty());
    let mut builder = MessageBuilder::event(256 + body.len())
        .attribute("id", Value::Text(id))
        .attribute("source", Value::Text(&source))
        .attribute("type", Value::Text(kind.unwrap_or("amqp.message")));
    for (name, value) in [
        ("subject", Some(amqp.routing_key).filter(|key| !key.is_empty())),
        ("time", time.as_deref()),
        ("datacontenttype", properties.content_type),
        ("correlationid", properties.correlation_id),
        ("replyto", properties.reply_to),
        ("appid", properties.app_id),
    ] {
        if let Some(value) = value {
            builder = builder.attribute(name, Value::Text(value));
        }
    }
    for (name, value) in headers {
        builder = builder.header(name, value);
    }
    builder.body(body).finish()
}

/// The headers of these names that are texts, truths or whole numbers, as texts.
fn texts<'a>(
    properties: &Properties<'a>,
    takes: impl Fn(&str) -> bool,
) -> Vec<(&'a str, Cow<'a, str>)> {
    properties
        .headers
        .iter()
        .flat_map(Table::iter)
        .filter(|(name, _)| takes(name))
        .filter_map(|(name, value)| Some((name, text_of(value)?)))
        .collect()
}

fn pairs<'a>(headers: &'a [(&'a str, Cow<'a, str>)]) -> Vec<(&'a str, &'a str)> {
    headers.iter().map(|(name, value)| (*name, &**value)).collect()
}

fn text_of(value: Field<'_>) -> Option<Cow<'_, str>> {
    if let Some(text) = value.text() {
        return Some(Cow::Borrowed(text));
    }
    if let Field::Bool(truth) = value {
        return Some(Cow::Borrowed(if truth { "true" } else { "false" }));
    }
    value.integer().map(|number| Cow::Owned(number.to_string()))
}

fn malformed(why: &'static str) -> Error {
    Error::new(Reason::MalformedMessage, why)
}

#[cfg(test)]
mod tests;
