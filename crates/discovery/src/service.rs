//! A service on the request path: which endpoint takes the next request.
//!
//! A pick tries, in this order and only as far as needed: members that are well, tier by tier, the
//! caller's zone first; then tiers in panic with their verdicts ignored; then those that are ejected,
//! since one of them may be well again; then the same with those that this request was already sent to;
//! and last, unless panic is turned off, anybody who is not drained. A request fails here only when
//! nobody is left.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use weft_kernel::{Name, Reason, Rng, Tick};
use weft_resilience::ejection::{Availability, Ejection};

use crate::{
    balance::{Bound, SlowStart, Wish, choose},
    endpoint::{Endpoint, Home, Key, NEVER, UNWELL, Verdict},
    options::ServiceOptions,
    set::{EndpointSet, Member},
    source::Metadata,
};

/// How often in a row an endpoint may be missed that is taken to be restarting: for some seconds, as
/// the time between the probes doubles.
const RESTART_MISSES_MAX: u32 = 5;

/// What a pick is for.
#[derive(Debug)]
pub struct Pick<'a> {
    /// What a hashing algorithm goes by; without it, it draws at random.
    pub hash: Option<u64>,
    /// Endpoints that this request was already sent to: avoided while there are others.
    pub tried: &'a [u64],
    /// The zone of the caller.
    pub zone: Option<&'a str>,
    /// Whether somebody who is ejected is better than nobody.
    pub insist: bool,
    /// The time.
    pub now: Tick,
    /// Chance.
    pub rng: &'a mut Rng,
}

/// One view of a service: its members, with the options they were built under.
#[derive(Debug)]
struct View {
    options: Arc<ServiceOptions>,
    set: Arc<EndpointSet>,
    slow: SlowStart,
}

/// A service with the endpoints it has now.
#[derive(Debug)]
pub struct Service {
    name: Name,
    view: ArcSwap<View>,
    home: Arc<Home>,
    /// Held by whoever changes members, verdicts or drains; never on the request path.
    control: Mutex<()>,
    refused: AtomicU64,
    /// A name of it has no answer to stand on.
    unresolved: AtomicBool,
}

/// A member that a service should have.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) key: Key,
    pub(crate) weight: u32,
    pub(crate) priority: u16,
    pub(crate) metadata: Arc<Metadata>,
}

/// How many endpoints came and went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moved {
    pub(crate) added: usize,
    pub(crate) removed: usize,
}

impl Service {
    /// A service without endpoints; `wake` is told when it needs them badly.
    pub(crate) fn new(options: Arc<ServiceOptions>, wake: Arc<Notify>) -> Arc<Self> {
        let home = Home::new(wake);
        home.count(options.bounded_load.is_some());
        Arc::new(Self {
            name: options.name.clone(),
            view: ArcSwap::from_pointee(View::new(options, Arc::default())),
            home,
            control: Mutex::new(()),
            refused: AtomicU64::new(0),
            unresolved: AtomicBool::new(false),
        })
    }

    /// Its name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The options it has now.
    pub fn options(&self) -> Arc<ServiceOptions> {
        Arc::clone(&self.view.load().options)
    }

    /// The endpoints it has now.
    pub fn set(&self) -> Arc<EndpointSet> {
        Arc::clone(&self.view.load().set)
    }

    /// Picks that found nobody.
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// How many endpoints are ejected.
    pub fn ejected(&self) -> u32 {
        self.home.held()
    }

    /// Chooses who takes a request: [`Reason::NoEndpoint`] if the service has none at all,
    /// [`Reason::DnsFailed`] if that is because a name of it has not been resolved,
    /// [`Reason::NoHealthyEndpoint`] if none of them may be used now.
    ///
    /// An ejected endpoint whose time is up is handed to exactly one pick, which should send its
    /// request there and [finish](crate::InFlight::finish) it.
    pub fn pick(&self, pick: &mut Pick<'_>) -> Result<Arc<Endpoint>, Reason> {
        loop {
            let view = self.view.load();
            match self.pick_from(&view, pick) {
                Ok(endpoint) => return Ok(endpoint),
                // Its endpoints may have been marked gone while it was looked at.
                Err(_) if !Arc::ptr_eq(&view, &self.view.load()) => {}
                Err(reason) => return Err(self.refuse(reason)),
            }
        }
    }

