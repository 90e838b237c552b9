//! The API of topics, queues, subscriptions, schedules and operations: one table, from which requests
//! are answered and the OpenAPI document is made.
//!
//! An operation takes a request whose body has been read and gives a response that is whole, a stream or
//! a WebSocket; who carries the bytes is none of its business. Nothing in a request that is not
//! understood is passed over: not a parameter, not a member of a body.

mod ask;
mod browse;
mod engines;
mod ledger;
mod offer;
mod operations;
pub(crate) mod publish;
mod queues;
mod receive;
mod request;
mod schedules;
mod settle;
mod socket;
mod stream;
mod subscriptions;
mod table;
mod topics;

use std::{future::Future, pin::Pin};

use weft_kernel::{Error, Reason, Result};
use weft_wire::Method;

pub(crate) use self::ask::Ask;
pub use self::offer::OPERATIONS;
use self::table::{Line, Names};
use crate::{
    response::Response,
    schema::{Parameter, Shape},
};

/// Where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface {
    /// The admin API: everything.
    Admin,
    /// A route: everything but what concerns the node.
    Route,
}

/// One operation.
pub struct Operation {
    /// Its name.
    pub id: &'static str,
    /// Its method.
    pub method: &'static str,
    /// Its path, with `{name}` in place of names.
    pub path: &'static str,
    /// What it does, in a sentence.
    pub about: &'static str,
    /// The parameters of its query.
    pub query: &'static [Parameter],
    /// The media types of the body it takes, each with its shape; none if it takes no body.
    pub takes: &'static [(&'static str, &'static Shape)],
    /// The statuses of answers that went well, each with its media type if it has a body.
    pub gives: &'static [(u16, Option<&'static str>)],
    /// The largest body that it takes, in bytes.
    pub body_bytes_max: usize,
    /// Whether it is offered on the admin API alone.
    pub admin_only: bool,
    pub(crate) handler: Handler,
}

type Answer<'a> = Pin<Box<dyn Future<Output = Result<Response>> + Send + 'a>>;
pub(crate) type Handler = for<'a> fn(Ask<'a>) -> Answer<'a>;

impl std::fmt::Debug for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

impl Line for Operation {
    fn method(&self) -> &'static str {
        self.method
    }

    fn path(&self) -> &'static str {
        self.path
    }
}

/// An operation that was found for a request.
#[derive(Debug)]
pub(crate) struct Found<'a> {
    pub(crate) operation: &'static Operation,
    pub(crate) names: Names<'a>,
}

/// Finds the operation of a request; the error is what is to be answered without one.
pub(crate) fn find<'a>(
    surface: Surface,
    method: &Method,
    path: &'a str,
) -> Result<Found<'a>, Box<Response>> {
    let nothing = || {
        let error =
            Error::new(Reason::NoRoute, "see the reference of the messages API for what there is");
        Box::new(Response::problem(&error))
    };
    match table::find(OPERATIONS, method, path) {
        Err(error) => Err(Box::new(Response::problem(&error))),
        Ok(table::Found::Nothing) => Err(nothing()),
        Ok(table::Found::OtherMethods(allow)) => Err(Box::new(Response::not_allowed(&allow))),
        Ok(table::Found::One(operation, _))
            if operation.admin_only && surface != Surface::Admin =>
        {
            Err(nothing())
        }
        Ok(table::Found::One(operation, names)) => Ok(Found { operation, names }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sound() {
        let mut ids: Vec<_> = OPERATIONS.iter().map(|operation| operation.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), OPERATIONS.len());
        for operation in OPERATIONS {
            let path = operation.path.replace("{topic}", "a").replace("{queue}", "a");
            let path = path.replace("{name}", "a").replace("{id}", "a").replace("{position}", "1");
            let found = find(Surface::Admin, &Method::of(operation.method), &path).unwrap();
            assert_eq!(found.operation.id, operation.id, "{operation:?}");
            assert!(operation.about.ends_with('.'), "{operation:?}");
            assert_eq!(!operation.takes.is_empty(), operation.body_bytes_max > 0, "{operation:?}");
            let on_route = find(Surface::Route, &Method::of(operation.method), &path).is_ok();
            assert_eq!(on_route, !operation.admin_only, "{operation:?}");
        }
    }

    #[test]
    fn what_is_not_there_says_so() {
        for (method, path, status) in [
            ("GET", "/v1/nothing", 404),
            ("GET", "/", 404),
            ("PATCH", "/v1/topics/a", 405),
            ("POST", "/v1/topics", 405),
            ("GET", "/v1/topics/%ff", 400),
        ] {
            let refused = find(Surface::Route, &Method::of(method), path).unwrap_err();
            assert_eq!(refused.status, status, "{method} {path}");
        }
    }
}
