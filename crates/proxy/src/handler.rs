//! What lives in the node beside the request path: local handlers, which answer requests, and acceptors,
//! which speak other protocols than HTTP.
//!
//! The request path knows them by name alone. A route's target, or a listener's protocol, names one, and
//! is bound to it when the snapshot is compiled; the settings go from the configuration to the handler as
//! they are. To add one is to put it into the node's [`Handlers`].

use std::{collections::HashMap, future::Future, net::IpAddr, pin::Pin, rc::Rc, sync::Arc};

use weft_kernel::{Name, Result};
use weft_net::{
    Io, Stop,
    alarm::Alarm,
    body::Body,
    message::{Peer, Tunnel},
};
use weft_wire::{RequestHead, ResponseHead};

use crate::{local::Local, plan::Binding};

/// A future of one worker.
pub type LocalFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// A request for a local target.
pub struct Call {
    /// The route by which it came.
    pub route: Name,
    /// Its head, normalised.
    pub head: RequestHead,
    /// Its body, limited as the route says.
    pub body: Body,
    /// The client, as far as it can be believed.
    pub client: Option<IpAddr>,
    /// Whether it came by TLS.
    pub secure: bool,
    /// The trace that it belongs to, as `traceparent`.
    pub traceparent: [u8; 55],
    /// The id by which it is found in every log.
    pub request_id: String,
    /// The timer of the task that handles it.
    pub alarm: Alarm,
}

/// A response of Weft's own.
pub struct Reply {
    /// The head, without what frames the body.
    pub head: ResponseHead,
    /// The body.
    pub body: Body,
    /// What the connection is joined to after a 101.
    pub tunnel: Option<Box<Tunnel>>,
}

impl Reply {
    /// A response with a head and a body.
    pub const fn new(head: ResponseHead, body: Body) -> Self {
        Self { head, body, tunnel: None }
    }
}

/// Makes targets of the settings of routes. The node has one for each name.
pub trait Handler: Send + Sync {
    /// The target of a route with these settings. What it stands on need not be open yet.
    ///
    /// # Errors
    /// What is wrong with the settings.
    fn bind(&self, binding: &Binding) -> Result<Arc<dyn LocalTarget>, String>;
}

/// A target that lives in the node: answers the requests of one route.
pub trait LocalTarget: Send + Sync {
    /// Answers a request. Dropped if the client goes away.
    fn call<'a>(&'a self, local: &'a Rc<Local>, call: Call) -> LocalFuture<'a, Result<Reply>>;

    /// Whether a client may ask it for a WebSocket.
    fn upgrades(&self) -> bool {
        false
    }
}

/// Speaks with clients that do not speak HTTP. The node has one for each name.
pub trait Acceptor: Send + Sync {
    /// Speaks with a client until the connection ends or `stop` says so.
    fn accept<'a>(
        &'a self,
        local: &'a Rc<Local>,
        listener: &'a Name,
        io: Io,
        peer: Peer,
        stop: Stop,
    ) -> LocalFuture<'a, Result<()>>;
}

/// Everything in a node that routes and listeners may name.
#[derive(Clone, Default)]
pub struct Handlers {
    targets: HashMap<&'static str, Arc<dyn Handler>>,
    acceptors: HashMap<&'static str, Arc<dyn Acceptor>>,
}

impl Handlers {
    /// With a handler for the targets of this name.
    pub fn with_target(mut self, name: &'static str, handler: impl Handler + 'static) -> Self {
        self.targets.insert(name, Arc::new(handler));
        self
    }

    /// With an acceptor for the listeners of this name.
    pub fn with_acceptor(mut self, name: &'static str, acceptor: impl Acceptor + 'static) -> Self {
        self.acceptors.insert(name, Arc::new(acceptor));
        self
    }

    /// Binds a target to its handler.
    ///
    /// # Errors
    /// That there is none of its name, or what it finds wrong with the settings.
    pub fn bind(&self, binding: &Binding) -> Result<Arc<dyn LocalTarget>, String> {
        match self.targets.get(binding.handler) {
            Some(handler) => handler.bind(binding),
            None => Err(format!("this node has no handler `{}`", binding.handler)),
        }
    }

    /// The acceptor of this name.
    pub(crate) fn acceptor(&self, name: &str) -> Result<Arc<dyn Acceptor>, String> {
        self.acceptors
            .get(name)
            .cloned()
            .ok_or_else(|| format!("this node does not speak `{name}`"))
    }
}

/// Whether a client asks to be answered later: `Prefer: respond-async` (RFC 7240 section 4.1).
pub(crate) fn asks_later(head: &RequestHead) -> bool {
    head.fields.all_named("prefer").any(|value| {
        value.split(|byte| *byte == b',').any(|preference| {
            let name = preference.split(|byte| b";=".contains(byte)).next().unwrap_or_default();
            name.trim_ascii().eq_ignore_ascii_case(b"respond-async")
        })
    })
}

#[cfg(test)]
mod tests {
    use weft_wire::{Fields, Method, Version};

    use super::*;

    #[test]
    fn a_preference_is_found_among_others() {
        for (value, asks) in [
            ("respond-async", true),
            ("return=minimal, Respond-Async; x=1, wait=10", true),
            ("respond-asynchronously", false),
            ("wait=10", false),
            ("", false),
        ] {
            let mut fields = Fields::new();
            fields.append("prefer", value.as_bytes());
            let head = RequestHead {
                method: Method::Post,
                target: "/".into(),
                version: Version::Http11,
                fields,
                upgrade: None,
            };
            assert_eq!(asks_later(&head), asks, "{value}");
        }
    }
}
