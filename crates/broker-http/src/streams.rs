//! Streams of events over HTTP: rows of the one table ([`weft_api`]), on the admin API and on routes.

mod append;
mod asked;
mod change;
mod condition;
mod read;
mod rows;
mod view;

use weft_api::{Noun, Row};
use weft_events::{EventStore, Expected, StreamName};
use weft_kernel::{Error, Reason, Result};
use weft_net::Stop;

pub use self::rows::STREAM_OPERATIONS;
use crate::{
    below::{Below, BelowTargets},
    query::Query,
};

/// A stream.
pub static STREAM: Noun =
    Noun { name: "stream", about: "events of one thing each, in order, with versions" };

/// The handler of routes that offer streams; its settings are an [`ApiPath`](crate::ApiPath).
pub const STREAMS: &str = "streams";

/// The local handler of streams.
pub type StreamTargets = BelowTargets<Streams>;

/// What the rows operate.
#[derive(Clone)]
pub struct Streams {
    /// The store of events.
    pub events: EventStore,
    /// Ends what follows.
    pub stop: Stop,
}

impl Below for Streams {
    const HANDLER: &'static str = STREAMS;

    fn rows() -> &'static [Row<Self>] {
        STREAM_OPERATIONS
    }
}

/// A request about streams.
type Ask<'a> = weft_api::Ask<'a, Streams>;

/// The stream of the path.
fn stream(ask: &Ask<'_>) -> Result<StreamName> {
    StreamName::new(ask.names.at(0))
}

/// What a query says that a stream must be.
fn expected(query: &mut Query<'_>) -> Result<Expected> {
    match query.take("expected").as_deref() {
        None => Ok(Expected::Any),
        Some(text) => expected_of(text),
    }
}

fn expected_of(text: &str) -> Result<Expected> {
    match text {
        "any" => Ok(Expected::Any),
        "none" => Ok(Expected::None),
        "exists" => Ok(Expected::Exists),
        version => {
            version.parse().map(Expected::Version).map_err(|error: std::num::ParseIntError| {
                let say = "`expected` is any, none, exists, or the version of the last event";
                Error::new(Reason::MalformedRequest, say).because(error)
            })
        }
    }
}
