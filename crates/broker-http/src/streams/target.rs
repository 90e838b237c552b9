//! Streams on routes: the API below a path.

use std::{
    fmt,
    rc::Rc,
    sync::{Arc, OnceLock},
};

use weft_api::router;
use weft_kernel::{Error, Reason, Result};
use weft_proxy::{
    Call, Handlers, Local, LocalFuture, LocalTarget, Reply, TargetMaker, plan::Binding,
};

use super::{STREAM_OPERATIONS, Streams};
use crate::target::{reply, request_below};

/// The handler of routes that offer streams; its settings are a [`StreamsApi`].
pub const STREAMS: &str = "streams";

/// Where the API of streams stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamsApi {
    /// What stands before `/v1` in the path; empty for nothing.
    pub prefix: String,
}

impl fmt::Display for StreamsApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "streams below {}/v1", self.prefix)
    }
}

/// The local handlers of streams. Routes can be bound to them before the ledger is open.
#[derive(Clone, Default)]
pub struct StreamTargets(Arc<OnceLock<Streams>>);

impl StreamTargets {
    /// Gives what answers from now on; the first one stays.
    pub fn open(&self, streams: Streams) {
        let _ = self.0.set(streams);
    }

    /// Adds them to the handlers of a node.
    pub fn register(&self, handlers: Handlers) -> Handlers {
        handlers.with_target(STREAMS, self.clone())
    }
}

impl TargetMaker for StreamTargets {
    fn make(&self, binding: &Binding) -> Result<Arc<dyn LocalTarget>, String> {
        Ok(Arc::new(Bound { streams: Arc::clone(&self.0), settings: binding.settings()? }))
    }
}

/// A target of a route.
struct Bound {
    streams: Arc<OnceLock<Streams>>,
    settings: StreamsApi,
}

impl LocalTarget for Bound {
    fn call<'a>(&'a self, local: &'a Rc<Local>, call: Call) -> LocalFuture<'a, Result<Reply>> {
        Box::pin(async move {
            let nobody = || Error::new(Reason::Misconfigured, "streams are not open on this node");
            let streams = self.streams.get().ok_or_else(nobody)?;
            let (mut request, body) = request_below(&self.settings.prefix, call);
            let response =
                match router::route(STREAM_OPERATIONS.iter(), &request.method, &request.path) {
                    Ok((row, names)) => {
                        let bytes = body.collect(row.operation.body_bytes_max).await?;
                        request.body = bytes;
                        row.answer(streams, names, &request).await
                    }
                    Err(refusal) => *refusal,
                };
            Ok(reply(local, response))
        })
    }
}
