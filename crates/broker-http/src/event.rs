//! Between the events of the wire and the messages of the broker.
//!
//! What a publisher said comes back as it was said: attributes, their types, and whether the data is
//! JSON, text, bytes or nothing at all.

use std::borrow::Cow;

use bytes::Bytes;
use weft_broker::{
    Message, MessageBuilder,
    message::{Form, Item},
};
use weft_kernel::{Error, Reason, Result};
use weft_wire::{
    Fields,
    cloudevents::{Attribute, EXTENSIONS_MAX, Event, Fault},
};

/// The attribute that holds an event's key (the partitioning extension of CloudEvents).
pub(crate) const PARTITION_KEY: &str = "partitionkey";
/// The attribute that holds an event's trace (the distributed tracing extension of CloudEvents).
pub(crate) const TRACEPARENT: &str = "traceparent";

/// The attribute that says which events belong together.
pub(crate) const CORRELATION: &str = "correlationid";
/// The attribute that says what has caused an event.
pub(crate) const CAUSATION: &str = "causationid";

/// What events get of the request that they come with, unless they say it themselves.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Origin<'a> {
    /// Their trace.
    traceparent: Option<&'a str>,
    /// The `X-Correlation-ID` of the request.
    correlation: Option<&'a str>,
    /// Its `X-Causation-ID`.
    causation: Option<&'a str>,
    /// Whether each has a correlation id at the end: else the trace id, and without a trace its own id.
    is_correlated: bool,
}

impl<'a> Origin<'a> {
    /// A request with these fields, of a trace.
    pub(crate) fn of(fields: &'a Fields, traceparent: Option<&'a str>) -> Self {
        let text = |name| std::str::from_utf8(fields.named(name)?).ok().map(str::trim);
        let id = |name| text(name).filter(|id: &&str| !id.is_empty());
        let (correlation, causation) = (id("x-correlation-id"), id("x-causation-id"));
        Self { traceparent, correlation, causation, is_correlated: false }
    }

    /// A request of which nothing but the trace matters.
    pub(crate) fn traced(traceparent: Option<&'a str>) -> Self {
        Self { traceparent, ..Self::default() }
    }

    /// The same, and events have a correlation id in any case.
    pub(crate) fn correlated(self) -> Self {
        Self { is_correlated: true, ..self }
    }

    /// The correlation id of an event that has none.
    fn correlation_of(&self, event: &Event<'a>) -> Option<Cow<'a, str>> {
        // Version, trace id, span id, flags.
        let trace_id = || self.traceparent.and_then(|trace| trace.split('-').nth(1));
        let id = self.correlation.or_else(|| trace_id().filter(|_| self.is_correlated));
        id.map(Cow::Borrowed).or_else(|| self.is_correlated.then(|| event.id.clone()))
    }
}

/// The message of an event, with what it gets of its request.
///
/// # Errors
/// [`Reason::MessageTooLarge`] if its attributes are larger than a head may be.
pub(crate) fn store<'a>(mut event: Event<'a>, origin: &Origin<'a>) -> Result<Message> {
    let correlation = origin.correlation_of(&event);
    for (name, value) in [
        (TRACEPARENT, origin.traceparent.map(Cow::Borrowed)),
        (CORRELATION, correlation),
        (CAUSATION, origin.causation.map(Cow::Borrowed)),
    ] {
        if let Some(value) = value
            && event.extension(name).is_none()
            && event.extensions.len() < EXTENSIONS_MAX
        {
            event.extensions.push((name.into(), Attribute::Text(value)));
        }
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
