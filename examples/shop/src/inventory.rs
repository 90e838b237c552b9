//! Inventory: what is on the shelf, what it costs, and what is set aside for an order. REST.
//!
//! A reservation is named by its caller and made with PUT, so that sending it twice reserves once and
//! a proxy may retry it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    Json, Router,
    extract::{Path, State},
    routing::{get, put},
};
use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::{failure::Failure, proto::Line, store::Store};

/// Stock keeping unit, price in cents, how many there are at first.
const SHELF: [(&str, u64, u64); 3] =
    [("tea", 450, 1_000_000), ("mug", 1_200, 1_000_000), ("kettle", 3_900, 5)];

/// One article on the shelf.
#[derive(Clone, Debug, Serialize)]
struct Stock {
    sku: String,
    price_cents: u64,
    available: u64,
}

/// How many of an article there are from now on.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Restock {
    available: u64,
}

/// What a reservation is for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Reserve {
    pub(crate) lines: Vec<Line>,
}

/// Articles that are set aside.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Reservation {
    pub(crate) id: String,
    pub(crate) lines: Vec<Line>,
    pub(crate) total_cents: u64,
}

#[derive(Debug)]
struct Inventory {
    shelf: Mutex<BTreeMap<String, Stock>>,
    reservations: Store<String, Reservation>,
}

type Shared = State<Arc<Inventory>>;

/// The REST routes.
pub(crate) fn routes() -> Router {
    Router::new()
        .route("/stock", get(stock))
        .route("/stock/{sku}", get(article).put(restock))
        .route("/reservations/{id}", put(reserve).get(reservation).delete(release))
        .with_state(Arc::new(Inventory::new()))
}

impl Inventory {
    fn new() -> Self {
        let shelf = SHELF.map(|(sku, price_cents, available)| {
            (sku.to_owned(), Stock { sku: sku.to_owned(), price_cents, available })
        });
        Self { shelf: Mutex::new(shelf.into()), reservations: Store::new() }
    }

    fn shelf(&self) -> MutexGuard<'_, BTreeMap<String, Stock>> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets all lines aside, or none and says why.
    fn reserve(&self, id: String, lines: Vec<Line>) -> Result<Reservation, Failure> {
        if let Some(made) = self.reservations.get(&id) {
            return if made.lines == lines {
                Ok(made)
            } else {
                Err(Failure::new(StatusCode::CONFLICT, format!("{id} is for other articles")))
            };
        }
        let mut shelf = self.shelf();
        let mut wanted: BTreeMap<&str, u64> = BTreeMap::new();
        for line in &lines {
            *wanted.entry(&line.sku).or_default() += u64::from(line.quantity);
        }
        let mut total_cents = 0u64;
        for (sku, quantity) in &wanted {
            let stock = shelf.get(*sku).ok_or_else(|| Failure::not_found("article", sku))?;
            if stock.available < *quantity {
                let detail = format!("{quantity} {sku} are wanted, {} are left", stock.available);
                return Err(Failure::new(StatusCode::CONFLICT, detail));
            }
            total_cents = total_cents.saturating_add(stock.price_cents.saturating_mul(*quantity));
        }
        for (sku, quantity) in wanted {
            if let Some(stock) = shelf.get_mut(sku) {
                stock.available -= quantity;
            }
        }
        let reservation = Reservation { id: id.clone(), lines, total_cents };
        self.reservations.put(id, reservation.clone());
        Ok(reservation)
    }

    /// Puts everything back.
    fn release(&self, id: &String) -> Result<Reservation, Failure> {
        let gone =
            self.reservations.remove(id).ok_or_else(|| Failure::not_found("reservation", id))?;
        let mut shelf = self.shelf();
        for line in &gone.lines {
            if let Some(stock) = shelf.get_mut(&line.sku) {
                stock.available = stock.available.saturating_add(u64::from(line.quantity));
            }
        }
        Ok(gone)
    }
}

async fn stock(State(inventory): Shared) -> Json<Vec<Stock>> {
    Json(inventory.shelf().values().cloned().collect())
}

async fn article(
    State(inventory): Shared,
    Path(sku): Path<String>,
) -> Result<Json<Stock>, Failure> {
    let stock = inventory.shelf().get(&sku).cloned();
    stock.map(Json).ok_or_else(|| Failure::not_found("article", sku))
}

async fn restock(
    State(inventory): Shared,
    Path(sku): Path<String>,
    Json(restock): Json<Restock>,
) -> Result<Json<Stock>, Failure> {
    let mut shelf = inventory.shelf();
    let stock = shelf.get_mut(&sku).ok_or_else(|| Failure::not_found("article", sku))?;
    stock.available = restock.available;
    Ok(Json(stock.clone()))
}

async fn reserve(
    State(inventory): Shared,
    Path(id): Path<String>,
    Json(Reserve { lines }): Json<Reserve>,
) -> Result<Json<Reservation>, Failure> {
    inventory.reserve(id, lines).map(Json)
}

async fn reservation(
    State(inventory): Shared,
    Path(id): Path<String>,
) -> Result<Json<Reservation>, Failure> {
    let made = inventory.reservations.get(&id);
    made.map(Json).ok_or_else(|| Failure::not_found("reservation", id))
}

async fn release(
    State(inventory): Shared,
    Path(id): Path<String>,
) -> Result<Json<Reservation>, Failure> {
    inventory.release(&id).map(Json)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(sku: &str, quantity: u32) -> Line {
        Line { sku: sku.to_owned(), quantity }
    }

    fn left(inventory: &Inventory, sku: &str) -> u64 {
        inventory.shelf()[sku].available
    }

    #[test]
    fn a_reservation_takes_all_or_nothing_and_twice_is_once() {
        let inventory = Inventory::new();
        let lines = vec![line("kettle", 2), line("kettle", 1), line("tea", 2)];
        let first = inventory.reserve("a".into(), lines.clone()).unwrap();
        assert_eq!(first.total_cents, 3 * 3_900 + 2 * 450);
        assert_eq!(inventory.reserve("a".into(), lines).unwrap().total_cents, first.total_cents);
        assert_eq!(left(&inventory, "kettle"), 2);

        for (id, lines, status) in [
            ("b", vec![line("tea", 1), line("kettle", 3)], StatusCode::CONFLICT),
            ("c", vec![line("tea", 1), line("lamp", 1)], StatusCode::NOT_FOUND),
            ("a", vec![line("tea", 1)], StatusCode::CONFLICT),
        ] {
            assert_eq!(inventory.reserve(id.into(), lines).unwrap_err().status, status, "{id}");
        }
        assert_eq!((left(&inventory, "kettle"), left(&inventory, "tea")), (2, 999_998));

        inventory.release(&"a".to_owned()).unwrap();
        assert!(inventory.release(&"a".to_owned()).is_err());
        assert_eq!((left(&inventory, "kettle"), left(&inventory, "tea")), (5, 1_000_000));
    }
}
