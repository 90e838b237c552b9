//! One table of operations: what a node offers over HTTP, and who may use it.
//!
//! An [`Operation`] is a row: method, path, parameters, body, answers, permission, and the verb of the
//! command line that asks for it. A component writes its rows as a static list of [`Row`]s, each with the
//! function that answers. [`Table`] joins the lists of all components; routing (with 404, 405 and HEAD),
//! the checks of parameters and bodies, [`openapi`] and the command line are views of it.
//!
//! What comes in is described by a [`schema::Shape`], by which it is checked as well; what goes out by its
//! Rust type ([`schemars::JsonSchema`]), of which it is written.
//!
//! Invariants: nothing in a request that is not understood is passed over, but for the query of a probe and of
//! somebody else's API;
//! what is not an answer is a problem document with a reason; a row that names no permission is open to
//! all. Deliberately absent: sockets, HTTP itself, and any state of what is operated.
//!
//! Reading order: [`Operation`], [`Row`], [`Table`], [`router`]; [`Request`], [`Response`], `query`; [`schema`], [`body`];
//! [`permission`]; [`openapi`].

pub mod body;
pub mod openapi;
mod operation;
pub mod permission;
pub mod query;
pub mod request;
pub mod response;
pub mod router;
pub mod schema;
mod table;
pub mod time;

pub use schemars;

pub use self::{
    body::{Body, Settings},
    operation::{Answer, Ask, Gives, Handler, Noun, Operation, Row, Verb, delete, get, post, put},
    permission::{Permission, Permissions, Tokens},
    query::Query,
    request::{Caller, Request},
    response::{Chunks, Content, Duplex, Response, Session},
    router::Names,
    table::{Found, Part, Table},
};
