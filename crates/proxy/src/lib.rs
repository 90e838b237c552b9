//! The request path: listener, route, policies, endpoint and back.
//!
//! Everything a request needs stands in one immutable [`Snapshot`], compiled from a [`plan::Plan`] off the
//! request path and swapped as a whole; a request ends on the snapshot with which it began. Each worker
//! has connections, counters and chance of its own ([`Local`]); shared are only the snapshot and the state
//! of endpoints and breakers, which are atomics. Bodies stream with back-pressure, and what a policy must
//! keep of one is kept up to a named limit. Deliberately absent: sockets being opened for listening,
//! reading of configuration, and any state that belongs to a route where it could belong to an endpoint.
//!
//! Reading order: [`plan`], [`snapshot`], [`listener`], [`router`], [`route`], [`policy`], [`upstream`]; then the way
//! of a request: [`serve`](mod@serve), [`front`], `exchange` (`received`, `outgoing`, `record`), `prepare`,
//! `forward`, `repeat`, `race`, `attempt`, `answer`, `connection`. [`handler`], [`worker_client`] and
//! [`internal`] are where it meets the rest of the node: requests that end and that begin inside Weft.

mod answer;
mod attempt;
mod body;
mod certificate;
mod connection;
pub mod cookie;
mod exchange;
mod forward;
pub mod front;
mod grpc_web;
pub mod handler;
pub mod hash;
pub mod internal;
pub mod listener;
pub mod local;
mod outgoing;
pub mod plan;
pub mod policy;
mod prepare;
pub mod query;
mod race;
mod received;
mod record;
mod repeat;
pub mod rewrite;
pub mod route;
pub mod router;
pub mod serve;
pub mod snapshot;
mod tunnel;
mod upload;
pub mod upstream;
pub mod worker_client;

pub use front::Front;
pub use handler::{Acceptor, Call, Handlers, LocalFuture, LocalTarget, Reply, TargetMaker};
pub use internal::InternalClient;
pub use local::{Local, Means, Observers};
pub use policy::{
    Completion, DryRun, Ended, Fact, Flow, Foreseen, OutgoingContext, Policy, PolicyMaker,
    PolicyOutcome, RequestContext, RequestView, ResponseContext, Sides, Stage, Step, Supposed,
    TargetFailure,
};
pub use serve::{Entry, ProxyProtocol, ServerTls, serve};
pub use snapshot::{PlanError, Snapshot};
pub use worker_client::{Answered, BodyEnd, Reading, WorkerClient};
