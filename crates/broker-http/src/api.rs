//! The API of topics, queues, subscriptions, schedules and operations: rows of the one table ([`weft_api`]).
//!
//! An operation takes a request whose body has been read and gives a response that is whole, a stream or
//! a WebSocket; who carries the bytes is none of its business. Nothing in a request that is not
//! understood is passed over: not a parameter, not a member of a body.

mod ask;
mod browse;
mod engines;
pub mod nouns;
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
mod topics;
mod view;

use weft_api::{Names, Operation, Row, router};
use weft_kernel::Result;
use weft_wire::Method;

pub(crate) use self::ask::Ask;
pub use self::{offer::OPERATIONS, publish::BODY_BYTES_MAX as PUBLISH_BYTES_MAX};
use crate::{handle::Handle, response::Response};

/// Where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface {
    /// The admin API: everything.
    Admin,
    /// A route: everything but what concerns the node.
    Route,
}

/// An operation that was found for a request.
#[derive(Debug)]
pub(crate) struct Found<'a> {
    pub(crate) row: &'static Row<Handle>,
    pub(crate) names: Names<'a>,
}

/// Finds the operation of a request; the error is what is to be answered without one.
pub(crate) fn find<'a>(
    surface: Surface,
    method: &Method,
    path: &'a str,
) -> Result<Found<'a>, Box<Response>> {
    let offered = |operation: &Operation| surface == Surface::Admin || !operation.admin_only;
    let rows = OPERATIONS.iter().filter(|row| offered(&row.operation));
    router::route(rows, method, path).map(|(row, names)| Found { row, names })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sound() {
        let mut ids: Vec<_> = OPERATIONS.iter().map(|row| row.operation.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), OPERATIONS.len());
        for operation in OPERATIONS.iter().map(|row| &row.operation) {
            let path = operation.path.replace("{topic}", "a").replace("{queue}", "a");
            let path = path.replace("{name}", "a").replace("{id}", "a").replace("{position}", "1");
            let found = find(Surface::Admin, &Method::of(operation.method), &path).unwrap();
            assert_eq!(found.row.operation.id, operation.id, "{operation:?}");
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
