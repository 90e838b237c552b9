//! Shipping: parcels on their way. REST.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, State},
    routing::{get, put},
};
use serde::{Deserialize, Serialize};

use crate::{failure::Failure, store::Store};

/// Where an order goes.
#[derive(Debug, Deserialize)]
struct Ship {
    order_id: u64,
    address: String,
}

/// A parcel.
#[derive(Clone, Debug, Serialize)]
struct Shipment {
    id: String,
    order_id: u64,
    address: String,
    status: &'static str,
}

type Shared = State<Arc<Store<String, Shipment>>>;

/// The REST routes.
pub(crate) fn routes() -> Router {
    Router::new()
        .route("/shipments", get(list))
        .route("/shipments/{id}", put(ship).get(show).delete(cancel))
        .with_state(Arc::new(Store::new()))
}

async fn list(State(shipments): Shared) -> Json<Vec<Shipment>> {
    Json(shipments.all())
}

async fn ship(
    State(shipments): Shared,
    Path(id): Path<String>,
    Json(Ship { order_id, address }): Json<Ship>,
) -> Json<Shipment> {
    let shipment = Shipment { id: id.clone(), order_id, address, status: "booked" };
    shipments.put(id, shipment.clone());
    Json(shipment)
}

async fn show(State(shipments): Shared, Path(id): Path<String>) -> Result<Json<Shipment>, Failure> {
    shipments.get(&id).map(Json).ok_or_else(|| Failure::not_found("shipment", id))
}

async fn cancel(
    State(shipments): Shared,
    Path(id): Path<String>,
) -> Result<Json<Shipment>, Failure> {
    let cancelled = shipments.change(&id, |shipment| shipment.status = "cancelled");
    cancelled.map(Json).ok_or_else(|| Failure::not_found("shipment", id))
}
