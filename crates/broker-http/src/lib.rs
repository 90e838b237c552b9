//! The HTTP, SSE and WebSocket front-end of the broker; push delivery; answers that come later.
//!
//! The binary registers [`Targets`], which routes are bound to, opens a [`Handle`] on a broker for them, and
//! lets each worker [`begin`](Handle::begin). The API is one table
//! ([`OPERATIONS`]) of rows of [`weft_api`], so that the admin server and every route
//! answer with the very same code ([`Handle::answer`]).
//!
//! Invariants: what is answered as published is kept at the level that the answer names; what is handed
//! out without a connection is settled by an opaque text, or given out again; whatever waits or streams
//! ends at the drain; a subscriber that cannot be reached counts no failure against a message; a request
//! that was answered with 202 is carried out at least once. Deliberately absent: any state of topics and
//! queues (the broker's), sockets, and the reading of configuration.
//!
//! Reading order: `handle`, `target`, `below`; [`settings`]; the API from `api` on; `push_delivery`; `deferred`;
//! `streams`; `schemas`; `projections`.

mod api;
mod below;
mod deferred;
mod event;
#[cfg(test)]
mod fixture;
mod handle;
mod projections;
mod push_delivery;
mod schemas;
pub mod settings;
mod sse;
mod streams;
mod target;

use weft_api::{body, query, request, response, schema, time};

pub use api::{OPERATIONS, PUBLISH_BYTES_MAX, Surface, nouns};
pub use below::ApiPath;
pub use deferred::{Outside, is_callback_prefix};
pub use handle::{Declared, Handle, Hooks};
pub use projections::{
    CONSISTENCY, Consistency, ConsistencyPolicies, PROJECTION, PROJECTION_OPERATIONS, PROJECTIONS,
    Projected, ProjectionTargets,
};
pub use push_delivery::{PushSubscription, Sender};
pub use schemas::{SCHEMA_OPERATIONS, SCHEMAS, SUBJECT, SchemaTargets};
pub use streams::{STREAM, STREAM_OPERATIONS, STREAMS, StreamTargets, Streams};
pub use target::{
    Api, MESSAGES, PUBLISH, PublishSettings, RESPOND_ASYNC, RespondAsync, Targets, To,
};
