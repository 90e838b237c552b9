//! Invoices: what customers owe. It pulls the orders that were placed from a queue, a few at a time,
//! when it has time for them.
//!
//! An order of somebody who has no account cannot be invoiced, now or later, and is rejected: it waits
//! among the dead letters until somebody has opened the account and sends it through again.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, State},
    routing::{get, put},
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{failure::Failure, proto::Order, server::end, store::Store, upstream::Upstream};

/// Where orders are taken from, and where it is said what became of them.
const QUEUE: &str = "/v1/queues/invoices";
/// Who has an account from the beginning.
const CUSTOMERS: std::ops::RangeInclusive<u64> = 1..=4;
const PAUSE: Duration = Duration::from_millis(500);

/// What a customer owes for an order.
#[derive(Clone, Debug, Serialize)]
struct Invoice {
    order_id: u64,
    user_id: u64,
    total_cents: u64,
}

#[derive(Debug)]
struct Books {
    accounts: Store<u64, ()>,
    invoices: Store<u64, Invoice>,
}

/// The REST routes; orders are pulled through Weft until `stopped` turns true.
pub(crate) fn routes(upstream: Option<Upstream>, stopped: watch::Receiver<bool>) -> Router {
    let books = Arc::new(Books { accounts: Store::new(), invoices: Store::new() });
    for user in CUSTOMERS {
        books.accounts.put(user, ());
    }
    if let Some(upstream) = upstream {
        #[allow(clippy::disallowed_methods, reason = "the example stands on its own")]
        tokio::spawn(pull(upstream, Arc::clone(&books), stopped));
    }
    Router::new()
        .route("/invoices", get(list))
        .route("/accounts/{user}", put(open))
        .with_state(books)
}

async fn list(State(books): State<Arc<Books>>) -> Json<Vec<Invoice>> {
    Json(books.invoices.all())
}

async fn open(State(books): State<Arc<Books>>, Path(user): Path<u64>) -> StatusCode {
    books.accounts.put(user, ());
    StatusCode::NO_CONTENT
}

/// Some orders, each lent to us until its lease is over.
#[derive(Debug, Deserialize)]
struct Received {
    deliveries: Vec<Delivery>,
}

#[derive(Debug, Deserialize)]
struct Delivery {
    id: String,
    event: Event,
}

#[derive(Debug, Deserialize)]
struct Event {
    data: Value,
}

async fn pull(upstream: Upstream, books: Arc<Books>, mut stopped: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = end(&mut stopped) => return,
            round = round(&upstream, &books) => {
                if let Err(failure) = round {
                    eprintln!("orders cannot be pulled: {}", failure.detail);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// Waits for some orders, writes their invoices, and says what became of each.
async fn round(upstream: &Upstream, books: &Books) -> Result<(), Failure> {
    let asked = json!({ "max": 16, "wait": "10s" });
    let received: Received = upstream.ask(&format!("{QUEUE}/receive"), &asked).await?;
    if received.deliveries.is_empty() {
        return Ok(());
    }
    let settle: Vec<Value> = received
        .deliveries
        .into_iter()
        .map(|delivery| match books.invoice(delivery.event.data) {
            Ok(()) => json!({ "id": delivery.id, "how": "accept" }),
            Err(reason) => json!({ "id": delivery.id, "how": "reject", "reason": reason }),
        })
        .collect();
    let _settled: Value =
        upstream.ask(&format!("{QUEUE}/settle"), &json!({ "settle": settle })).await?;
    Ok(())
}

impl Books {
    /// Writes the invoice of an order; one that comes again changes nothing.
    fn invoice(&self, order: Value) -> Result<(), String> {
        let order: Order =
            serde_json::from_value(order).map_err(|error| format!("this is no order: {error}"))?;
        if self.accounts.get(&order.user_id).is_none() {
            return Err(format!("user {} has no account", order.user_id));
        }
        let invoice =
            Invoice { order_id: order.id, user_id: order.user_id, total_cents: order.total_cents };
        self.invoices.put(order.id, invoice);
        Ok(())
    }
}
