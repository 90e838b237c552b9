//! Services as the API shows them, and the command line reads them back.

mod endpoint;
mod limits;
mod service;

pub use endpoint::{CheckView, EjectionView, EndpointView};
pub use limits::{BreakerView, BulkheadView, ConcurrencyView};
pub use service::{ServiceSummary, ServiceView, SourceView};

use crate::admin::view::{millis, seconds};
