//! Orders: what was bought. REST and gRPC over one core.
//!
//! Placing an order reserves stock and then authorises the payment, both through Weft; when the
//! payment is refused the reservation is given back. That it was placed is published as
//! `order.placed`.

pub(crate) mod grpc;
pub(crate) mod rest;

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use futures_util::stream::{self, BoxStream, StreamExt};
use http::{Method, StatusCode};
use tokio::sync::{
    broadcast::{self, error::RecvError},
    watch,
};
use weft_kernel::Rng;

use crate::{
    failure::Failure,
    inventory::{Reservation, Reserve},
    payments::{Authorisation, Authorise},
    proto::{CreateOrderRequest, Order, StreamOrdersRequest},
    store::Store,
    trace::Trace,
    upstream::Upstream,
};

/// A follower that is further behind than this misses orders rather than holding them in memory.
const FOLLOW_MAX: usize = 256;

/// The orders that are known.
#[derive(Clone, Debug)]
pub(crate) struct Orders(Arc<State>);

#[derive(Debug)]
struct State {
    orders: Store<u64, Order>,
    last_id: AtomicU64,
    rng: Mutex<Rng>,
    upstream: Upstream,
    placed: broadcast::Sender<Order>,
    stopped: watch::Receiver<bool>,
}

impl Orders {
    /// No orders yet. Streams that follow end when `stopped` turns true.
    pub(crate) fn new(upstream: Upstream, stopped: watch::Receiver<bool>) -> Self {
        Self(Arc::new(State {
            orders: Store::new(),
            last_id: AtomicU64::new(0),
            rng: Mutex::new(Rng::from_entropy()),
            upstream,
            placed: broadcast::Sender::new(FOLLOW_MAX),
            stopped,
        }))
    }

    /// Reserves, authorises, keeps.
    async fn place(&self, wanted: CreateOrderRequest, trace: &Trace) -> Result<Order, Failure> {
        let CreateOrderRequest { user_id, lines } = wanted;
        if lines.is_empty() || lines.iter().any(|line| line.quantity == 0) {
            let detail = "an order needs lines, and each line a quantity";
            return Err(Failure::new(StatusCode::BAD_REQUEST, detail));
        }
        // Named by chance, not by number: numbers begin anew when the instance does.
        let key = format!(
            "{:016x}",
            self.0.rng.lock().unwrap_or_else(PoisonError::into_inner).next_u64()
        );
        let upstream = &self.0.upstream;
        let path = format!("/reservations/{key}");
        let reserve = Reserve { lines };
        let reservation: Reservation =
            upstream.send(Method::PUT, "inventory", &path, &reserve, trace).await?;
        let authorise = Authorise { user_id, cents: reservation.total_cents };
        let authorised: Result<Authorisation, Failure> = upstream
            .send(Method::PUT, "payments", &format!("/authorisations/{key}"), &authorise, trace)
            .await;
        let authorisation = match authorised {
            Ok(authorisation) => authorisation,
            Err(refused) => {
                let back: Result<Reservation, _> =
                    upstream.send(Method::DELETE, "inventory", &path, &(), trace).await;
                // Another instance may have been asked, which does not know the reservation.
                if let Err(failure) = back
                    && failure.status != StatusCode::NOT_FOUND
                {
                    eprintln!("reservation {key} is not given back: {}", failure.detail);
                }
                return Err(refused);
            }
        };
        let order = Order {
            id: self.0.last_id.fetch_add(1, Ordering::Relaxed) + 1,
            user_id,
            lines: reservation.lines,
            total_cents: reservation.total_cents,
            reservation: reservation.id,
            payment: authorisation.id,
        };
        self.0.orders.put(order.id, order.clone());
        // Others learn of the order by a message, whoever they are and whether they run now or not. An
        // order that is placed stands, also if nobody could be told.
        if let Err(failure) = upstream.publish("order.placed", &key, &order, trace).await {
            eprintln!("order {} is placed, but not published: {}", order.id, failure.detail);
        }
        // No follower is no failure.
        let _ = self.0.placed.send(order.clone());
        Ok(order)
    }

    fn get(&self, id: u64) -> Result<Order, Failure> {
        self.0.orders.get(&id).ok_or_else(|| Failure::not_found("order", id))
    }

    /// The orders that are known, then, if asked, those that come.
    fn stream(&self, wanted: StreamOrdersRequest) -> BoxStream<'static, Order> {
        let limit = match wanted.limit {
            0 => usize::MAX,
            limit => limit as usize,
        };
        // Subscribed before the list is read, so that nothing falls between; what is in both is
        // given once.
        let placed = self.0.placed.subscribe();
        let known = self.0.orders.all();
        let last = known.last().map_or(0, |order| order.id);
        let known = stream::iter(known);
        if !wanted.follow {
            return known.take(limit).boxed();
        }
        let coming = stream::unfold(placed, |mut placed| async move {
            loop {
                match placed.recv().await {
                    Ok(order) => return Some((order, placed)),
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return None,
                }
            }
        })
        .filter(move |order| std::future::ready(order.id > last));
        let mut stopped = self.0.stopped.clone();
        let end = async move {
            // An error means that nobody can ask any more, which is an end too.
            let _ = stopped.wait_for(|stopped| *stopped).await;
        };
        known.chain(coming).take(limit).take_until(Box::pin(end)).boxed()
    }
}
