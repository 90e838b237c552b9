//! Tables of operations on routes: the API of streams, of schemas or of projections below a path.

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

use crate::{
    response::Response,
    target::{reply, request_below},
};

/// An API that routes offer below a path: rows of the one table, by what they operate.
pub trait Below: Clone + Send + Sync + 'static {
    /// The name of the handler; its settings are an [`ApiPath`].
    const HANDLER: &'static str;

    /// Its rows.
    fn rows() -> &'static [Row<Self>];

    /// The path of a row that a path below the route's means.
    fn row_path(path: String) -> String {
        path
    }

    /// An answer in the words of this API, the refusals of the table among them.
    ///
    /// # Errors
    /// That it cannot be written.
    fn worded(response: Response) -> Result<Response> {
        Ok(response)
    }
}

/// Where an API stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiPath {
    /// The handler that offers it.
    pub handler: &'static str,
    /// What stands before its paths; empty for nothing.
    pub prefix: String,
}

impl fmt::Display for ApiPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} below {}/", self.handler, self.prefix)
    }
}

/// The local handler of an API. Routes can be bound to it before the ledger is open.
pub struct BelowTargets<S>(Arc<OnceLock<S>>);

impl<S> Clone for BelowTargets<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

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

    /// Adds it to the handlers of a node.
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
            request.path = S::row_path(request.path);
            // Names of the path point into it.
            let path = request.path.clone();
            let response = match router::route(S::rows().iter(), &request.method, &path) {
                Ok((row, names)) => {
                    request.body = body.collect(row.operation.body_bytes_max).await?;
                    row.answer(state, names, &request).await
                }
                Err(refusal) => *refusal,
            };
            Ok(reply(local, S::worded(response)?))
        })
    }
}
