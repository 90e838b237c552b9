//! What a checked configuration asks for.

use std::{any::Any, borrow::Cow, sync::Arc};

use ipnet::IpNet;
use weft_kernel::Name;
use weft_net::Address;
use weft_proxy::plan::Route;

use super::catalogue::Parts;
pub use super::sections::listener::ProxyMode;

/// The name of what speaks AMQP on listeners.
pub const AMQP: &str = "amqp";

/// Everything that was asked for, checked, with no port open.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The request path.
    pub proxy: weft_proxy::plan::Plan,
    /// The sockets that its listeners accept on.
    pub sockets: Vec<Socket>,
    /// The admin API, unless it is off.
    pub admin: Option<Admin>,
    /// What each component is asked for.
    pub parts: Parts,
    /// Internal routes of components that no configuration names.
    pub unnamed: Vec<Arc<Route>>,
}

impl Plan {
    /// What a component is asked for, by the type of its part; `None` if that is nothing.
    pub fn part<P: Any>(&self) -> Option<&P> {
        self.parts.get()
    }

    /// The request path, together with the internal routes that no configuration names.
    pub fn whole_proxy(&self) -> Cow<'_, weft_proxy::plan::Plan> {
        if self.unnamed.is_empty() {
            return Cow::Borrowed(&self.proxy);
        }
        let mut proxy = self.proxy.clone();
        proxy.routes.extend(self.unnamed.iter().cloned());
        Cow::Owned(proxy)
    }
}

/// The socket of a listener.
#[derive(Clone, Debug)]
pub struct Socket {
    /// The listener.
    pub listener: Name,
    /// Where it listens; several addresses are one listener.
    pub addresses: Vec<Address>,
    /// TLS that is terminated here.
    pub tls: Option<weft_identity::server::ServerOptions>,
    /// Whether a PROXY protocol header opens each connection.
    pub proxy_protocol: ProxyMode,
    /// Peers whose PROXY protocol header is believed; empty for all.
    pub proxy_protocol_from: Vec<IpNet>,
}

/// The admin API.
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// Where it listens.
    pub listen: Address,
    /// What callers must show, as digests; without any, none.
    pub tokens: weft_api::Tokens,
}
