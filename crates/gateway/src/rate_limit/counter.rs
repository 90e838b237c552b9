//! What limits count by: on this node, or in a store for several.

use std::sync::Arc;

use weft_kernel::Tick;
use weft_proxy::{RequestContext, RequestView};
use weft_resilience::{
    concurrency::Concurrency,
    rate::{self, Hashed, Limiter, Verdict, shared::Taken},
};

use super::{Direction, Kind, Limit, Part, Stores, key::hashed, shared::Shared};
use crate::cost::{Cost, Formula};

/// A limit with what it has counted.
pub(super) struct Counted {
    pub(super) settings: Limit,
    pub(super) counter: Counter,
}

/// What a limit counts by.
pub(super) enum Counter {
    Rate { count: Count, cost: Cost, charge: Option<Formula> },
    Concurrency(Concurrency),
    Bandwidth { limiter: Arc<Limiter>, of: Direction },
}

/// Who counts a rate.
pub(super) enum Count {
    /// This node, for itself.
    Here(Arc<Limiter>),
    /// A store, for several nodes.
    Shared(Arc<Shared>),
}

/// Where units were taken.
#[derive(Clone, Copy)]
pub(super) enum Place {
    /// On this node, for itself; also where a store was away.
    Here(Hashed),
    /// Of the stock of this node.
    Shared(rate::shared::Key),
}

impl Counted {
    pub(super) fn new(settings: Limit, stores: &Stores) -> Self {
        let limiter = |rate| Limiter::new(rate, settings.keys_max);
        let counter = match &settings.kind {
            Kind::Rate { rate, cost, charge, sharing } => {
                let (cost, charge) = (cost.clone(), charge.clone());
                let count = match sharing {
                    None => Count::Here(Arc::new(limiter(*rate))),
                    Some(sharing) => {
                        Count::Shared(Arc::new(Shared::new(&settings, *rate, sharing, stores)))
                    }
                };
                Counter::Rate { count, cost, charge }
            }
            Kind::Concurrency(most) => Counter::Concurrency(Concurrency::new(*most)),
            Kind::Bandwidth { rate, of } => {
                Counter::Bandwidth { limiter: Arc::new(limiter(*rate)), of: *of }
            }
        };
        Self { settings, counter }
    }

    /// What a request has cost in the end, if that is not what was counted.
    pub(super) const fn charge(&self) -> Option<&Formula> {
        match &self.counter {
            Counter::Rate { charge, .. } => charge.as_ref(),
            Counter::Concurrency(_) | Counter::Bandwidth { .. } => None,
        }
    }

    /// How it is shared by several nodes, if it is.
    pub(super) const fn shared(&self) -> Option<&Arc<Shared>> {
        match &self.counter {
            Counter::Rate { count: Count::Shared(shared), .. } => Some(shared),
            _ => None,
        }
    }
}

impl Count {
    /// Asks for so many units; `None` if a store has to answer first.
    pub(super) fn take(
        &self,
        by: &[Part],
        cx: &RequestContext<'_>,
        cost: u64,
    ) -> Option<(Verdict, Place)> {
        match self {
            Self::Here(limiter) => {
                let key = hashed(limiter, by, cx.view());
                Some((limiter.take(key, cost, cx.now()), Place::Here(key)))
            }
            Self::Shared(shared) => {
                let key = shared.key(by, cx);
                match shared.take(key, cost, cx.now()) {
                    Taken::Known(verdict) => Some((verdict, Place::Shared(key))),
                    Taken::Waits => None,
                }
            }
        }
    }

    /// Asks this node alone, where a store is away; `None` if it does not count then.
    pub(super) fn take_here(
        &self,
        by: &[Part],
        cx: &RequestContext<'_>,
        cost: u64,
    ) -> Option<(Verdict, Place)> {
        let limiter = self.limiter()?;
        let key = hashed(limiter, by, cx.view());
        Some((limiter.take(key, cost, cx.now()), Place::Here(key)))
    }

    /// What it would say of so many units; `None` if a store counts.
    pub(super) fn peek(
        &self,
        by: &[Part],
        view: RequestView<'_>,
        cost: u64,
        now: Tick,
    ) -> Option<Verdict> {
        let Self::Here(limiter) = self else { return None };
        Some(limiter.peek(hashed(limiter, by, view), cost, now))
    }

    fn limiter(&self) -> Option<&Limiter> {
        match self {
            Self::Here(limiter) => Some(limiter),
            Self::Shared(shared) => shared.local(),
        }
    }

    /// Gives back what was granted right before.
    pub(super) fn give_back(&self, place: Place, taken: &rate::Taken, now: Tick) {
        match (place, self) {
            (Place::Here(key), _) => {
                if let Some(limiter) = self.limiter() {
                    limiter.give_back(key, taken.units, now);
                }
            }
            (Place::Shared(key), Self::Shared(shared)) => shared.give_back(key, taken.units, now),
            (Place::Shared(_), Self::Here(_)) => {}
        }
    }

    /// Counts what a request has cost in the end, in the place of what was taken for it.
    pub(super) fn settle(&self, place: Place, taken: &rate::Taken, cost: u64, now: Tick) {
        match (place, self) {
            (Place::Here(key), _) => {
                if let Some(limiter) = self.limiter() {
                    limiter.settle(key, taken, cost, now);
                }
            }
            (Place::Shared(key), Self::Shared(shared)) => {
                shared.settle(key, taken.units, cost, now);
            }
            (Place::Shared(_), Self::Here(_)) => {}
        }
    }

    /// Gives back what floods of keys have left behind.
    pub(super) fn trim(&self, now: Tick) {
        if let Some(limiter) = self.limiter() {
            limiter.trim(now);
        }
        if let Self::Shared(shared) = self {
            shared.trim(now);
        }
    }
}
