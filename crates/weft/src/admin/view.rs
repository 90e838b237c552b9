//! Routes as the admin API shows them, and the command line reads them back.
//!
//! A view is plain data with units in its names; it is made of the state at one time, and holds nothing of
//! the node. Its schema comes of its type.

mod route;

use std::time::Duration;

pub(crate) use route::conditions;
pub use route::{PolicyView, RouteView, TargetView, WeightedView};

/// Milliseconds, to the microsecond: more would be noise that people have to read.
pub(crate) fn millis(span: Duration) -> f64 {
    (span.as_secs_f64() * 1e6).round() / 1e3
}

/// Seconds, to the millisecond.
pub(crate) fn seconds(span: Duration) -> f64 {
    (span.as_secs_f64() * 1e3).round() / 1e3
}
