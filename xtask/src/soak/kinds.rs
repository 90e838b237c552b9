//! The kinds of operation, a row each: what is done, how long Weft may take to tidy up, and the bound.

use std::time::Duration;

use anyhow::Result;

use super::{amqp, measure::Bound, messages, requests, testbed::Testbed};

/// One kind of operation.
pub(super) struct Kind {
    pub(super) name: &'static str,
    /// Does it once, and leaves nothing of it behind that it was not asked to forget.
    pub(super) run: fn(&mut Testbed) -> Result<()>,
    /// After it, all that is kept for a while is gone.
    pub(super) rest: Duration,
    pub(super) bound: Bound,
}

/// A thread gives the memory that it has freed back when it has rested for five seconds, and looks every five.
const RESTED: Duration = Duration::from_secs(12);
/// Responses and ids are kept for a second and swept within ten; then comes the rest.
const SWEPT: Duration = Duration::from_secs(25);

/// What an operation that leaves nothing may seem to: less than any record of it would take.
const NOTHING: Bound = Bound { memory_bytes_max: 16.0, things_max: 0.001 };

const fn kind(name: &'static str, run: fn(&mut Testbed) -> Result<()>) -> Kind {
    Kind { name, run, rest: RESTED, bound: NOTHING }
}

/// Every kind, in the order of the soak.
pub(super) const KINDS: &[Kind] = &[
    kind("HTTP connection", requests::connection),
    kind("HTTP request", requests::request),
    kind("HTTP request to a service", requests::to_service),
    kind("HTTP request mirrored", requests::mirrored),
    kind("HTTP request tried again", requests::tried_again),
    kind("HTTP request refused", requests::refused),
    kind("HTTP request without a route", requests::without_route),
    kind("HTTP/2 connection", requests::http2),
    kind("TCP connection", requests::tunnel),
    kind("reload", requests::reload),
    kind("message, durability memory", |testbed| messages::passes(testbed, "memory")),
    kind("message, durability os", |testbed| messages::passes(testbed, "os")),
    kind("message, durability fsync", |testbed| messages::passes(testbed, "fsync")),
    Kind { rest: SWEPT, ..kind("message, with an id", messages::passes_by_name) },
    kind("message, pushed", messages::pushed),
    kind("queue declared, deleted", messages::queue),
    kind("schedule made, cancelled", messages::schedule),
    kind("subscription made, deleted", messages::subscription),
    kind("SSE stream", messages::events),
    kind("WebSocket", messages::web_socket),
    Kind { rest: SWEPT, ..kind("deferred response, expired", messages::deferred) },
    kind("AMQP connection", amqp::connection),
    kind("AMQP channel", amqp::channel),
    kind("AMQP queue declared, deleted", amqp::queue),
    kind("AMQP message", amqp::message),
];
