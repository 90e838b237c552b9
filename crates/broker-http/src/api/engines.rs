//! Engines: what keeps messages, and what each of them can do.

use serde_json::{Map, Value, json};
use weft_broker::engine::Engine;
use weft_kernel::{Error, Reason, Result};

use super::Ask;
use crate::response::Response;

/// `GET /v1/engines`
pub(super) async fn list(ask: Ask<'_>) -> Result<Response> {
    let engine: &dyn Engine = ask.handle.broker();
    Response::json(200, &json!({"engines": [engine.name()]}))
}

/// `GET /v1/engines/{name}`
pub(super) async fn show(ask: Ask<'_>) -> Result<Response> {
    let name = ask.names.at(0);
    let engine: &dyn Engine = ask.handle.broker();
    if engine.name() != name {
        return Err(Error::new(Reason::NoRoute, format!("there is no engine `{name}`")));
    }
    let capabilities: Map<String, Value> = engine
        .capabilities()
        .iter()
        .map(|(capability, support)| (capability.word().to_owned(), support.word().into()))
        .collect();
    Response::json(200, &json!({"name": name, "capabilities": capabilities}))
}
