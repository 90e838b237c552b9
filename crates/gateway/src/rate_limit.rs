//! The policy that bounds how often a client may ask.
//!
//! A route may have any number of limits. A request is counted by each of them under its own key (the
//! consumer, the client's network, a header, or all together) and is refused by the first that has nothing
//! left for it; what the others had counted for it is given back. Limits are exact over all workers.
//!
//! Responses tell what is left in the fields `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers),
//! of every limit that is not in shadow mode.

mod fields;
mod key;

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use weft_kernel::{Error, Reason, Result, Retry, Tick};
use weft_proxy::{
    Fact, Flow, Policy, PolicyMaker, RequestContext, ResponseContext, Sides, Stage, plan::Binding,
};
use weft_resilience::rate::{Limiter, Rate, Verdict};

use self::key::Key;
pub use self::key::Part;

/// The name under which the policy is made.
pub const RATE_LIMITS: &str = "rate_limits";

/// Settings of the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimits(pub Vec<Limit>);

/// One limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The name that clients and log are told.
    pub name: Box<str>,
    /// How much may be had within which time.
    pub rate: Rate,
    /// What requests are told apart by; without any, all are counted together.
    pub by: Vec<Part>,
    /// Units that a request costs.
    pub cost: u64,
    /// Whether it refuses nothing, and only tells what it would refuse.
    pub shadow: bool,
    /// Whether clients are told what is left.
    pub tells: bool,
    /// Keys that are remembered at once, at least.
    pub keys_max: usize,
}

impl Limit {
    /// Whether clients are told of it.
    const fn is_told(&self) -> bool {
        self.tells && !self.shadow
    }
}

impl fmt::Display for RateLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, limit) in self.0.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { ", " })?;
            write!(f, "{}: {} in {:?}", limit.name, limit.rate.units, limit.rate.per)?;
            for part in &limit.by {
                write!(f, " by {part}")?;
            }
        }
        Ok(())
    }
}

/// Makes policies of settings, and knows their limiters.
#[derive(Clone, Debug, Default)]
pub struct Limiters(Arc<Mutex<Vec<Weak<Limiter>>>>);

impl Limiters {
    /// Gives back what floods of keys have left behind. To be called now and then.
    pub fn trim(&self, now: Tick) {
        let limiters: Vec<_> = {
            let mut all = self.0.lock();
            all.retain(|limiter| limiter.strong_count() > 0);
            all.iter().filter_map(Weak::upgrade).collect()
        };
        limiters.iter().for_each(|limiter| limiter.trim(now));
    }
}

impl PolicyMaker for Limiters {
    fn make(&self, binding: &Binding) -> Result<Arc<dyn Policy>, String> {
        let RateLimits(limits) = binding.settings()?;
        let limits: Box<[Counted]> = limits.into_iter().map(Counted::new).collect();
        self.0.lock().extend(limits.iter().map(|limit| Arc::downgrade(&limit.limiter)));
        let told = limits.iter().map(|limit| &limit.settings).filter(|limit| limit.is_told());
        let policy_field = fields::policy(told).into();
        Ok(Arc::new(Limits { policy_field, limits }))
    }
}

/// A limit with what it has counted.
struct Counted {
    settings: Limit,
    limiter: Arc<Limiter>,
}

impl Counted {
    fn new(settings: Limit) -> Self {
        let limiter = Arc::new(Limiter::new(settings.rate, settings.keys_max));
        Self { settings, limiter }
    }
}

/// The policy of a route.
struct Limits {
    limits: Box<[Counted]>,
    /// What `RateLimit-Policy` says, the same for every response; empty if nothing is told.
    policy_field: Box<str>,
}

/// What the limits have said of a request, for its response.
struct Said(Vec<(usize, Verdict)>);

impl Fact for Said {}

/// The limit that a request was refused by, or would have been.
struct Limited {
    name: Box<str>,
    shadow: bool,
}

impl Fact for Limited {
    fn told(&self) -> Option<(&'static str, Cow<'_, str>)> {
        let told = match self.shadow {
            true => Cow::Owned(format!("{} (shadow)", self.name)),
            false => Cow::Borrowed(&*self.name),
        };
        Some(("rate_limited", told))
    }

    fn is_counted(&self) -> bool {
        true
    }
}

impl Limits {
    /// Asks every limit in turn; gives the first that refuses, and what each said.
    fn ask(&self, cx: &RequestContext<'_>) -> (Option<usize>, Vec<(usize, Verdict)>) {
        let now = cx.now();
        let mut said = Vec::with_capacity(self.limits.len());
        for (at, limit) in self.limits.iter().enumerate() {
            let Limit { by, cost, shadow, .. } = &limit.settings;
            let verdict = limit.limiter.take(Key::new(by, cx), *cost, now);
            said.push((at, verdict));
            if verdict.granted || *shadow {
                continue;
            }
            // It costs nothing to be refused.
            for (before, verdict) in &mut said[..at] {
                let limit = &self.limits[*before];
                if verdict.granted {
                    let Limit { by, cost, .. } = &limit.settings;
                    limit.limiter.give_back(Key::new(by, cx), *cost, now);
                    verdict.remaining = verdict.remaining.saturating_add(*cost);
                }
            }
            return (Some(at), said);
        }
        (None, said)
    }
}

impl Policy for Limits {
    fn stage(&self) -> Stage {
        Stage::RateLimit
    }

    fn sides(&self) -> Sides {
        Sides { request: true, response: !self.policy_field.is_empty(), ..Sides::default() }
    }

    fn request<'a>(&'a self, cx: &'a mut RequestContext<'_>) -> Flow<'a> {
        // What begins inside was counted when it came from outside.
        if cx.is_internal() {
            return Flow::Next;
        }
        let (refused, said) = self.ask(cx);
        let would = said.iter().find(|(_, verdict)| !verdict.granted).map(|(at, _)| *at);
        if let Some(at) = refused.or(would) {
            let name = self.limits[at].settings.name.clone();
            cx.leave(Limited { name, shadow: refused.is_none() });
        }
        let wait = refused.and_then(|_| said.last()).and_then(|(_, verdict)| verdict.retry_after);
        if !self.policy_field.is_empty() {
            cx.leave(Said(said));
        }
        match refused {
            None => Flow::Next,
            Some(at) => Flow::Refuse(refusal(&self.limits[at].settings, wait)),
        }
    }

    fn response<'a>(&'a self, cx: &'a mut ResponseContext<'_>) -> Flow<'a> {
        let Some(Said(said)) = cx.fact::<Said>() else { return Flow::Next };
        let told = said.iter().filter_map(|(at, verdict)| {
            let limit = &self.limits[*at].settings;
            limit.is_told().then_some((limit, verdict))
        });
        let left = fields::left(told);
        let fields = &mut cx.head_mut().fields;
        fields.append("ratelimit-policy", self.policy_field.as_bytes());
        if !left.is_empty() {
            fields.append("ratelimit", left.as_bytes());
        }
        Flow::Next
    }
}

#[cold]
fn refusal(limit: &Limit, wait: Option<Duration>) -> Error {
    let error = Error::new(Reason::RateLimited, format!("the limit `{}` is reached", limit.name));
    match wait {
        Some(wait) => error.retry(Retry::After(wait)),
        None => error.retry(Retry::No).note("one request costs more than the limit ever grants"),
    }
}

#[cfg(test)]
mod tests;
