//! Active checks: asking each endpoint whether it is well, off the request path.
//!
//! [`Probe`] asks once; [`Pulse`] is the pure count that turns answers into a verdict. A check is
//! made once for an endpoint, whatever number of routes lead to it.

mod grpc;
mod probe;
mod pulse;

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use weft_net::Address;
use weft_wire::proxy_protocol::Header;

pub use probe::NetProbe;
pub use pulse::Pulse;

use crate::options::{Check, ProbeTls};

/// One check of one endpoint.
#[derive(Clone, Debug)]
pub struct Checkup {
    /// What is asked.
    pub check: Check,
    /// Whom.
    pub address: Address,
    /// The name it was resolved from.
    pub hostname: Option<Arc<str>>,
    /// How the connection is secured.
    pub tls: Option<ProbeTls>,
    /// The PROXY header that opens the connection.
    pub proxy_header: Option<Header>,
    /// For the whole check.
    pub timeout: Duration,
}

/// What a check found: a detail for people either way.
pub type Finding = Result<String, String>;

/// The future of one check.
pub type ProbeFuture<'a> = Pin<Box<dyn Future<Output = Finding> + Send + 'a>>;

/// Makes one check; bounded in time by itself.
pub trait Probe: Send + Sync {
    /// Asks.
    fn probe(&self, checkup: Checkup) -> ProbeFuture<'_>;
}
