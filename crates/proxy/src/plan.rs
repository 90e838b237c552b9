//! What the request path is told to do: a checked description, still without a socket or a compiled
//! pattern.
//!
//! The configuration above is read into a [`Plan`]; [`Snapshot`](crate::Snapshot) compiles it. Names
//! refer to each other and are resolved by the compiler, which refuses what does not fit.

mod binding;
mod listener;
mod route;
mod service;

use std::sync::Arc;

pub use binding::{Binding, Settings};
pub use listener::{EncodedSlash, Http, Listener, Protocol};
pub use route::{
    BodyLimit, CertificateField, CertificatePart, CriticalityOf, Fallback, FallbackTo, Fault,
    Field, FieldValue, HeaderOps, Host, HostRewrite, Match, Mirror, Path, PathRewrite, Redirect,
    Respond, Rewrite, Route, RoutePolicies, Share, Target, Weighted,
};
pub use service::{HashInput, Pool, ProxyHeader, Service, UpstreamProtocol, UpstreamTls};

/// Everything the request path needs to know.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Where requests come in.
    pub listeners: Vec<Listener>,
    /// Where requests are led, in the order of the configuration; a route that a reload did not touch is
    /// the same one.
    pub routes: Vec<Arc<Route>>,
    /// Who answers them.
    pub services: Vec<Service>,
}
