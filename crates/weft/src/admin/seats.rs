//! The connections of the admin API, of which there are few: whoever opens as many and says nothing must not
//! keep out those who ask whether the node is well.
//!
//! At the bound the connection makes way that has waited longest for its client: for a whole request, or for
//! the next one. One whose answer is under way, as a stream is, does not. A request takes a place for as long
//! as its answer lasts; there are fewer of these than connections, and a probe needs none.
//!
//! Each permission has places of its own: consumers that poll keep out neither publishers nor who operates the
//! node. Where all are taken, a request makes way of which the body has been long in coming.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::AcqRel, Ordering::Acquire},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    task::AbortHandle,
};
use weft_api::Permission;
use weft_kernel::{SystemClock, Tick};

use super::handover::{BoxError, Payload};

/// The most connections beyond those whose requests may take a place.
const SPARE: usize = 8;
/// The longest wait of a request for a place.
const PLACE_TIME: Duration = Duration::from_secs(1);
/// The wait for a place after which one is asked to make way of which the body is long in coming.
const PATIENCE: Duration = Duration::from_millis(100);

/// The most requests that are answered at once, by what they need permission for.
pub(super) const fn places(permission: Option<Permission>) -> usize {
    match permission {
        Some(Permission::Read | Permission::Manage) => 16,
        Some(Permission::Publish) => 32,
        Some(Permission::Consume) => 64,
        // Nothing but the description of the API, and what probes ask for.
        None => 8,
    }
}

/// The places of requests that need the same permission.
struct Places {
    free: Arc<Semaphore>,
    /// Requests with a place of which the body has been long in coming, the first one first.
    slow: Notify,
    slow_count: AtomicUsize,
}

impl Places {
    fn new(places: usize) -> Arc<Self> {
        Arc::new(Self {
            free: Arc::new(Semaphore::new(places.max(1))),
            slow: Notify::new(),
            slow_count: AtomicUsize::new(0),
        })
    }

    /// A place; `None` if all are taken for too long.
    async fn take(self: &Arc<Self>) -> Option<Place> {
        let acquired =
            |permit: OwnedSemaphorePermit| Place { places: self.clone(), _permit: permit };
        let mut place = std::pin::pin!(self.free.clone().acquire_owned());
        if let Ok(taken) = tokio::time::timeout(PATIENCE, &mut place).await {
            return taken.ok().map(acquired);
        }
        if self.slow_count.load(Acquire) > 0 {
            self.slow.notify_one();
        }
        tokio::time::timeout(PLACE_TIME, place).await.ok()?.ok().map(acquired)
    }
}

/// The place of a request.
pub(super) struct Place {
    places: Arc<Places>,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    /// Waits until another request wants it. To be awaited by one of which the body is long in coming.
    pub(super) async fn wanted(&self) {
        struct Slow<'a>(&'a AtomicUsize);
        impl Drop for Slow<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, AcqRel);
            }
        }
        self.places.slow_count.fetch_add(1, AcqRel);
        let _slow = Slow(&self.places.slow_count);
        self.places.slow.notified().await;
    }
}

/// The connections that there are.
pub(super) struct Seats {
    most: usize,
    taken: Vec<(Arc<Seat>, AbortHandle)>,
    places: Arc<PlacesOf>,
    left: Arc<Notify>,
}

/// The places of requests, by what they need permission for; the last are of those that need none.
struct PlacesOf([Arc<Places>; Permission::ALL.len() + 1]);

impl PlacesOf {
    /// All places, or their part of as many as there may be.
    fn within(most: usize) -> Self {
        let all = Self::all();
        Self(std::array::from_fn(|kind| {
            let permission = Permission::ALL.get(kind).copied();
            Places::new(places(permission) * most.min(all) / all)
        }))
    }

    fn of(&self, permission: Option<Permission>) -> &Arc<Places> {
        &self.0[permission.map_or(Permission::ALL.len(), |permission| permission as usize)]
    }

    fn all() -> usize {
        Permission::ALL.into_iter().map(Some).chain([None]).map(places).sum()
    }
}

impl Seats {
    /// So many connections at most.
    pub(super) fn new(most: usize) -> Self {
        let most = most.min(PlacesOf::all() + SPARE).max(1);
        let places = PlacesOf::within(most - SPARE.min(most / 4));
        Self { most, taken: Vec::new(), places: Arc::new(places), left: Arc::default() }
    }

    /// A seat for a connection that has come.
    pub(super) fn seat(&self) -> Arc<Seat> {
        Arc::new(Seat {
            uses: AtomicUsize::new(0),
            since: AtomicU64::new(SystemClock::tick().nanos()),
            places: self.places.clone(),
            left: self.left.clone(),
        })
    }

    /// Whether a further connection finds no room, nor one that would make way for it.
    pub(super) fn is_full(&mut self) -> bool {
        if self.taken.len() < self.most {
            return false;
        }
        self.taken.retain(|(_, task)| !task.is_finished());
        self.taken.len() >= self.most && self.taken.iter().all(|(seat, _)| seat.is_used())
    }

    /// Takes a seat for the connection that this task serves, which another makes way for at the bound.
    pub(super) fn take(&mut self, seat: Arc<Seat>, task: AbortHandle) {
        if self.taken.len() >= self.most {
            let waits = self.taken.iter().enumerate().filter(|(_, (seat, _))| !seat.is_used());
            let longest = waits.min_by_key(|(_, (seat, _))| seat.since.load(Acquire));
            if let Some((index, _)) = longest {
                self.taken.swap_remove(index).1.abort();
            }
        }
        self.taken.push((seat, task));
    }

    /// Tells when an answer has ended.
    pub(super) fn left(&self) -> Arc<Notify> {
        self.left.clone()
    }
}

/// The place of one connection.
pub(super) struct Seat {
    uses: AtomicUsize,
    /// Since when it has waited for its client.
    since: AtomicU64,
    places: Arc<PlacesOf>,
    left: Arc<Notify>,
}

impl Seat {
    fn is_used(&self) -> bool {
        self.uses.load(Acquire) > 0
    }

    /// A request that has come on it.
    pub(super) fn turn(self: &Arc<Self>) -> Arc<Turn> {
        Arc::new(Turn { seat: self.clone(), begun: AtomicBool::new(false) })
    }

    /// A place for a request that needs this permission; `None` if all are taken for too long.
    pub(super) async fn place(&self, permission: Option<Permission>) -> Option<Place> {
        self.places.of(permission).take().await
    }

    /// A place, however long that takes, for a connection that has left HTTP.
    pub(super) async fn place_at_last(&self) -> Option<OwnedSemaphorePermit> {
        self.places.of(Some(Permission::Consume)).free.clone().acquire_owned().await.ok()
    }
}

/// A request: its connection does not make way from when it is whole until its answer has ended.
pub(super) struct Turn {
    seat: Arc<Seat>,
    begun: AtomicBool,
}

impl Turn {
    /// Notes that the request is whole, or answered already.
    pub(super) fn begin(&self) {
        if !self.begun.swap(true, AcqRel) {
            self.seat.uses.fetch_add(1, AcqRel);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if *self.begun.get_mut() {
            let now: Tick = SystemClock::tick();
            self.seat.since.store(now.nanos(), std::sync::atomic::Ordering::Release);
            self.seat.uses.fetch_sub(1, AcqRel);
            self.seat.left.notify_one();
        }
    }
}

/// The body of an answer, which holds what its request has taken.
pub(super) struct Answering {
    pub(super) body: Payload,
    pub(super) turn: Arc<Turn>,
    pub(super) _place: Option<Arc<Place>>,
}

impl Body for Answering {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.turn.begin();
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
