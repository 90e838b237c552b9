//! Between the events of the wire and the messages of the broker.
//!
//! What a publisher said comes back as it was said: attributes, their types, and whether the data is
//! JSON, text, bytes or nothing at all.

use bytes::Bytes;
use weft_broker::{
    Message, MessageBuilder,
    message::{Form, Item},
};
use weft_kernel::{Error, Reason, Result};
use weft_wire::cloudevents::{Attribute, EXTENSIONS_MAX, Event, Fault};

/// The attribute that holds an event's key (the partitioning extension of CloudEvents).
pub(crate) const PARTITION_KEY: &str = "partitionkey";
/// The attribute that holds an event's trace (the distributed tracing extension of CloudEvents).
pub(crate) const TRACEPARENT: &str = "traceparent";

/// The message of an event; `traceparent` is added if the event has none.
///
/// # Errors
/// [`Reason::MessageTooLarge`] if its attributes are larger than a head may be.
pub(crate) fn store<'a>(mut event: Event<'a>, traceparent: Option<&'a str>) -> Result<Message> {
    if let Some(trace) = traceparent
        && event.extension(TRACEPARENT).is_none()
        && event.extensions.len() < EXTENSIONS_MAX
    {
        event.extensions.push((TRACEPARENT.into(), Attribute::Text(trace.into())));
    }
    MessageBuilder::from_wire(&event, &[])
}

/// Hands the event of a message and its body to `read`. A message of another form is converted first;
/// without an id of its own it is then called by its position.
///
/// # Errors
/// If it cannot be converted.
pub(crate) fn with<R>(
    message: &Message,
    position: u64,
    read: impl FnOnce(&Event<'_>, &Bytes) -> R,
) -> Result<R> {
    let converted;
    let message = match message.form() {
        Form::Event => message,
        Form::Amqp => {
            converted = message.to_event(&position.to_string())?;
            &converted
        }
    };
    let body = message.body();
    let event = message.to_wire(&body).ok_or_else(|| {
        Error::new(Reason::StorageCorrupt, "the message cannot be read as an event")
    })?;
    Ok(read(&event, &body))
}

/// The headers of a message that are no attributes of an event.
pub(crate) fn headers(message: &Message) -> Vec<(&str, &str)> {
    let Some(event) = message.event() else { return Vec::new() };
    event
        .items()
        .filter_map(
            |item| if let Item::Header(name, value) = item { Some((name, value)) } else { None },
        )
        .collect()
}

/// The error of a fault in an event.
pub(crate) fn refused(fault: &Fault) -> Error {
    let say = match fault.index {
        Some(index) => format!("event {index}: {fault}"),
        None => fault.to_string(),
    };
    Error::new(Reason::MalformedMessage, say)
}

#[cfg(test)]
mod tests;
