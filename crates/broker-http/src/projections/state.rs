//! How projections stand, and what is done about them by hand.

use std::time::SystemTime;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weft_api::{
    Body,
    schema::{Member, Object, Shape, text},
};
use weft_events::projection::{Parked, Projection, service::Resolve};
use weft_kernel::Result;

use super::{Ask, projection};
use crate::response::Response;

/// A projection.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Projection")]
pub(super) struct ProjectionView {
    /// Its name.
    name: String,
    /// `following`, `rebuilding`, or `stopped`.
    state: &'static str,
    /// The position of the next event that it looks at.
    position: u64,
    /// How many positions of the log it has not looked at.
    lag_events: u64,
    /// For how long it has been behind: the age of the event that it has applied last; 0 if it is not.
    lag_seconds: f64,
    /// How often an event was applied to a document.
    applied: u64,
    /// How many documents and events are parked.
    parked: usize,
    /// How far the build has got that is to take its place, from 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    rebuilt: Option<f64>,
    /// Why it does not go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped: Option<String>,
    /// What it is declared as.
    definition: serde_json::Value,
}

impl ProjectionView {
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    fn of(projection: &Projection) -> Self {
        let (status, lag) = (projection.status(), projection.lag());
        let end = (status.position + lag).max(1) as f64;
        let rebuilt = status.building.map(|position| (position as f64 / end).min(1.0));
        Self {
            name: projection.name().to_owned(),
            state: match (&status.stopped, rebuilt) {
                (Some(_), _) => "stopped",
                (None, Some(_)) => "rebuilding",
                (None, None) => "following",
            },
            position: status.position,
            lag_events: lag,
            lag_seconds: projection.lag_seconds(SystemTime::now()),
            applied: status.applied,
            parked: status.parked,
            rebuilt,
            stopped: status.stopped,
            definition: serde_json::to_value(projection.definition()).unwrap_or_default(),
        }
    }
}

/// What is parked.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ParkedDocument")]
pub(super) struct ParkedView {
    /// The key of the document; left out if that is what cannot be worked out.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// The position of the event.
    position: u64,
    /// Why it cannot be applied.
    why: String,
    /// How many events wait, this one among them.
    waiting: u64,
}

impl From<&Parked> for ParkedView {
    fn from(parked: &Parked) -> Self {
        let Parked { key, position, why, waiting } = parked.clone();
        Self { key, position, why, waiting }
    }
}

/// What was parked, and whether it is again.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ResolvedDocument")]
pub(super) struct ResolvedView {
    /// What is parked now; left out if nothing is.
    #[serde(skip_serializing_if = "Option::is_none")]
    parked: Option<ParkedView>,
}

/// What of what is parked is meant.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    key: Option<String>,
    position: Option<u64>,
}

impl Body for Which {
    const SHAPE: &'static Shape = &Shape::Object(&Object::of(&[
        Member::may("key", Shape::Text(&text::ANY)),
        Member::may("position", Shape::Int(0, u64::MAX)),
    ]));
}

/// `GET /v1/projections`
pub(super) async fn list(ask: Ask<'_>) -> Result<Response> {
    let all: Vec<_> = ask.state.projections.all().map(ProjectionView::of).collect();
    Response::json(200, &all)
}

/// `GET /v1/projections/{name}`
pub(super) async fn show(ask: Ask<'_>) -> Result<Response> {
    Response::json(200, &ProjectionView::of(projection(&ask)?))
}

/// `POST /v1/projections/{name}/rebuild`
pub(super) async fn rebuild(ask: Ask<'_>) -> Result<Response> {
    let projection = projection(&ask)?;
    projection.rebuild().await?;
    Response::json(202, &ProjectionView::of(projection))
}

/// `GET /v1/projections/{name}/parked`
pub(super) async fn parked(ask: Ask<'_>) -> Result<Response> {
    let parked = projection(&ask)?.parked();
    Response::json(200, &parked.iter().map(ParkedView::from).collect::<Vec<_>>())
}

/// `POST /v1/projections/{name}/parked/resume`
pub(super) async fn resume(ask: Ask<'_>) -> Result<Response> {
    resolve(ask, Resolve::Resume).await
}

/// `POST /v1/projections/{name}/parked/skip`
pub(super) async fn skip(ask: Ask<'_>) -> Result<Response> {
    resolve(ask, Resolve::Skip).await
}

async fn resolve(ask: Ask<'_>, how: Resolve) -> Result<Response> {
    let Which { key, position } = ask.body()?;
    let parked = projection(&ask)?.resolve(key, position, how).await?;
    Response::json(200, &ResolvedView { parked: parked.as_ref().map(ParkedView::from) })
}
