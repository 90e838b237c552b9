//! Reading documents of projections: one, many, and those that change, as server-sent events.

use std::{num::ParseIntError, time::Duration};

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};
use weft_api::time;
use weft_events::projection::{
    Listing, Projection, Shown,
    read::{Changed, Changes, Filter},
};
use weft_kernel::{Error, Reason, Result};
use weft_wire::problem::write_json_string;

use super::{
    Ask, behind, moment, projection,
    token::{STALE, farthest},
};
use crate::{
    query::Query,
    response::{EVENT_STREAM, JSON, Response},
    sse,
};

/// The most documents of an answer, and those that it has unless more are asked for.
pub(super) const LIMIT: u64 = 1_000;
const PAGE: u64 = 100;
/// The longest that a read waits, and how long it does unless it says.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(60);
const WAIT: Duration = Duration::from_secs(1);

/// A document.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Document")]
#[allow(dead_code, reason = "it is written by hand")]
pub(super) struct DocumentView {
    /// Its key.
    key: String,
    /// The position of the event that changed it last.
    position: u64,
    /// Its fields.
    document: Map<String, Value>,
}

/// Documents.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Documents")]
#[allow(dead_code, reason = "it is written by hand")]
pub(super) struct DocumentsView {
    /// The documents, by key, or in the order that was asked for.
    documents: Vec<DocumentView>,
    /// The key to go on after, if there may be more.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    /// Whether there were more documents than one question looks at.
    cut: bool,
}

fn write(out: &mut Vec<u8>, shown: &Shown) {
    out.extend_from_slice(b"{\"key\":");
    write_json_string(&shown.key, out);
    out.extend_from_slice(format!(",\"position\":{},\"document\":", shown.position).as_bytes());
    out.extend_from_slice(&shown.json);
    out.push(b'}');
}

/// Waits until the projection has got as far as the token of a request; whether it has.
async fn wait(ask: &Ask<'_>, of: &Projection, query: &mut Query<'_>) -> Result<bool> {
    let wait = query.span("wait", WAIT_MAX)?.unwrap_or(WAIT);
    let serves = match query.take("on_stale").as_deref() {
        None | Some("refuse") => false,
        Some("serve") => true,
        Some(_) => {
            return Err(Error::new(Reason::MalformedRequest, "`on_stale` is refuse or serve"));
        }
    };
    let Some(to) = farthest(&ask.state.events, &ask.request.fields)? else { return Ok(true) };
    let is_there = tokio::time::timeout(wait, of.reached(to)).await.is_ok();
    if !is_there && !serves {
        return Err(behind(of));
    }
    Ok(is_there)
}

fn one(shown: &Shown) -> Response {
    let mut out = Vec::with_capacity(64 + shown.key.len() + shown.json.len());
    write(&mut out, shown);
    Response::of(200, JSON, out)
}

fn told(response: Response, is_fresh: bool) -> Response {
    let response = response.with("cache-control", "no-cache");
    if is_fresh { response } else { response.with(STALE, "true") }
}

/// `GET /v1/projections/{name}/documents/{key}`
pub(super) async fn document(ask: Ask<'_>) -> Result<Response> {
    let projection = projection(&ask)?;
    let mut query = ask.query()?;
    let key = ask.names.at(1);
    let absent = || {
        let say = format!("the projection `{}` has no document of this key", projection.name());
        Error::new(Reason::NotFound, say)
    };
    if let Some(until) = query.take("until") {
        let until = time::parse("until", &until)?;
        let shown = moment::at(projection, key, until).await?.ok_or_else(absent)?;
        return Ok(told(one(&shown), true));
    }
    let is_fresh = wait(&ask, projection, &mut query).await?;
    let build = projection.status().build;
    let shown = projection.document(key).await?.ok_or_else(absent)?;
    let tag = format!("\"{build}-{}\"", shown.position);
    let known = ask.request.text("if-none-match").unwrap_or_default();
    let is_known = known.split(',').any(|of| of.trim().trim_start_matches("W/") == tag);
    let response = if is_known { Response::empty(304) } else { one(&shown) };
    Ok(told(response.with("etag", &tag), is_fresh))
}

