//! Documents as they were at a moment, and what has become of them between two.

use json_patch::{Patch, diff};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use weft_api::time;
use weft_events::projection::{Projection, Shown};
use weft_kernel::{Error, Reason, Result};

use super::{Ask, projection};
use crate::response::{JSON, Response};

/// What has become of a document between two moments.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "DocumentDifference")]
pub(super) struct DifferenceView {
    /// The key of the document.
    key: String,
    /// The document as it was at `since`; null if it was not there.
    since: Option<MomentView>,
    /// The document as it was at `until`; null if it was not there.
    until: Option<MomentView>,
    /// What makes the one of the other: a JSON Patch (RFC 6902).
    #[schemars(with = "Vec<serde_json::Map<String, Value>>")]
    patch: Patch,
}

/// A document as it was.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "DocumentMoment")]
struct MomentView {
    /// The position of the event that had changed it last.
    position: u64,
    /// Its fields.
    #[schemars(with = "serde_json::Map<String, Value>")]
    document: Value,
}

/// A document as it was at a time, that moment included.
pub(super) async fn at(of: &Projection, key: &str, time_ms: u64) -> Result<Option<Shown>> {
    let before = of.position_at(time_ms.saturating_add(1)).await?;
    of.document_before(key, before).await
}

/// `GET /v1/projections/{name}/documents/{key}/difference`
pub(super) async fn difference(ask: Ask<'_>) -> Result<Response> {
    let projection = projection(&ask)?;
    let mut query = ask.query()?;
    let mut moment = |name| query.take(name).map(|text| time::parse(name, &text)).transpose();
    let since = moment("since")?.ok_or_else(|| {
        Error::new(Reason::MalformedRequest, "`since` is the time from which on is asked")
    })?;
    let until = moment("until")?.unwrap_or_else(time::now_ms);
    let key = ask.names.at(1);
    let (mut shown, mut values) = (Vec::with_capacity(2), Vec::with_capacity(2));
    for time_ms in [since, until] {
        let found = at(projection, key, time_ms).await?.map(view).transpose()?;
        values.push(found.as_ref().map_or(Value::Null, |found| found.document.clone()));
        shown.push(found);
    }
    let patch = diff(&values[0], &values[1]);
    let (until, since) = (shown.pop().flatten(), shown.pop().flatten());
    let view = DifferenceView { key: key.to_owned(), since, until, patch };
    let json = serde_json::to_vec(&view).map_err(|error| {
        Error::new(Reason::Internal, "a difference cannot be written").because(error)
    })?;
    Ok(Response::of(200, JSON, json).with("cache-control", "no-cache"))
}

fn view(shown: Shown) -> Result<MomentView> {
    let document = serde_json::from_slice(&shown.json).map_err(|error| {
        Error::new(Reason::Internal, "a document cannot be read").because(error)
    })?;
    Ok(MomentView { position: shown.position, document })
}
