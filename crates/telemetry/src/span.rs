//! Finished spans and the bounded queue that takes them off the request path.
//!
//! A span is plain data, filled in when its request is over and only if it is to be exported
//! ([`Context::exports`](crate::trace::Context::exports)). The queue never makes a request wait: what
//! finds it full is dropped and counted.

use std::borrow::Cow;

use tokio::sync::mpsc;

use crate::metrics::SpanMeter;

/// The most spans that wait for export unless configured otherwise.
pub const QUEUE_DEFAULT: usize = 8_192;

/// What the span did in its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Kind {
    /// Took a request.
    #[default]
    Server,
    /// Sent a request: one try at an endpoint.
    Client,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A text.
    Text(Cow<'static, str>),
    /// A whole number.
    Int(i64),
    /// A yes or no.
    Bool(bool),
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<bool> for Value {
    fn from(yes: bool) -> Self {
        Self::Bool(yes)
    }
}

/// How it ended, as OpenTelemetry says it.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Status {
    /// Nothing to say; the usual status of what went well.
    #[default]
    Unset,
    /// It failed, and why.
    Error(Cow<'static, str>),
}

/// One finished span.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SpanRecord {
    /// The trace; must not be 0.
    pub trace_id: u128,
    /// The span; must not be 0.
    pub span_id: u64,
    /// The span above it; 0 at the root.
    pub parent_id: u64,
    /// Whether the trace is sampled, as opposed to a failed span that is exported all the same.
    pub sampled: bool,
    /// The caller's `tracestate`.
    pub tracestate: Option<Box<str>>,
    /// A name with few values, such as the method and the route.
    pub name: Cow<'static, str>,
    /// Server or client.
    pub kind: Kind,
    /// When it began, in nanoseconds since 1970.
    pub start_nanos: u64,
    /// When it ended, in nanoseconds since 1970.
    pub end_nanos: u64,
    /// What else is known of it, by OpenTelemetry's names.
    pub attributes: Vec<(&'static str, Value)>,
    /// How it ended.
    pub status: Status,
}

/// Makes a queue for at most `capacity` spans (at least one).
pub fn queue(capacity: usize, meter: SpanMeter) -> (Sender, Queue) {
    let (sender, receiver) = mpsc::channel(capacity.max(1));
    (Sender { sender, meter: meter.clone() }, Queue { receiver, meter })
}

/// Puts spans into the queue; cheap to clone.
#[derive(Clone, Debug)]
pub struct Sender {
    sender: mpsc::Sender<SpanRecord>,
    meter: SpanMeter,
}

impl Sender {
    /// Whether a span would be taken now. Ask before filling one in: when everything fails at once,
    /// a full queue should cost nothing. A `false` counts one dropped span.
    pub fn has_room(&self) -> bool {
        let room = self.sender.capacity() > 0 && !self.sender.is_closed();
        if !room {
            self.meter.full.add(1);
        }
        room
    }

    /// Puts a span into the queue, or drops and counts it. Never waits.
    pub fn send(&self, span: SpanRecord) {
        if self.sender.try_send(span).is_err() {
            self.meter.full.add(1);
        }
    }
}

/// The other end, which an [`Exporter`](crate::otlp::Exporter) empties.
#[derive(Debug)]
pub struct Queue {
    pub(crate) receiver: mpsc::Receiver<SpanRecord>,
    pub(crate) meter: SpanMeter,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_drops_and_counts() {
        let meter = SpanMeter::default();
        let (sender, mut queue) = queue(2, meter.clone());
        for _ in 0..5 {
            sender.send(SpanRecord::default());
        }
        assert_eq!(meter.full.get(), 3);
        assert!(!sender.has_room());
        assert_eq!(meter.full.get(), 4);
        assert!(queue.receiver.try_recv().is_ok());
        assert!(sender.has_room());
        drop(queue);
        assert!(!sender.has_room());
    }
}