/// `GET /v1/projections/{name}/documents`
pub(super) async fn documents(ask: Ask<'_>) -> Result<Response> {
    let projection = projection(&ask)?;
    let mut query = ask.query()?;
    if ask.request.accepts(EVENT_STREAM) {
        return follow(&ask, projection, &mut query);
    }
    let is_fresh = wait(&ask, projection, &mut query).await?;
    let limit = query.number("limit", 1, LIMIT)?.unwrap_or(PAGE);
    let sort = query.take("sort").map(|sort| match sort.strip_prefix('-') {
        Some(field) => (field.to_owned(), true),
        None => (sort.clone().into_owned(), false),
    });
    let after = query.take("after").map(Into::into);
    if sort.is_some() && after.is_some() {
        let say = "`after` goes by keys, and not with `sort`";
        return Err(Error::new(Reason::MalformedRequest, say));
    }
    let listing = Listing {
        prefix: query.take("prefix").unwrap_or_default().into_owned(),
        after,
        filter: query.take("filter").map(|text| Filter::new(&text)).transpose()?,
        sort,
        limit: usize::try_from(limit).unwrap_or(usize::MAX),
    };
    let listed = projection.list(&listing).await?;
    let mut out = b"{\"documents\":[".to_vec();
    for (at, shown) in listed.documents.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write(&mut out, shown);
    }
    out.push(b']');
    if let Some(next) = &listed.next {
        out.extend_from_slice(b",\"next\":");
        write_json_string(next, &mut out);
    }
    out.extend_from_slice(if listed.is_cut { b",\"cut\":true}" } else { b",\"cut\":false}" });
    Ok(told(Response::of(200, JSON, out), is_fresh))
}

/// Tells documents that change: from the last that a client has seen, or from now on.
fn follow(ask: &Ask<'_>, projection: &Projection, query: &mut Query<'_>) -> Result<Response> {
    let wrong = |say: &'static str| Error::new(Reason::MalformedRequest, say);
    let from = match query.take("from").as_deref() {
        None | Some("end") => projection.status().position,
        Some("start") => 0,
        Some(number) => number.parse().map_err(|error: ParseIntError| {
            wrong("`from` is start, end, or a position").because(error)
        })?,
    };
    let from = match ask.request.text("last-event-id") {
        None => from,
        Some(last) => {
            let say = "Last-Event-ID is the number of the last change that came";
            let last: u64 =
                last.parse().map_err(|error: ParseIntError| wrong(say).because(error))?;
            last.saturating_add(1)
        }
    };
    if from > projection.end() {
        let say = "the events behind which changes are asked for are not there: they were restored or made anew";
        return Err(Error::new(Reason::PositionConflict, say));
    }
    Ok(sse::response(Following(projection.changes(from)), ask.state.stop.clone()))
}

struct Following(Changes);

impl sse::Teller for Following {
    async fn next(&mut self) -> Result<Bytes> {
        let told = self.0.next().await?;
        let id = |position: Option<u64>| position.map_or(String::new(), |at| at.to_string());
        let (mut out, mut data) = (Vec::with_capacity(512), Vec::with_capacity(512));
        match told {
            Changed::Document(position, shown) => {
                write(&mut data, &shown);
                sse::write(&mut out, &id(position), "document", &data);
            }
            Changed::Gone(position, key) => {
                data.extend_from_slice(b"{\"key\":");
                write_json_string(&key, &mut data);
                data.push(b'}');
                sse::write(&mut out, &id(position), "deleted", &data);
            }
            Changed::Rebuilt => sse::write(&mut out, "", "weft.rebuilt", b"{}"),
        }
        Ok(out.into())
    }
}
