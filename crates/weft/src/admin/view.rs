//! Routes and services as the admin API shows them, and the command line reads them back.
//!
//! A view is plain data with units in its names; it is made of the state at one time, and holds nothing of
//! the node. What each is made of stands beside it.

mod endpoint;
mod limits;
mod route;
mod service;

use std::time::Duration;

pub use endpoint::{CheckView, EjectionView, EndpointView};
pub use limits::{BreakerView, BulkheadView, ConcurrencyView};
pub(crate) use route::conditions;
pub use route::{PolicyView, RouteView, TargetView, WeightedView};
pub use service::{ServiceSummary, ServiceView, SourceView};

fn millis(span: Duration) -> f64 {
    // To the microsecond: more would be noise that people have to read.
    (span.as_secs_f64() * 1e6).round() / 1e3
}

fn seconds(span: Duration) -> f64 {
    (span.as_secs_f64() * 1e3).round() / 1e3
}
