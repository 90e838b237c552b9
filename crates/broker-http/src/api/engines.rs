//! Engines: what keeps messages, and what each of them can do.

use serde_json::{Map, Value, json};
use weft_kernel::Result;

use super::Ask;
use crate::response::Response;

/// `GET /v1/engines`
pub(super) async fn list(ask: Ask<'_>) -> Result<Response> {
    let names: Vec<&str> = ask.handle.engines().iter().map(|engine| engine.name()).collect();
    Response::json(200, &json!({"engines": names}))
}

/// `GET /v1/engines/{name}`
pub(super) async fn show(ask: Ask<'_>) -> Result<Response> {
    let name = ask.names.at(0);
    let engine = ask.handle.engines().get(name)?;
    let capabilities: Map<String, Value> = engine
        .capabilities()
        .iter()
        .map(|(capability, support)| (capability.word().to_owned(), support.word().into()))
        .collect();
    Response::json(200, &json!({"name": name, "capabilities": capabilities}))
}
