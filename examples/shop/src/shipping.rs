//! Shipping: parcels on their way. REST.
//!
//! It was written for RabbitMQ: orders come by AMQP from the queue `shipping`, and each is acknowledged
//! once its parcel is booked.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, State},
    routing::{get, put},
};
use futures_util::StreamExt as _;
use lapin::{
    Connection, ConnectionProperties,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, BasicRejectOptions},
    types::FieldTable,
};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::{failure::Failure, proto::Order, server::end, store::Store};

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

/// The queue that orders come from.
const QUEUE: &str = "shipping";
/// How long to wait before the broker is connected to again.
const PAUSE: Duration = Duration::from_millis(500);

/// The REST routes; with a broker, orders are taken from there until `stopped` turns true.
pub(crate) fn routes(broker: Option<String>, stopped: watch::Receiver<bool>) -> Router {
    let shipments = Arc::new(Store::new());
    if let Some(url) = broker {
        #[allow(clippy::disallowed_methods, reason = "the example stands on its own")]
        tokio::spawn(consume(url, Arc::clone(&shipments), stopped));
    }
    Router::new()
        .route("/shipments", get(list))
        .route("/shipments/{id}", put(ship).get(show).delete(cancel))
        .with_state(shipments)
}

/// Takes orders from the broker, and connects again whenever the connection is lost.
async fn consume(
    url: String,
    shipments: Arc<Store<String, Shipment>>,
    mut stopped: watch::Receiver<bool>,
) {
    loop {
        tokio::select! {
            () = end(&mut stopped) => return,
            ended = orders(&url, &shipments) => {
                if let Err(error) = ended {
                    eprintln!("orders cannot be taken from {url}: {error}");
                }
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Books a parcel for each order, until the connection ends.
async fn orders(url: &str, shipments: &Store<String, Shipment>) -> lapin::Result<()> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.basic_qos(16, BasicQosOptions::default()).await?;
    let tag = "shipping".into();
    let (options, table) = (BasicConsumeOptions::default(), FieldTable::default());
    let mut orders = channel.basic_consume(QUEUE.into(), tag, options, table).await?;
    while let Some(delivery) = orders.next().await {
        let delivery = delivery?;
        let Ok(order) = serde_json::from_slice::<Order>(&delivery.data) else {
            // It would be no better the next time.
            delivery.reject(BasicRejectOptions { requeue: false }).await?;
            continue;
        };
        let id = format!("order-{}", order.id);
        let address = format!("user {}", order.user_id);
        let shipment = Shipment { id: id.clone(), order_id: order.id, address, status: "booked" };
        shipments.put(id, shipment);
        delivery.ack(BasicAckOptions::default()).await?;
    }
    Ok(())
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
