//! From names to addresses.
//!
//! [`Lookup`] asks once; when to ask again, and what to do with a failure, is decided by the pure
//! [`Resolution`]: an answer lives for its TTL within bounds, a failure keeps the last answer
//! (serving the endpoints of a moment ago beats serving none), and only an answer of "there is
//! nothing" that is repeated empties the set.

mod dns;
mod resolution;

use std::{fmt, future::Future, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

pub use dns::Hickory;
pub use resolution::{EMPTY_BELIEVED, Resolution};

use crate::options::{Family, Location};
pub use crate::source::State;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Query {
    /// The A and AAAA records of a host.
    Host {
        /// The host.
        host: Arc<str>,
        /// The port of each address.
        port: u16,
        /// Which addresses are taken.
        family: Family,
    },
    /// The SRV records of a name, and the addresses of their targets.
    Srv {
        /// The name.
        name: Arc<str>,
        /// Which addresses are taken.
        family: Family,
    },
}

impl Query {
    /// What is to be asked for a location; `None` for one that is no name.
    pub fn of(location: &Location, family: Family) -> Option<Self> {
        match location {
            Location::Host { host, port } => {
                Some(Self::Host { host: Arc::clone(host), port: *port, family })
            }
            Location::Srv(name) => Some(Self::Srv { name: Arc::clone(name), family }),
            Location::Address(_) | Location::File(_) | Location::Other { .. } => None,
        }
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host { host, port, .. } => write!(f, "{host}:{port}"),
            Self::Srv { name, .. } => write!(f, "srv:{name}"),
        }
    }
}

/// One address of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Record {
    /// The address.
    pub address: SocketAddr,
    /// The host it belongs to, without a trailing dot.
    pub hostname: Arc<str>,
    /// The priority of an SRV record; 0 otherwise.
    pub priority: u16,
    /// The weight beside records of the same priority; 1 for those that carry none.
    pub weight: u32,
}

/// What a name resolves to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The addresses, never none.
    pub records: Vec<Record>,
    /// How long they may be kept, before bounds.
    pub ttl: Duration,
}

/// Why a name did not resolve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The name server says that there is nothing.
    Empty(String),
    /// Nobody could say.
    Unanswered(String),
}

impl Failure {
    /// The detail, for people.
    pub fn detail(&self) -> &str {
        match self {
            Self::Empty(detail) | Self::Unanswered(detail) => detail,
        }
    }
}

/// The future of one look-up.
pub type LookupFuture<'a> = Pin<Box<dyn Future<Output = Result<Answer, Failure>> + Send + 'a>>;

/// Asks once; bounded in time by itself.
pub trait Lookup: Send + Sync {
    /// Resolves a query.
    fn lookup<'a>(&'a self, query: &'a Query) -> LookupFuture<'a>;
}
