//! The handle by which a source tells what it knows.

use std::{
    collections::BTreeSet,
    fmt, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;
use weft_kernel::{Clock, Tick};

use super::{ENDPOINTS_MAX, Instance, State, Told};

/// Sources that have told something since it was looked at last.
#[derive(Debug)]
pub(crate) struct Changes {
    ids: Mutex<BTreeSet<u64>>,
    wake: Arc<Notify>,
}

impl Changes {
    pub(crate) fn new(wake: Arc<Notify>) -> Arc<Self> {
        Arc::new(Self { ids: Mutex::default(), wake })
    }

    fn note(&self, id: u64) {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        self.wake.notify_one();
    }

    pub(crate) fn forget(&self, id: u64) {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    pub(crate) fn take(&self) -> BTreeSet<u64> {
        mem::take(&mut self.ids.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What one source has told, shared between it and the services.
pub(crate) struct Slot {
    id: u64,
    told: Mutex<Told>,
    wanted: Notify,
    changes: Arc<Changes>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("id", &self.id).field("told", &self.told).finish()
    }
}

impl Slot {
    pub(crate) fn new(id: u64, changes: Arc<Changes>, clock: Arc<dyn Clock>) -> Arc<Self> {
        let told = Told {
            instances: Arc::default(),
            state: State::Pending,
            pushed: None,
            failing_since: None,
            failures: 0,
            error: None,
            next: None,
        };
        Arc::new(Self { id, told: Mutex::new(told), wanted: Notify::new(), changes, clock })
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn state(&self) -> State {
        self.lock().state
    }

    pub(crate) fn instances(&self) -> Arc<[Instance]> {
        Arc::clone(&self.lock().instances)
    }

    pub(crate) fn told(&self) -> Told {
        self.lock().clone()
    }

    /// Asks the source to look again, since its endpoints seem to be gone.
    pub(crate) fn want(&self) {
        self.wanted.notify_one();
    }
}

/// The handle of a source: pushes whole sets, and reports failures.
#[derive(Clone, Debug)]
pub struct Feed(Arc<Slot>);

impl Feed {
    pub(crate) fn new(slot: Arc<Slot>) -> Self {
        Self(slot)
    }

    /// Makes these the endpoints. One that was there before keeps its state, by address, host name and
    /// zone. A set of more than [`ENDPOINTS_MAX`] is taken as a failure.
    pub fn push(&self, instances: Vec<Instance>) {
        if instances.len() > ENDPOINTS_MAX {
            let count = instances.len();
            return self.fail(format!("{count} endpoints are told, more than {ENDPOINTS_MAX}"));
        }
        self.change(|told, now| {
            let changed = told.state != State::Fresh || *told.instances != *instances;
            if *told.instances != *instances {
                told.instances = instances.into();
            }
            told.state = State::Fresh;
            told.pushed = Some(now);
            told.failing_since = None;
            told.failures = 0;
            told.error = None;
            changed
        });
    }

    /// Reports that nothing can be told for the moment, and why. The last set stays.
    pub fn fail(&self, why: impl Into<String>) {
        self.failed(why.into(), false);
    }

    /// Reports a failure that is known to leave no endpoint: the last set goes.
    pub fn withdraw(&self, why: impl Into<String>) {
        self.failed(why.into(), true);
    }

    /// Says when the source tries next; `None` if it waits to be told.
    pub fn next_try(&self, at: Option<Tick>) {
        self.0.lock().next = at;
    }

    /// Completes when a service has found the endpoints wanting since this completed last: none of them
    /// takes a request. Cancel-safe.
    pub async fn wanted(&self) {
        self.0.wanted.notified().await;
    }

    fn failed(&self, why: String, empty: bool) {
        self.change(|told, now| {
            let before = (told.state, told.instances.len());
            if empty {
                told.instances = Arc::default();
            }
            told.state = if told.instances.is_empty() { State::Failed } else { State::Stale };
            told.failures = told.failures.saturating_add(1);
            told.failing_since.get_or_insert(now);
            told.error = Some(why);
            before != (told.state, told.instances.len())
        });
    }

    fn change(&self, make: impl FnOnce(&mut Told, Tick) -> bool) {
        let now = self.0.clock.now();
        let changed = make(&mut self.0.lock(), now);
        if changed {
            self.0.changes.note(self.0.id);
        }
    }
}
