//! Notifications: messages to people, kept so that one can see what would have been sent. REST.
//!
//! Orders that were placed are pushed to it (`POST /events`). An event may come more than once, so
//! that it is known by its id.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use axum::{
    Json, Router,
    extract::State,
    routing::{get, post},
};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};

use crate::{failure::Failure, proto::Order, store::Store};

/// What to tell whom.
#[derive(Debug, Deserialize)]
struct Notify {
    user_id: u64,
    text: String,
}

/// A message that was sent.
#[derive(Clone, Debug, Serialize)]
struct Notification {
    id: u64,
    user_id: u64,
    text: String,
}

#[derive(Debug)]
struct Outbox {
    sent: Store<u64, Notification>,
    last_id: AtomicU64,
    /// The ids of events that were handled.
    seen: Store<String, ()>,
}

/// The REST routes.
pub(crate) fn routes() -> Router {
    let outbox = Outbox { sent: Store::new(), last_id: AtomicU64::new(0), seen: Store::new() };
    Router::new()
        .route("/notifications", get(list).post(notify))
        .route("/events", post(event))
        .with_state(Arc::new(outbox))
}

/// Tells the customer of an order; its event is accepted by any 2xx.
async fn event(
    State(outbox): State<Arc<Outbox>>,
    headers: HeaderMap,
    Json(order): Json<Order>,
) -> Result<StatusCode, Failure> {
    let id = headers.get("ce-id").and_then(|id| id.to_str().ok()).ok_or_else(|| {
        Failure::new(StatusCode::BAD_REQUEST, "this is no event: it has no `ce-id`")
    })?;
    if outbox.seen.get(&id.to_owned()).is_none() {
        outbox.seen.put(id.to_owned(), ());
        outbox.send(order.user_id, format!("order {} is placed", order.id));
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn list(State(outbox): State<Arc<Outbox>>) -> Json<Vec<Notification>> {
    Json(outbox.sent.all())
}

async fn notify(
    State(outbox): State<Arc<Outbox>>,
    Json(Notify { user_id, text }): Json<Notify>,
) -> (StatusCode, Json<Notification>) {
    (StatusCode::CREATED, Json(outbox.send(user_id, text)))
}

impl Outbox {
    fn send(&self, user_id: u64, text: String) -> Notification {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let notification = Notification { id, user_id, text };
        self.sent.put(id, notification.clone());
        notification
    }
}
