//! What lives in the node beside the request path: local targets, which answer requests, policies of other
//! crates, and acceptors, which speak other protocols than HTTP.
//!
//! The request path knows them by name alone. A route's target or policy, or a listener's protocol, names
//! one, and is bound to it when the snapshot is compiled; the settings go from the configuration to whoever
//! makes of them what they say. To add one is to put it into the node's [`Handlers`].

use std::{collections::HashMap, future::Future, net::IpAddr, pin::Pin, rc::Rc, sync::Arc};

use weft_kernel::{Name, Result};
use weft_net::{
    Io, Stop,
    body::Body,
    message::{Peer, Tunnel},
    timer::TaskTimer,
};
use weft_wire::{RequestHead, ResponseHead};

use crate::{
    local::Local,
    plan::Binding,
    policy::{Policy, PolicyMaker},
    received::Received,
    route::Route,
};

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
    pub timer: TaskTimer,
}

impl Call {
    /// A request with a head that was made of what was received.
    pub(crate) fn of(
        received: &Received,
        head: RequestHead,
        route: &Route,
        body: Body,
        timer: &TaskTimer,
    ) -> Self {
        Self {
            route: route.name.clone(),
            head,
            body,
            client: received.client,
            secure: received.secure,
            traceparent: received.trace.traceparent(),
            request_id: received.request_id.as_str().to_owned(),
            timer: timer.clone(),
        }
    }
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
pub trait TargetMaker: Send + Sync {
    /// The target of a route with these settings. What it stands on need not be open yet.
    ///
    /// # Errors
    /// What is wrong with the settings.
    fn make(&self, binding: &Binding) -> Result<Arc<dyn LocalTarget>, String>;
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
    targets: HashMap<&'static str, Arc<dyn TargetMaker>>,
    policies: HashMap<&'static str, Arc<dyn PolicyMaker>>,
    acceptors: HashMap<&'static str, Arc<dyn Acceptor>>,
}

impl Handlers {
    /// With a maker of the targets of this name.
    pub fn with_target(mut self, name: &'static str, maker: impl TargetMaker + 'static) -> Self {
        self.targets.insert(name, Arc::new(maker));
        self
    }

    /// With a maker of the policies of this name.
    pub fn with_policy(mut self, name: &'static str, maker: impl PolicyMaker + 'static) -> Self {
        self.policies.insert(name, Arc::new(maker));
        self
    }

    /// With an acceptor for the listeners of this name.
    pub fn with_acceptor(mut self, name: &'static str, acceptor: impl Acceptor + 'static) -> Self {
        self.acceptors.insert(name, Arc::new(acceptor));
        self
    }

    /// Makes a target of its settings.
    ///
    /// # Errors
    /// That there is none of its name, or what is wrong with the settings.
    pub fn target(&self, binding: &Binding) -> Result<Arc<dyn LocalTarget>, String> {
        match self.targets.get(binding.handler) {
            Some(maker) => maker.make(binding),
            None => Err(format!("this node has no handler `{}`", binding.handler)),
        }
    }

    /// Makes a policy of its settings.
    ///
    /// # Errors
    /// That there is none of its name, or what is wrong with the settings.
    pub fn policy(&self, binding: &Binding) -> Result<Arc<dyn Policy>, String> {
        match self.policies.get(binding.handler) {
            Some(maker) => maker.make(binding),
            None => Err(format!("this node has no policy `{}`", binding.handler)),
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