    fn pick_from(&self, view: &View, pick: &mut Pick<'_>) -> Result<Arc<Endpoint>, Reason> {
        if view.set.members().is_empty() {
            return Err(match self.unresolved.load(Relaxed) {
                true => Reason::DnsFailed,
                false => Reason::NoEndpoint,
            });
        }
        let options = &*view.options;
        let hash = match pick.hash {
            Some(hash) => hash,
            None if options.algorithm.hashes() => pick.rng.next_u64(),
            None => 0,
        };
        let bound = options
            .bounded_load
            .map(|factor| Bound { factor: factor.max(1.0), active: self.home.active() });
        let mut wish =
            Wish { now: pick.now, tried: pick.tried, refuse: UNWELL, slow: view.slow, bound, hash };
        loop {
            wish.refuse = UNWELL;
            for tier in view.set.tiers.iter().filter(|tier| !tier.panicking()) {
                let near = tier.near(pick.zone, options.zone_threshold);
                for group in near.into_iter().chain([&tier.all]) {
                    if let Some(member) = choose(&group.table, &group.members, &wish, pick.rng) {
                        return Ok(Arc::clone(&member.endpoint));
                    }
                }
            }
            wish.refuse = NEVER;
            for tier in view.set.tiers.iter().filter(|tier| tier.panicking()) {
                if let Some(member) = choose(&tier.all.table, &tier.all.members, &wish, pick.rng) {
                    return Ok(Arc::clone(&member.endpoint));
                }
            }
            wish.refuse = UNWELL;
            if pick.insist
                && let Some(endpoint) = self.ejected_one(&view.set, &wish)
            {
                return Ok(endpoint);
            }
            if wish.tried.is_empty() {
                break;
            }
            wish.tried = &[];
        }
        wish.refuse = NEVER;
        if options.panic_threshold > 0.0 {
            for tier in &view.set.tiers {
                if let Some(member) = choose(&tier.all.table, &tier.all.members, &wish, pick.rng) {
                    self.home.nudge();
                    return Ok(Arc::clone(&member.endpoint));
                }
            }
        }
        if pick.insist
            && options.panic_threshold > 0.0
            && let Some(endpoint) = self.ejected_one(&view.set, &wish)
        {
            return Ok(endpoint);
        }
        Err(Reason::NoHealthyEndpoint)
    }

    /// The ejected endpoint that is due back first.
    fn ejected_one(&self, set: &EndpointSet, wish: &Wish<'_>) -> Option<Arc<Endpoint>> {
        let due = |member: &&Member| match member.ejection.as_deref()?.available(wish.now) {
            Availability::Out { until: Tick::NEVER } | Availability::Ready => None,
            Availability::Out { until } => Some(until),
            Availability::Probe => Some(wish.now),
        };
        let candidates = set.members().iter().filter(|member| wish.admits(member));
        let (_, member) = candidates
            .filter_map(|member| Some(((member.priority, due(&member)?), member)))
            .min_by_key(|(order, _)| *order)?;
        self.home.nudge();
        Some(Arc::clone(&member.endpoint))
    }

    /// Whether some endpoint could not be connected to only since a moment ago, as when it is
    /// restarted: soon one may be back.
    pub fn is_restarting(&self) -> bool {
        let view = self.view.load();
        view.set.members().iter().any(|member| {
            member.endpoint.flags() & NEVER == 0
                && member.ejection.as_deref().is_some_and(|ejection| {
                    (1..=RESTART_MISSES_MAX).contains(&ejection.unreached())
                })
        })
    }

    /// Notes whether a name of it has no answer to stand on.
    pub(crate) fn note_unresolved(&self, unresolved: bool) {
        self.unresolved.store(unresolved, Relaxed);
    }

    fn refuse(&self, reason: Reason) -> Reason {
        self.refused.fetch_add(1, Relaxed);
        self.home.nudge();
        reason
    }

