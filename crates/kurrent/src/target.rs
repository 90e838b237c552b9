//! The protocol on routes: a target that answers gRPC calls.

use std::{
    rc::Rc,
    sync::{Arc, OnceLock},
};

use weft_events::{EventStore, shared::SharedSubscriptions};
use weft_kernel::{Error, Reason, Result};
use weft_net::Stop;
use weft_proxy::{
    Call, Handlers, Local, LocalFuture, LocalTarget, Reply, TargetMaker, plan::Binding,
};
use weft_wire::{Known, Method, grpc};

use crate::service;

/// The handler of routes that speak the protocol; it has no settings.
pub const KURRENT: &str = "kurrent";

/// What the methods work on.
#[derive(Clone)]
pub struct Kurrent {
    /// The store of events.
    pub events: EventStore,
    /// Persistent subscriptions.
    pub shared: SharedSubscriptions,
    /// Ends subscriptions.
    pub stop: Stop,
}

/// The local handler of the protocol. Routes can be bound to it before the ledger is open.
#[derive(Clone, Default)]
pub struct KurrentTargets(Arc<OnceLock<Kurrent>>);

impl KurrentTargets {
    /// Gives what answers from now on; the first one stays.
    pub fn open(&self, kurrent: Kurrent) {
        let _ = self.0.set(kurrent);
    }

    /// Adds the handler to those of a node.
    pub fn register(&self, handlers: Handlers) -> Handlers {
        handlers.with_target(KURRENT, self.clone())
    }
}

impl TargetMaker for KurrentTargets {
    fn make(&self, _binding: &Binding) -> Result<Arc<dyn LocalTarget>, String> {
        Ok(Arc::new(self.clone()))
    }
}

impl LocalTarget for KurrentTargets {
    fn call<'a>(&'a self, _local: &'a Rc<Local>, call: Call) -> LocalFuture<'a, Result<Reply>> {
        Box::pin(async move {
            let nobody = || Error::new(Reason::Misconfigured, "streams are not open on this node");
            let kurrent = self.0.get().ok_or_else(nobody)?;
            let kind = call.head.fields.get(Known::ContentType).and_then(grpc::ContentType::of);
            let is_grpc = kind.is_some_and(|kind| kind.kind == grpc::Kind::Grpc);
            if !is_grpc || call.head.method != Method::Post {
                let say = "this path speaks KurrentDB's protocol, which is gRPC over HTTP/2";
                return Err(Error::new(Reason::NotSupported, say));
            }
            Ok(service::answer(kurrent, call).await)
        })
    }
}
