//! One running instance of a service, and all that is learnt about it while it serves.
//!
//! What the request path reads and writes are atomics on one cache line; the words of the last
//! verdict, which only people read, are behind a lock that the request path never takes. The state
//! belongs to the endpoint, never to a route, so that every route learns from every other.

mod home;
mod in_flight;
mod load;

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use weft_kernel::{Rng, Tick};
use weft_net::Address;
use weft_resilience::ejection::{self, Availability, Ejection};

pub(crate) use home::Home;
pub use in_flight::{InFlight, Outcome};
pub use load::{DECAY, INITIAL, PENALTY, PENALTY_MAX};

const DRAINED: u32 = 1;
const GONE: u32 = 2;
const UNHEALTHY: u32 = 4;
const HEALTHY: u32 = 8;
/// It is ejected and counts among those that may be.
const HELD: u32 = 16;

/// What keeps an endpoint from being picked at all.
pub(crate) const NEVER: u32 = DRAINED | GONE;
/// What keeps an endpoint from being picked while verdicts are believed.
pub(crate) const UNWELL: u32 = NEVER | UNHEALTHY;

/// What active checks say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Not checked yet, or not checked at all.
    Unknown,
    /// The last checks were passed.
    Healthy,
    /// The last checks were failed.
    Unhealthy,
}

impl Verdict {
    /// The word for status, log and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// What makes an endpoint the same over a reload or a new DNS answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) address: Address,
    pub(crate) hostname: Option<Arc<str>>,
    pub(crate) zone: Option<Arc<str>>,
}

/// All that is written with each request, on a cache line of its own.
#[repr(align(64))]
struct Hot {
    load: load::Load,
    flags: AtomicU32,
    /// When its slow start began; zero if it has none.
    warm_since: AtomicU64,
    failures: AtomicU64,
}

/// One running instance of a service.
pub struct Endpoint {
    hot: Hot,
    id: u64,
    key: Key,
    label: Arc<str>,
    /// Of the label: the same in every process.
    hash: u64,
    added: Tick,
    ejection: ArcSwapOption<Ejection>,
    last: Mutex<LastCheck>,
    home: Arc<Home>,
    /// How many of its zone are ejected.
    zone_held: Option<Arc<AtomicU32>>,
}

/// What the last check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastCheck {
    /// When it ended.
    pub at: Option<Tick>,
    /// What it found, for people.
    pub detail: String,
    /// How many checks were made.
    pub checks: u64,
    /// How many of them failed.
    pub failures: u64,
    /// When the verdict last changed.
    pub changed: Option<Tick>,
}

