//! Orders over REST: JSON, and the list also as NDJSON or server-sent events.

use std::convert::Infallible;

use axum::{
    Extension, Json, Router,
    body::Body,
    extract::{Path, Query, State},
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::stream::StreamExt;
use http::{
    HeaderMap, StatusCode,
    header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, LOCATION},
};

use super::Orders;
use crate::{
    failure::Failure,
    proto::{CreateOrderRequest, Order, StreamOrdersRequest},
    trace::Trace,
};

/// The REST routes.
pub(crate) fn routes(orders: Orders) -> Router {
    Router::new()
        .route("/orders", get(list).post(create))
        .route("/orders/{id}", get(show))
        .route("/my/orders", get(mine))
        .with_state(orders)
}

async fn create(
    State(orders): State<Orders>,
    Extension(trace): Extension<Trace>,
    Json(wanted): Json<CreateOrderRequest>,
) -> Result<Response, Failure> {
    let order = orders.place(wanted, &trace).await?;
    let location = [(LOCATION, format!("/orders/{}", order.id))];
    Ok((StatusCode::CREATED, location, Json(order)).into_response())
}

async fn show(State(orders): State<Orders>, Path(id): Path<u64>) -> Result<Json<Order>, Failure> {
    orders.get(id).map(Json)
}

/// The orders of whoever is logged in, as the gateway says: nobody else can say `x-user` to it.
async fn mine(
    State(orders): State<Orders>,
    headers: HeaderMap,
) -> Result<Json<Vec<Order>>, Failure> {
    let user = headers.get("x-user").and_then(|user| user.to_str().ok()?.parse::<u64>().ok());
    let nobody = || Failure::new(StatusCode::UNAUTHORIZED, "nobody is logged in");
    let user = user.ok_or_else(nobody)?;
    let all = orders.stream(StreamOrdersRequest { limit: 0, follow: false });
    let mine = all.filter(|order| std::future::ready(order.user_id == user));
    Ok(Json(mine.collect().await))
}

/// How the list is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Array,
    Lines,
    Events,
}

impl Shape {
    fn asked(headers: &HeaderMap) -> Self {
        let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if accept.contains("text/event-stream") {
            Self::Events
        } else if accept.contains("ndjson") {
            Self::Lines
        } else {
            Self::Array
        }
    }

    fn write(self, order: &Order) -> String {
        let json = serde_json::json!(order);
        match self {
            Self::Array | Self::Lines => format!("{json}\n"),
            Self::Events => format!("id: {}\nevent: order\ndata: {json}\n\n", order.id),
        }
    }
}

async fn list(
    State(orders): State<Orders>,
    Query(wanted): Query<StreamOrdersRequest>,
    headers: HeaderMap,
) -> Response {
    let shape = Shape::asked(&headers);
    let kind = match shape {
        // An array that is never closed would help nobody, so it does not follow.
        Shape::Array => {
            let list = orders.stream(StreamOrdersRequest { follow: false, ..wanted });
            return Json(list.collect::<Vec<_>>().await).into_response();
        }
        Shape::Lines => "application/x-ndjson",
        Shape::Events => "text/event-stream",
    };
    let chunks = orders.stream(wanted).map(move |order| Ok::<_, Infallible>(shape.write(&order)));
    let fields = [(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-store")];
    (fields, Body::from_stream(chunks)).into_response()
}
