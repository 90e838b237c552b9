//! What one worker has for itself: its connections, its chance, its view of the snapshot.

use std::{
    cell::RefCell,
    rc::{Rc, Weak},
    sync::Arc,
};

use arc_swap::ArcSwap;
use weft_kernel::{Name, Rng};
use weft_net::{Connect, Network, Stop, Tasks, clock, pool::Pool, timer::TaskTimer};
use weft_telemetry::{access, span};

use crate::{Snapshot, listener::Listener, policy::gathered::Gathering};

/// How often connections are looked at that nobody uses.
const SWEEP: std::time::Duration = std::time::Duration::from_secs(1);

/// What the request path tells of itself, and to whom.
#[derive(Clone, Default)]
pub struct Observers {
    /// Takes access log entries.
    pub access: Option<access::Log>,
    /// Takes spans.
    pub spans: Option<span::Sender>,
    /// Which traces are sampled that nobody has decided on.
    pub sampler: weft_telemetry::trace::Sampler,
}

/// One worker's share of the request path.
pub struct Local {
    /// Its number, by which sharded metrics tell workers apart.
    pub index: usize,
    /// The snapshot that new requests are to use.
    pub current: Arc<ArcSwap<Snapshot>>,
    /// Its connections to services.
    pub pool: Rc<Pool>,
    /// The zone this node stands in.
    pub zone: Option<Arc<str>>,
    /// Whom it tells.
    pub observers: Observers,
    /// Ends its work.
    pub stop: Stop,
    /// Its tasks, which drain waits for.
    pub tasks: Tasks,
    pub(crate) rng: RefCell<Rng>,
    /// Bodies that its policies have read whole.
    pub(crate) gathering: Gathering,
    views: Rc<Views>,
}

/// What a worker has from outside: how it opens connections, and its chance. The time is that of the
/// runtime it stands on ([`weft_net::clock`]).
pub struct Means {
    /// Opens connections to services.
    pub connector: Rc<dyn Connect>,
    /// Draws for balancing, waits and samples.
    pub rng: Rng,
}

impl Default for Means {
    fn default() -> Self {
        Self { connector: Rc::new(Network), rng: Rng::from_entropy() }
    }
}

impl Local {
    /// A worker's share; `tasks` are its own. To be called on the worker's runtime.
    pub fn new(
        index: usize,
        current: Arc<ArcSwap<Snapshot>>,
        zone: Option<Arc<str>>,
        observers: Observers,
        tasks: Tasks,
    ) -> Self {
        Self::with_means(index, current, zone, observers, tasks, Means::default())
    }

    /// A worker's share, with means of the caller's.
    pub fn with_means(
        index: usize,
        current: Arc<ArcSwap<Snapshot>>,
        zone: Option<Arc<str>>,
        observers: Observers,
        tasks: Tasks,
        means: Means,
    ) -> Self {
        let stop = tasks.stop().clone();
        let pool = Rc::new(Pool::new(means.connector, stop.clone()));
        let views = Rc::new(Views { current: current.clone(), latest: RefCell::default() });
        sweep(&pool, &views, &stop, &tasks);
        Self {
            index,
            current,
            pool,
            zone,
            observers,
            stop,
            tasks,
            rng: RefCell::new(means.rng),
            gathering: Gathering::default(),
            views,
        }
    }
}

/// Retires connections and lets go of old snapshots once a second, until the worker drains.
fn sweep(pool: &Rc<Pool>, views: &Rc<Views>, stop: &Stop, tasks: &Tasks) {
    let (pool, views, stop) = (pool.clone(), views.clone(), stop.clone());
    tasks.spawn_local(async move {
        let timer = TaskTimer::default();
        let mut draining = std::pin::pin!(stop.draining());
        loop {
            let next = clock::now().plus(SWEEP);
            if timer.within(next, draining.as_mut()).await.is_ok() {
                return;
            }
            pool.sweep();
            views.sweep();
        }
    });
}

/// A listener within a snapshot.
pub(crate) struct View {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) listener: Arc<Listener>,
}

/// What a worker has seen of the current snapshot. Connections share it, so that one that is idle
/// holds no snapshot back.
struct Views {
    current: Arc<ArcSwap<Snapshot>>,
    latest: RefCell<Vec<Rc<View>>>,
}

impl Views {
    fn of(&self, listener: &Name, now: &Arc<Snapshot>) -> Option<Rc<View>> {
        let mut latest = self.latest.borrow_mut();
        // A listener that is gone is still seen as it was, until its connections have been told to end.
        latest.retain(|view| {
            view.snapshot.generation == now.generation
                || !now.listeners.contains_key(&view.listener.name)
        });
        if let Some(view) = latest.iter().find(|view| view.listener.name == *listener) {
            return Some(view.clone());
        }
        let listener = now.listeners.get(listener).cloned()?;
        let view = Rc::new(View { snapshot: Arc::clone(now), listener });
        latest.push(view.clone());
        Some(view)
    }

    /// Lets go of snapshots that are no longer in force.
    fn sweep(&self) {
        let generation = self.current.load().generation;
        self.latest.borrow_mut().retain(|view| view.snapshot.generation == generation);
    }
}

/// The view of one listener for as long as the snapshot stays, so that a request only compares numbers.
pub(crate) struct ViewCache {
    name: Name,
    view: RefCell<Weak<View>>,
}

impl ViewCache {
    pub(crate) const fn new(name: Name) -> Self {
        Self { name, view: RefCell::new(Weak::new()) }
    }

    /// The name of the listener.
    pub(crate) const fn name(&self) -> &Name {
        &self.name
    }

    /// The view of the current snapshot; `None` if the listener is no longer in it, nor was a moment ago.
    pub(crate) fn look(&self, local: &Local) -> Option<Rc<View>> {
        let now = local.current.load();
        let mut view = self.view.borrow_mut();
        if let Some(view) = view.upgrade()
            && view.snapshot.generation == now.generation
        {
            return Some(view);
        }
        let latest = local.views.of(&self.name, &now)?;
        *view = Rc::downgrade(&latest);
        Some(latest)
    }
}