impl Endpoint {
    /// A new endpoint; `slow` begins its slow start.
    pub(crate) fn new(key: Key, home: Arc<Home>, now: Tick, slow: bool) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let zone_held = key.zone.as_ref().map(|zone| home.zone(zone));
        let label: Arc<str> = key.address.to_string().into();
        Arc::new(Self {
            hot: Hot {
                load: load::Load::new(now),
                flags: AtomicU32::new(0),
                warm_since: AtomicU64::new(if slow { now.nanos() } else { 0 }),
                failures: AtomicU64::new(0),
            },
            id: NEXT.fetch_add(1, Relaxed),
            hash: xxhash_rust::xxh3::xxh3_64(label.as_bytes()),
            label,
            key,
            added: now,
            ejection: ArcSwapOption::empty(),
            last: Mutex::default(),
            home,
            zone_held,
        })
    }

    /// Its number: unique in the process, and never used again.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Where it listens.
    pub fn address(&self) -> &Address {
        &self.key.address
    }

    /// Its address as text, made once.
    pub fn label(&self) -> &Arc<str> {
        &self.label
    }

    /// The name it was resolved from, for `Host` and for TLS.
    pub fn hostname(&self) -> Option<&Arc<str>> {
        self.key.hostname.as_ref()
    }

    /// The zone it stands in.
    pub fn zone(&self) -> Option<&Arc<str>> {
        self.key.zone.as_ref()
    }

    /// When it came.
    pub fn added(&self) -> Tick {
        self.added
    }

    /// Requests in flight.
    pub fn active(&self) -> u32 {
        self.hot.load.active()
    }

    /// Requests ever begun.
    pub fn requests(&self) -> u64 {
        self.hot.load.begun()
    }

    /// Requests that failed.
    pub fn failures(&self) -> u64 {
        self.hot.failures.load(Relaxed)
    }

    /// The latency that is expected of it.
    pub fn latency(&self, now: Tick) -> Duration {
        self.hot.load.latency(now)
    }

    /// What active checks say.
    pub fn verdict(&self) -> Verdict {
        match self.hot.flags.load(Relaxed) & (HEALTHY | UNHEALTHY) {
            0 => Verdict::Unknown,
            HEALTHY => Verdict::Healthy,
            _ => Verdict::Unhealthy,
        }
    }

    /// What the last check found.
    pub fn last_check(&self) -> LastCheck {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether an operator took it out of service.
    pub fn is_drained(&self) -> bool {
        self.hot.flags.load(Relaxed) & DRAINED != 0
    }

    /// Whether it no longer belongs to its service; pools close what is idle to it.
    pub fn is_gone(&self) -> bool {
        self.hot.flags.load(Relaxed) & GONE != 0
    }

    /// Whether it is ejected.
    pub fn is_ejected(&self) -> bool {
        self.hot.flags.load(Relaxed) & HELD != 0
    }

    /// Its breaker, unless that is turned off.
    pub fn ejection(&self) -> Option<Arc<Ejection>> {
        self.ejection.load_full()
    }

    /// Begins a request. It is in flight until the guard is finished or dropped.
    pub fn begin(self: Arc<Self>, now: Tick) -> InFlight {
        InFlight::new(self, now)
    }

    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn flags(&self) -> u32 {
        self.hot.flags.load(Relaxed)
    }

    pub(crate) fn cost(&self, share: f64, now: Tick) -> f64 {
        self.hot.load.cost(share, now)
    }

    pub(crate) fn crowd(&self, share: f64, now: Tick) -> f64 {
        self.hot.load.crowd(share, now)
    }

    /// How far it has come in its slow start: from `min` to 1.
    pub(crate) fn warmth(&self, span_nanos: u64, min: f64, now: Tick) -> f64 {
        let since = self.hot.warm_since.load(Relaxed);
        if since == 0 {
            return 1.0;
        }
        let age = now.nanos().saturating_sub(since);
        if age >= span_nanos { 1.0 } else { (age as f64 / span_nanos as f64).max(min) }
    }

    pub(crate) fn zone_held(&self) -> u32 {
        self.zone_held.as_ref().map_or(0, |held| held.load(Relaxed))
    }

    /// Gives it a breaker, or none; the old one's state ends with it.
    pub(crate) fn set_ejection(&self, ejection: Option<Arc<Ejection>>) {
        self.ejection.store(ejection);
        self.release();
    }

    fn set(&self, flag: u32, on: bool) -> bool {
        let before = if on {
            self.hot.flags.fetch_or(flag, Relaxed)
        } else {
            self.hot.flags.fetch_and(!flag, Relaxed)
        };
        (before & flag != 0) != on
    }

    /// Takes it out of service or back; true if that changed it.
    pub(crate) fn drain(&self, drained: bool) -> bool {
        self.set(DRAINED, drained)
    }

    /// It left the service, for good.
    pub(crate) fn retire(&self) {
        self.set(GONE, true);
        self.release();
    }

    /// Notes what a check found, and the verdict if that changes it.
    pub(crate) fn judge(&self, verdict: Option<Verdict>, ok: bool, detail: &str, now: Tick) {
        let before = self.verdict();
        {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            last.at = Some(now);
            last.checks += 1;
            last.failures += u64::from(!ok);
            if last.detail != detail {
                detail.clone_into(&mut last.detail);
            }
            if verdict.is_some() {
                last.changed = Some(now);
            }
        }
        match verdict {
            Some(Verdict::Healthy) => {
                self.set(HEALTHY, true);
                self.set(UNHEALTHY, false);
                if before == Verdict::Unhealthy {
                    self.hot.warm_since.store(now.nanos(), Relaxed);
                }
            }
            Some(Verdict::Unhealthy) => {
                self.set(UNHEALTHY, true);
                self.set(HEALTHY, false);
            }
            Some(Verdict::Unknown) | None => {}
        }
    }

    /// Nobody checks it any more: what was found no longer counts.
    pub(crate) fn forget_verdict(&self) {
        self.hot.flags.fetch_and(!(HEALTHY | UNHEALTHY), Relaxed);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = LastCheck::default();
    }

    /// Asks to count among the ejected; false if too many are. What cannot be connected to is of no use,
    /// however many are out.
    fn hold(&self, reason: ejection::Reason) -> bool {
        if self.flags() & HELD != 0 {
            return true;
        }
        if self.flags() & GONE != 0 || !self.home.take(reason == ejection::Reason::Unreachable) {
            return false;
        }
        if !self.set(HELD, true) {
            self.home.give_back();
            return true;
        }
        if let Some(held) = &self.zone_held {
            held.fetch_add(1, Relaxed);
        }
        true
    }

    fn release(&self) {
        if self.set(HELD, false) {
            self.home.give_back();
            if let Some(held) = &self.zone_held {
                held.fetch_sub(1, Relaxed);
            }
        }
    }

    /// Lets an ejected endpoint back in, since too many are out.
    pub(crate) fn pardon(&self, now: Tick) {
        if let Some(ejection) = self.ejection.load().as_deref() {
            reinstate(ejection, now);
        }
        self.release();
    }

    fn record(
        &self,
        outcome: ejection::Outcome,
        while_out: bool,
        now: Tick,
        rng: &mut Rng,
    ) -> Option<ejection::Change> {
        let ejection = self.ejection.load();
        let ejection = ejection.as_deref()?;
        let change = match ejection.record(outcome, now, rng) {
            Some(change) => change,
            None if while_out && outcome == ejection::Outcome::Ok => ejection.revive()?,
            None => return None,
        };
        match change {
            ejection::Change::Ejected { reason, .. } if !self.hold(reason) => {
                reinstate(ejection, now);
                return None;
            }
            ejection::Change::Ejected { .. } => self.home.nudge(),
            ejection::Change::Restored => self.release(),
        }
        Some(change)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("id", &self.id)
            .field("address", &self.label)
            .field("active", &self.active())
            .field("verdict", &self.verdict())
            .field("flags", &self.flags())
            .finish_non_exhaustive()
    }
}

/// Lets a breaker begin anew, as if its probe had gone well.
fn reinstate(ejection: &Ejection, now: Tick) {
    let due = match ejection.available(now) {
        Availability::Ready | Availability::Out { until: Tick::NEVER } => return,
        Availability::Probe => now,
        Availability::Out { until } => until,
    };
    if ejection.take_probe(due) {
        // A success draws no number; the generator is never asked.
        ejection.record(true, now, &mut Rng::seeded(0));
    }
}

impl weft_net::pool::Destination for Endpoint {
    fn id(&self) -> u64 {
        self.id()
    }

    fn is_gone(&self) -> bool {
        self.is_gone()
    }
}

/// Whether an endpoint may take a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Usable {
    Yes,
    Probe,
    No,
}

/// What its breaker says.
pub(crate) fn usable(ejection: Option<&Ejection>, now: Tick) -> Usable {
    match ejection.map(|ejection| ejection.available(now)) {
        None | Some(Availability::Ready) => Usable::Yes,
        Some(Availability::Probe) => Usable::Probe,
        Some(Availability::Out { .. }) => Usable::No,
    }
}
