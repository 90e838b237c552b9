//! Streams and projections on routes: the API of each below a path.

use std::{
    fmt,
    rc::Rc,
    sync::{Arc, OnceLock},
};

use weft_api::{Row, router};
use weft_kernel::{Error, Reason, Result};
use weft_proxy::{
    Call, Handlers, Local, LocalFuture, LocalTarget, Reply, TargetMaker, plan::Binding,
};

use super::{STREAM_OPERATIONS, Streams};
use crate::target::{reply, request_below};

/// The handler of routes that offer streams; its settings are an [`ApiPath`].
pub const STREAMS: &str = "streams";

/// What is offered below a path: rows of the one table, by what they operate.
pub trait Below: Clone + Send + Sync + 'static {
    /// The name of the handler.
    const HANDLER: &'static str;

    /// Its rows.
    fn rows() -> &'static [Row<Self>];
}

impl Below for Streams {
    const HANDLER: &'static str = STREAMS;

    fn rows() -> &'static [Row<Self>] {
        STREAM_OPERATIONS
    }
}

/// Where an API stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiPath {
    /// What is offered.
    pub what: &'static str,
    /// What stands before `/v1` in the path; empty for nothing.
    pub prefix: String,
}

impl fmt::Display for ApiPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} below {}/v1", self.what, self.prefix)
    }
}

/// The local handlers of an API. Routes can be bound to them before the ledger is open.
#[derive(Clone)]
pub struct BelowTargets<S>(Arc<OnceLock<S>>);

/// The local handlers of streams.
pub type StreamTargets = BelowTargets<Streams>;

impl<S> Default for BelowTargets<S> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<S: Below> BelowTargets<S> {
    /// Gives what answers from now on; the first one stays.
    pub fn open(&self, state: S) {
        let _ = self.0.set(state);
    }

    /// Adds them to the handlers of a node.
    pub fn register(&self, handlers: Handlers) -> Handlers {
        handlers.with_target(S::HANDLER, self.clone())
    }
}

impl<S: Below> TargetMaker for BelowTargets<S> {
    fn make(&self, binding: &Binding) -> Result<Arc<dyn LocalTarget>, String> {
        Ok(Arc::new(Bound { state: Arc::clone(&self.0), settings: binding.settings()? }))
    }
}

/// A target of a route.
struct Bound<S> {
    state: Arc<OnceLock<S>>,
    settings: ApiPath,
}

impl<S: Below> LocalTarget for Bound<S> {
    fn call<'a>(&'a self, local: &'a Rc<Local>, call: Call) -> LocalFuture<'a, Result<Reply>> {
        Box::pin(async move {
            let nobody = || {
                let say = format!("{} are not open on this node", S::HANDLER);
                Error::new(Reason::Misconfigured, say)
            };
            let state = self.state.get().ok_or_else(nobody)?;
            let (mut request, body) = request_below(&self.settings.prefix, call);
            let response = match router::route(S::rows().iter(), &request.method, &request.path) {
                Ok((row, names)) => {
                    let bytes = body.collect(row.operation.body_bytes_max).await?;
                    request.body = bytes;
                    row.answer(state, names, &request).await
                }
                Err(refusal) => *refusal,
            };
            Ok(reply(local, response))
        })
    }
}
