//! Engines: what keeps messages, and what each of them can do.

use serde_json::{Map, json};
use weft_kernel::{Error, Reason, Result};

use super::Ask;
use crate::response::Response;

/// `GET /v1/engines`
pub(super) async fn list(ask: Ask<'_>) -> Result<Response> {
    ask.query()?.done()?;
    let names: Vec<_> = ask.desk.broker().engines().iter().map(|engine| engine.name().to_owned()).collect();
    Response::json(200, &json!({"engines": names}))
}

/// `GET /v1/engines/{name}`
pub(super) async fn show(ask: Ask<'_>) -> Result<Response> {
    ask.query()?.done()?;
    let name = ask.names.at(0);
    let engines = ask.desk.broker().engines();
    let engine = engines.iter().find(|engine| engine.name() == name).ok_or_else(|| {
        Error::new(Reason::NoRoute, format!("there is no engine `{name}`"))
    })?;
    let capabilities: Map<String, serde_json::Value> = engine
        .capabilities()
        .into_iter()
        .map(|(capability, support)| (capability.word().to_owned(), support.word().into()))
        .collect();
    Response::json(200, &json!({"name": name, "capabilities": capabilities}))
}
