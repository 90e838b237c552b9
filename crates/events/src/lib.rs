//! Event streams: state as a sequence of events, each with a version, on the ledger.
//!
//! All events of a store stand in one log, in the order in which they were appended: their global order, without
//! gaps. A stream is a row of a map, its [`Head`](head::Head), which says how many events it has and where in the
//! log they are. So a stream costs disk and no memory, and an append is one transaction of events, heads, and
//! whatever else is to happen with them. By category, type, correlation id and tags events are found in rows that are
//! made of a thousand events at a time ([`index`]).
//!
//! Invariants:
//! - Versions of a stream begin at nought and have no gaps; what was acknowledged stays until it is truncated or
//!   deleted.
//! - An append whose expectation does not hold changes nothing, and is told the events that it did not know of.
//! - An append under a condition fails if events match it that its caller has not read: also those that are not on the
//!   disk yet. Of any number under one condition one goes through.
//! - Rows of the index name every event that the log has, and none that has gone.
//! - The same append again, known by the ids of its events, changes nothing and is told where they are.
//!
//! Reading order: [`name`], [`event`], [`head`], [`query`], [`index`], [`append`], `row` (the pure parts); `order`
//! (which append comes when), [`store`], `submit`, [`read`], `search`, `times`, [`follow`], [`shared`], `waste`,
//! `retention` (what happens).

pub mod append;
pub mod event;
pub mod follow;
pub mod head;
pub mod index;
pub mod name;
mod order;
pub mod projection;
pub mod query;
pub mod read;
mod retention;
mod row;
mod search;
pub mod shared;
pub mod store;
mod submit;
mod times;
mod waste;

pub use append::{Append, AppendBatch, AppendReceipt, Conflict, Expected, Matched, Rejected};
pub use event::{NewEvent, Recorded};
pub use follow::Follower;
pub use name::StreamName;
pub use query::{AppendCondition, EventQuery, QueryItem};
pub use read::{Direction, Page, PageLimits};
pub use store::{EventCheck, EventStore, StreamInfo};
