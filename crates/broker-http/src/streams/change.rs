//! What is done to a stream by hand.

use serde::Deserialize;
use weft_api::{
    Body,
    schema::{Member, Object, Shape},
};
use weft_events::{Expected, store::Change};
use weft_kernel::{Error, Reason, Result};

use super::{Ask, append, expected, stream, view::StreamView};
use crate::response::Response;

/// From which version on a stream stays.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Truncate {
    before: u64,
}

impl Body for Truncate {
    const SHAPE: &'static Shape =
        &Shape::Object(&Object::of(&[Member::must("before", Shape::Int(0, u64::MAX))]));
}

/// `POST /v1/streams/{stream}/truncate`
pub(super) async fn truncate(ask: Ask<'_>) -> Result<Response> {
    let Truncate { before } = ask.body()?;
    let expected = match expected(&mut ask.query()?)? {
        Expected::Any => Expected::Exists,
        expected => expected,
    };
    change(&ask, expected, Change::Truncate(before)).await
}

/// `DELETE /v1/streams/{stream}`
pub(super) async fn delete(ask: Ask<'_>) -> Result<Response> {
    let mut query = ask.query()?;
    let expected = match expected(&mut query)? {
        Expected::Any => Expected::Exists,
        expected => expected,
    };
    let change = match query.take("end").as_deref() {
        None | Some("false") => Change::Delete,
        Some("true") => Change::End,
        Some(_) => return Err(Error::new(Reason::MalformedRequest, "`end` is true or false")),
    };
    self::change(&ask, expected, change).await
}

async fn change(ask: &Ask<'_>, expected: Expected, change: Change) -> Result<Response> {
    let name = stream(ask)?;
    match ask.state.events.change(&name, expected, change).await {
        Ok(info) => Response::json(200, &StreamView::of(&name, &info)),
        Err(rejected) => append::refusal(rejected),
    }
}