    /// Whether somebody found it wanting since the last call.
    pub(crate) fn take_nudge(&self) -> bool {
        self.home.take_nudge()
    }

    fn control(&self) -> std::sync::MutexGuard<'_, ()> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes `wanted` its members, under `options`. Who stays keeps its state; who goes is marked
    /// gone.
    pub(crate) fn install(
        &self,
        options: Arc<ServiceOptions>,
        wanted: Vec<Wanted>,
        now: Tick,
    ) -> Moved {
        let _control = self.control();
        let old = self.view.load_full();
        let old_members = old.set.members();
        // The first endpoints of a service have nobody to be spared for.
        let slow = !old_members.is_empty() && options.slow_start > std::time::Duration::ZERO;
        let mut members: Vec<Member> = Vec::with_capacity(wanted.len());
        let mut moved = Moved::default();
        let known: std::collections::HashMap<&Key, &Member> =
            old_members.iter().map(|member| (member.endpoint.key(), member)).collect();
        let mut seen = std::collections::HashSet::with_capacity(wanted.len());
        for Wanted { key, weight, priority, metadata } in wanted {
            if !seen.insert(key.clone()) {
                continue;
            }
            let (endpoint, new) = match known.get(&key) {
                Some(member) => (Arc::clone(&member.endpoint), false),
                None => (Endpoint::new(key, Arc::clone(&self.home), now, slow), true),
            };
            if new || old.options.ejection != options.ejection {
                endpoint.set_ejection(options.ejection.clone().map(Ejection::new).map(Arc::new));
            }
            if options.health.is_none() {
                endpoint.forget_verdict();
            }
            moved.added += usize::from(new);
            members.push(Member::new(endpoint, weight, priority, metadata));
        }
        self.home.count(options.bounded_load.is_some());
        let set = Arc::new(EndpointSet::build(members, &options));
        self.view.store(Arc::new(View::new(options, Arc::clone(&set))));
        for member in old_members.iter().filter(|member| !seen.contains(member.endpoint.key())) {
            member.endpoint.retire();
            moved.removed += 1;
        }
        self.settle(&set, now);
        moved
    }

    /// Keeps the number of ejected endpoints within what the members now allow.
    fn settle(&self, set: &EndpointSet, now: Tick) {
        self.home.resize(set.serving());
        for member in set.members() {
            if self.home.held() <= self.home.held_max() {
                break;
            }
            if member.endpoint.is_ejected() {
                member.endpoint.pardon(now);
            }
        }
    }

    /// Takes an endpoint out of service or back; `None` if it has no such endpoint.
    pub(crate) fn drain(&self, id: u64, drained: bool, now: Tick) -> Option<bool> {
        let _control = self.control();
        let view = self.view.load();
        let member = view.set.members().iter().find(|member| member.endpoint.id() == id)?;
        let changed = member.endpoint.drain(drained);
        view.set.refresh(view.options.panic_threshold);
        self.settle(&view.set, now);
        Some(changed)
    }

    /// Notes what a check found.
    pub(crate) fn judge(
        &self,
        endpoint: &Endpoint,
        verdict: Option<Verdict>,
        ok: bool,
        detail: &str,
        now: Tick,
    ) {
        let _control = self.control();
        endpoint.judge(verdict, ok, detail, now);
        if verdict.is_some() {
            let view = self.view.load();
            view.set.refresh(view.options.panic_threshold);
        }
    }

    /// Marks every endpoint gone: the service itself was removed.
    pub(crate) fn retire(&self) {
        let _control = self.control();
        for member in self.view.load().set.members() {
            member.endpoint.retire();
        }
    }
}

impl View {
    fn new(options: Arc<ServiceOptions>, set: Arc<EndpointSet>) -> Self {
        let slow = SlowStart {
            span_nanos: u64::try_from(options.slow_start.as_nanos()).unwrap_or(u64::MAX),
            min: options.slow_start_min,
        };
        Self { options, set, slow }
    }
}

#[cfg(test)]
mod simulation;
