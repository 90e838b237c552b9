//! Where endpoints come from: sources that push sets of them.
//!
//! A [`Source`] is started once with a [`Feed`], however many services it feeds, and pushes a whole set
//! whenever what it knows has changed. It ends when no service names it any more. What it cannot tell
//! for the moment it reports as a failure, which keeps the last set: serving the endpoints of a moment
//! ago beats serving none.
//!
//! Three are built in: the addresses of the configuration, DNS, and files. Others are registered with
//! [`Services::add_kind`](crate::Services::add_kind) and named by [`Location::Other`].

mod dns;
mod feed;
pub mod file;
mod fixed;

use std::{collections::BTreeMap, future::Future, pin::Pin, sync::Arc};

use weft_kernel::{Reason, Tick};

pub(crate) use dns::DnsSource;
pub use feed::Feed;
pub(crate) use feed::{Changes, Slot};
pub(crate) use fixed::FixedSource;

use crate::options::Location;

/// The most endpoints of one set; a larger one is a failure of its source.
pub const ENDPOINTS_MAX: usize = 10_000;

/// Facts about an endpoint that its source knows: version, region, rack.
pub type Metadata = BTreeMap<String, String>;

/// An endpoint as a source tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Where it listens. A host is resolved by DNS further; other locations are left out.
    pub location: Location,
    /// The name for `Host` and TLS, where the location is an address.
    pub hostname: Option<Arc<str>>,
    /// Its share of the traffic beside the others; 0 counts as 1.
    pub weight: u32,
    /// A higher number is used only when no lower one can be.
    pub priority: u16,
    /// The zone it stands in; that of the configuration otherwise.
    pub zone: Option<Arc<str>>,
    /// Further facts.
    pub metadata: Arc<Metadata>,
}

impl Instance {
    /// An endpoint with every default.
    pub fn new(location: Location) -> Self {
        Self {
            location,
            hostname: None,
            weight: 1,
            priority: 0,
            zone: None,
            metadata: Arc::default(),
        }
    }
}

/// How far the set of a source can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Nothing was told yet.
    Pending,
    /// The last set stands.
    Fresh,
    /// The source fails; the set before stands.
    Stale,
    /// There is no set to stand on.
    Failed,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Fresh, Self::Stale, Self::Failed];

    /// The word for status, log and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Fresh => "fresh",
            Self::Stale => "stale",
            Self::Failed => "failed",
        }
    }
}

/// What a source has told last.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) instances: Arc<[Instance]>,
    pub(crate) state: State,
    /// When the last set came.
    pub(crate) pushed: Option<Tick>,
    /// When the failures began, if the source fails.
    pub(crate) failing_since: Option<Tick>,
    /// Failures in a row.
    pub(crate) failures: u32,
    /// Why it fails, if it does.
    pub(crate) error: Option<String>,
    /// When it tries next, if it knows.
    pub(crate) next: Option<Tick>,
}

/// The work of a source after its start, until it is dropped.
pub type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Tells of endpoints.
pub trait Source: Send + Sync {
    /// Starts it. What it knows at once it pushes before this returns, so that a service has its
    /// endpoints from the first request on; this must not wait. The rest is done by the future, which
    /// runs on the control runtime and is dropped when no service needs the source any more. `None`
    /// says that nothing else will ever be told.
    fn start(self: Box<Self>, feed: Feed) -> Option<Running>;

    /// The reason of a request that finds a service empty because this source has told nothing yet.
    fn failure(&self) -> Reason {
        Reason::NoEndpoint
    }
}

/// Opens the source of a name: `orders` of `consul:orders`.
pub type Opener = Arc<dyn Fn(&str) -> Box<dyn Source> + Send + Sync>;
