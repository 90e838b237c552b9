//! Notifications: messages to people, kept so that one can see what would have been sent. REST.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use axum::{Json, Router, extract::State, routing::get};
use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::store::Store;

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
}

/// The REST routes.
pub(crate) fn routes() -> Router {
    let outbox = Outbox { sent: Store::new(), last_id: AtomicU64::new(0) };
    Router::new().route("/notifications", get(list).post(notify)).with_state(Arc::new(outbox))
}

async fn list(State(outbox): State<Arc<Outbox>>) -> Json<Vec<Notification>> {
    Json(outbox.sent.all())
}

async fn notify(
    State(outbox): State<Arc<Outbox>>,
    Json(Notify { user_id, text }): Json<Notify>,
) -> (StatusCode, Json<Notification>) {
    let id = outbox.last_id.fetch_add(1, Ordering::Relaxed) + 1;
    let notification = Notification { id, user_id, text };
    outbox.sent.put(id, notification.clone());
    (StatusCode::CREATED, Json(notification))
}
