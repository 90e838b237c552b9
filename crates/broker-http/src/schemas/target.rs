//! The registry on routes: the API below a path, which is the base URL of clients.

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
use weft_schemas::Registry;
use weft_wire::{Known, problem};

use super::{MEDIA, ROOT, Refusal, SCHEMA_OPERATIONS, written};
use crate::{
    response::{Content, Response},
    target::{reply, request_below},
};

/// The handler of routes that offer schemas; its settings are a [`SchemasApi`].
pub const SCHEMAS: &str = "schemas";

/// Where the registry stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemasApi {
    /// The path of the base URL; empty for the root.
    pub prefix: String,
}

impl fmt::Display for SchemasApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "schemas below {}/", self.prefix)
    }
}

/// The local handlers of schemas. Routes can be bound to them before the ledger is open.
#[derive(Clone, Default)]
pub struct SchemaTargets(Arc<OnceLock<Registry>>);

impl SchemaTargets {
    /// Gives what answers from now on; the first one stays.
    pub fn open(&self, registry: Registry) {
        let _ = self.0.set(registry);
    }

    /// Adds them to the handlers of a node.
    pub fn register(&self, handlers: Handlers) -> Handlers {
        handlers.with_target(SCHEMAS, self.clone())
    }
}

impl TargetMaker for SchemaTargets {
    fn make(&self, binding: &Binding) -> Result<Arc<dyn LocalTarget>, String> {
        Ok(Arc::new(Bound { registry: Arc::clone(&self.0), settings: binding.settings()? }))
    }
}

/// A target of a route.
struct Bound {
    registry: Arc<OnceLock<Registry>>,
    settings: SchemasApi,
}

impl LocalTarget for Bound {
    fn call<'a>(&'a self, local: &'a Rc<Local>, call: Call) -> LocalFuture<'a, Result<Reply>> {
        Box::pin(async move {
            let nobody = || Error::new(Reason::Misconfigured, "schemas are not open on this node");
            let registry = self.registry.get().ok_or_else(nobody)?;
            let (mut request, body) = request_below(&self.settings.prefix, call);
            request.path = format!("{ROOT}{}", request.path.trim_end_matches('/'));
            let path = request.path.clone();
            let response = match router::route(SCHEMA_OPERATIONS.iter(), &request.method, &path) {
                Ok((row, names)) => {
                    request.body = body.collect(row.operation.body_bytes_max).await?;
                    row.answer(registry, names, &request).await
                }
                Err(refusal) => *refusal,
            };
            Ok(reply(local, in_words(response)?))
        })
    }
}

/// A problem in the words of the registry's own refusals.
pub(super) fn in_words(response: Response) -> Result<Response> {
    let is_problem = response.fields.get_str(Known::ContentType) == Some(problem::CONTENT_TYPE);
    let (Content::Whole(body), true) = (&response.content, is_problem) else {
        return Ok(response);
    };
    let told: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let said = told["detail"].as_str().or_else(|| told["title"].as_str()).unwrap_or("refused");
    let code = u32::from(response.status);
    // Of Confluent's codes these are those of the store.
    let code = if code >= 500 { code * 100 + 1 } else { code };
    let refusal = Refusal { error_code: code, message: said.to_owned() };
    let mut told = written(response.status, &refusal)?;
    for name in ["allow", "retry-after"] {
        if let Some(value) = response.fields.named(name) {
            told.fields.append(name, value);
        }
    }
    debug_assert_eq!(told.fields.get_str(Known::ContentType), Some(MEDIA));
    Ok(told)
}
