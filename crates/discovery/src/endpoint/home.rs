//! What an endpoint knows of the service it belongs to: how many of its kind are ejected, how much
//! is in flight altogether, and whom to wake when things go wrong.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
};

use tokio::sync::Notify;

/// The shared part of all endpoints of one service.
#[derive(Debug)]
pub(crate) struct Home {
    held: AtomicU32,
    held_max: AtomicU32,
    /// How many may be ejected that cannot be connected to.
    unreachable_max: AtomicU32,
    counting: AtomicBool,
    active: AtomicU64,
    wanted: AtomicBool,
    wake: Arc<Notify>,
    zones: Mutex<HashMap<Arc<str>, Arc<AtomicU32>>>,
}

impl Home {
    pub(crate) fn new(wake: Arc<Notify>) -> Arc<Self> {
        Arc::new(Self {
            held: AtomicU32::new(0),
            held_max: AtomicU32::new(0),
            unreachable_max: AtomicU32::new(0),
            counting: AtomicBool::new(false),
            active: AtomicU64::new(0),
            wanted: AtomicBool::new(false),
            wake,
            zones: Mutex::default(),
        })
    }

    /// The counter of ejected endpoints in a zone.
    pub(crate) fn zone(&self, zone: &Arc<str>) -> Arc<AtomicU32> {
        let mut zones = self.zones.lock().unwrap_or_else(PoisonError::into_inner);
        // A zone that nothing refers to any more is forgotten, so that churn does not pile up.
        zones.retain(|_, held| Arc::strong_count(held) > 1);
        Arc::clone(zones.entry(Arc::clone(zone)).or_default())
    }

    /// Asks to eject one more; false if that would be more than half. Those that cannot be
    /// connected to may all be out, but never an only one.
    pub(crate) fn take(&self, unreachable: bool) -> bool {
        let max = if unreachable { &self.unreachable_max } else { &self.held_max };
        let max = max.load(Relaxed);
        self.held.fetch_update(Relaxed, Relaxed, |held| (held < max).then_some(held + 1)).is_ok()
    }

    pub(crate) fn give_back(&self) {
        self.held.fetch_sub(1, Relaxed);
    }

    pub(crate) fn held(&self) -> u32 {
        self.held.load(Relaxed)
    }

    pub(crate) fn held_max(&self) -> u32 {
        self.held_max.load(Relaxed)
    }

    /// How many endpoints may be ejected among `serving`: at most half, and never the only one.
    pub(crate) fn resize(&self, serving: usize) {
        self.held_max.store(u32::try_from(serving / 2).unwrap_or(u32::MAX), Relaxed);
        let all = if serving > 1 { u32::try_from(serving).unwrap_or(u32::MAX) } else { 0 };
        self.unreachable_max.store(all, Relaxed);
    }

    /// Whether the service's requests are counted together, which only a bounded load needs.
    pub(crate) fn count(&self, on: bool) {
        self.counting.store(on, Relaxed);
    }

    /// Counts a request in, if they are counted; the answer decides whether it is counted out.
    pub(crate) fn count_in(&self) -> bool {
        let counting = self.counting.load(Relaxed);
        if counting {
            self.active.fetch_add(1, Relaxed);
        }
        counting
    }

    pub(crate) fn count_out(&self) {
        self.active.fetch_sub(1, Relaxed);
    }

    pub(crate) fn active(&self) -> u64 {
        self.active.load(Relaxed)
    }

    /// Something is wrong with the endpoints: whoever resolves them should look again soon.
    pub(crate) fn nudge(&self) {
        if !self.wanted.swap(true, Relaxed) {
            self.wake.notify_one();
        }
    }

    /// Whether somebody nudged since the last call.
    pub(crate) fn take_nudge(&self) -> bool {
        self.wanted.load(Relaxed) && self.wanted.swap(false, Relaxed)
    }
}
