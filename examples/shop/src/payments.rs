//! Payments: authorisations, each named by its caller, so that asking twice charges once. REST.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, State},
    routing::put,
};
use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::{failure::Failure, store::Store};

/// Nobody's card bears more than this.
const CENTS_MAX: u64 = 100_000;

/// Who pays how much.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Authorise {
    pub(crate) user_id: u64,
    pub(crate) cents: u64,
}

/// Money that may be collected.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Authorisation {
    pub(crate) id: String,
    pub(crate) user_id: u64,
    pub(crate) cents: u64,
}

type Shared = State<Arc<Store<String, Authorisation>>>;

/// The REST routes.
pub(crate) fn routes() -> Router {
    Router::new()
        .route("/authorisations/{id}", put(authorise).get(show).delete(void))
        .with_state(Arc::new(Store::new()))
}

async fn authorise(
    State(payments): Shared,
    Path(id): Path<String>,
    Json(Authorise { user_id, cents }): Json<Authorise>,
) -> Result<Json<Authorisation>, Failure> {
    if let Some(given) = payments.get(&id) {
        return if (given.user_id, given.cents) == (user_id, cents) {
            Ok(Json(given))
        } else {
            Err(Failure::new(StatusCode::CONFLICT, format!("{id} is for another payment")))
        };
    }
    if cents > CENTS_MAX {
        let detail = format!("{cents} cents are declined: the limit is {CENTS_MAX}");
        return Err(Failure::new(StatusCode::PAYMENT_REQUIRED, detail));
    }
    let given = Authorisation { id: id.clone(), user_id, cents };
    payments.put(id, given.clone());
    Ok(Json(given))
}

async fn show(
    State(payments): Shared,
    Path(id): Path<String>,
) -> Result<Json<Authorisation>, Failure> {
    payments.get(&id).map(Json).ok_or_else(|| Failure::not_found("authorisation", id))
}

async fn void(
    State(payments): Shared,
    Path(id): Path<String>,
) -> Result<Json<Authorisation>, Failure> {
    payments.remove(&id).map(Json).ok_or_else(|| Failure::not_found("authorisation", id))
}
