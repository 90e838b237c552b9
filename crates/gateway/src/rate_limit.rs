//! The policy that bounds how much a client may have.
//!
//! A route may have any number of limits. A request is counted by each of them under its own key (the
//! consumer, the client's network, a header, or all together) and is refused by the first that has nothing
//! left for it; what the others had counted for it is given back. Limits are exact over all workers.
//!
//! | kind | counts | who is beyond it |
//! |---|---|---|
//! | [`Kind::Rate`] | requests within a time | is refused |
//! | [`Kind::Concurrency`] | requests under way, until their responses have ended | is refused |
//! | [`Kind::Bandwidth`] | bytes of bodies within a time | is slowed down |
//!
//! What a request costs of a rate may be an expression, and what it has cost may be known in the end alone
//! ([`crate::cost`]): what was counted is then settled.
//!
//! A rate may be shared by several nodes, which then ask a store that counts for all of them
//! ([`weft_resilience::rate::shared`]): mostly ahead, so that a request waits for it now and then alone.
//!
//! Responses tell what is left in the fields `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers),
//! of every limit that refuses.

mod asking;
mod counter;
mod fields;
mod key;
mod owed;
mod pace;
mod shared;

use std::{
    borrow::Cow,
    fmt,
    num::NonZeroU32,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use smallvec::SmallVec;
use weft_kernel::{Error, Reason, Result, Retry, Tick};
use weft_proxy::{
    DryRun, Fact, Flow, Foreseen, Policy, PolicyMaker, PolicyOutcome, RequestContext,
    ResponseContext, Sides, Stage, plan::Binding,
};
use weft_resilience::{concurrency::Permit, rate::Rate};
use weft_wire::Known;

pub(crate) use self::key::network;
use self::{
    asking::{Asked, Verdicted, Why},
    counter::{Counted, Counter},
    key::hashed,
    owed::Owed,
    pace::{Paced, Paces},
};
pub use self::{
    key::Part,
    pace::Direction,
    shared::{Sharing, Stores, WhenAway},
};
use crate::cost::{Cost, Formula};

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
    /// What is counted, and how much of it there may be.
    pub kind: Kind,
    /// What requests are told apart by; without any, all are counted together.
    pub by: Vec<Part>,
    /// Whether it refuses nothing, and only tells what it would refuse.
    pub shadow: bool,
    /// Whether clients are told what is left.
    pub tells: bool,
    /// Keys that are remembered at once, at least.
    pub keys_max: usize,
}

/// What a limit counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Requests within a time.
    Rate {
        /// How much may be had within which time.
        rate: Rate,
        /// What a request costs.
        cost: Cost,
        /// What it has cost in the end, in the place of that.
        charge: Option<Formula>,
        /// How several nodes share it, if they do.
        sharing: Option<Sharing>,
    },
    /// Requests under way at once.
    Concurrency(NonZeroU32),
    /// Bytes of bodies within a time.
    Bandwidth {
        /// How many may pass within which time.
        rate: Rate,
        /// Whose bytes count.
        of: Direction,
    },
}

impl Limit {
    /// Whether clients are told of it.
    const fn is_told(&self) -> bool {
        self.tells && !self.shadow && !matches!(self.kind, Kind::Bandwidth { .. })
    }
}

impl fmt::Display for RateLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, limit) in self.0.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { ", " })?;
            match &limit.kind {
                Kind::Rate { rate, .. } => {
                    write!(f, "{}: {} in {:?}", limit.name, rate.units, rate.per)?;
                }
                Kind::Concurrency(most) => write!(f, "{}: {most} at once", limit.name)?,
                Kind::Bandwidth { rate, of } => {
                    let (name, bytes, per) = (&limit.name, rate.units, rate.per);
                    write!(f, "{name}: {bytes} bytes of {of} in {per:?}")?;
                }
            }
            for part in &limit.by {
                write!(f, " by {part}")?;
            }
        }
        Ok(())
    }
}

/// Makes policies of settings, and knows what they count by.
#[derive(Clone, Default)]
pub struct Limiters {
    made: Arc<Mutex<Vec<Weak<[Counted]>>>>,
    stores: Stores,
}

impl Limiters {
    /// The stores that limits of several nodes are counted in.
    pub const fn stores(&self) -> &Stores {
        &self.stores
    }

    /// Gives back what floods of keys have left behind. To be called now and then.
    pub fn trim(&self, now: Tick) {
        let made: Vec<_> = {
            let mut made = self.made.lock();
            made.retain(|limits| limits.strong_count() > 0);
            made.iter().filter_map(Weak::upgrade).collect()
        };
        for limit in made.iter().flat_map(|limits| limits.iter()) {
            match &limit.counter {
                Counter::Rate { count, .. } => count.trim(now),
                Counter::Bandwidth { limiter, .. } => limiter.trim(now),
                Counter::Concurrency(_) => {}
            }
        }
    }
}

impl PolicyMaker for Limiters {
    fn make(&self, binding: &Binding) -> Result<Arc<dyn Policy>, String> {
        let RateLimits(limits) = binding.settings()?;
        let limits: Arc<[Counted]> =
            limits.into_iter().map(|limit| Counted::new(limit, &self.stores)).collect();
        self.made.lock().push(Arc::downgrade(&limits));
        let told = limits.iter().map(|limit| &limit.settings).filter(|limit| limit.is_told());
        let policy_field = fields::policy(told).into();
        let paces = |of: fn(Direction) -> bool| {
            limits.iter().any(|limit| matches!(limit.settings.kind, Kind::Bandwidth { of: direction, .. } if of(direction)))
        };
        let paces_responses = paces(Direction::is_of_responses);
        let charges = limits.iter().any(|limit| limit.charge().is_some());
        Ok(Arc::new(Limits { policy_field, paces_responses, charges, limits }))
    }
}

/// The policy of a route.
struct Limits {
    limits: Arc<[Counted]>,
    /// What `RateLimit-Policy` says, the same for every response; empty if nothing is told.
    policy_field: Box<str>,
    /// Whether one of them slows responses down.
    paces_responses: bool,
    /// Whether one of them is settled in the end.
    charges: bool,
}

/// What the limits have said of a request, for its response.
struct Said(SmallVec<[Verdicted; 1]>);

impl Fact for Said {}

/// The places that a request holds until its response has ended.
struct Held(#[expect(dead_code, reason = "held, and given back when it is dropped")] Vec<Permit>);

impl Fact for Held {}

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

/// A limit that let a request pass since its store was away.
struct Uncounted(Box<str>);

impl Fact for Uncounted {
    fn told(&self) -> Option<(&'static str, Cow<'_, str>)> {
        Some(("uncounted", Cow::Borrowed(&self.0)))
    }

    fn is_counted(&self) -> bool {
        true
    }
}

impl Limits {
    /// Leaves what is to be known of what the limits have said, and refuses if one of them does.
    fn end(&self, cx: &mut RequestContext<'_>, asked: Asked) -> Result<()> {
        let Asked { refused, would, uncounted, said, held, .. } = asked;
        let name = |at: usize| self.limits[at].settings.name.clone();
        let limited = refused.as_ref().filter(|(_, why)| !matches!(why, Why::Away));
        if let Some(at) = limited.map(|(at, _)| *at).or(would) {
            cx.leave(Limited { name: name(at), shadow: refused.is_none() });
        }
        if let Some(at) = uncounted {
            cx.leave(Uncounted(name(at)));
        }
        if !held.is_empty() {
            cx.leave(Held(held));
        }
        if self.charges && refused.is_none() {
            cx.leave(Owed::new(&self.limits, &said, cx));
        }
        if !self.policy_field.is_empty() {
            cx.leave(Said(said));
        }
        match refused {
            None => {
                self.pace(cx);
                Ok(())
            }
            Some((at, why)) => Err(refusal(&self.limits[at].settings, why)),
        }
    }

    /// Slows the request's body down, and leaves what is to be known of the response.
    fn pace(&self, cx: &mut RequestContext<'_>) {
        let mut paces = Paces::default();
        for Counted { settings, counter } in self.limits.iter() {
            let Counter::Bandwidth { limiter, of } = counter else { continue };
            let pace = paces.add(settings, limiter, hashed(limiter, &settings.by, cx.view()), *of);
            if of.is_of_requests() {
                let pace = pace.clone();
                cx.wrap_body(|body| Paced::wrap(body, pace));
            }
        }
        if !paces.is_empty() {
            cx.leave(paces);
        }
    }
}

impl Policy for Limits {
    fn stage(&self) -> Stage {
        Stage::RateLimit
    }

    fn sides(&self) -> Sides {
        let response = !self.policy_field.is_empty() || self.paces_responses || self.charges;
        Sides { request: true, response, ..Sides::default() }
    }

    fn foresee(&self, cx: &mut DryRun<'_>) -> Foreseen {
        let (now, mut told, mut refused) = (weft_net::clock::now(), String::new(), false);
        for Counted { settings, counter } in self.limits.iter() {
            let name = &settings.name;
            let said = match counter {
                Counter::Rate { count, cost, .. } => {
                    let cost = cost.foresee(cx.view(), None);
                    let peeked = |cost| count.peek(&settings.by, cx.view(), cost, now);
                    let shadow = if settings.shadow { " (shadow)" } else { "" };
                    match cost.map(peeked) {
                        Ok(Some(verdict)) => {
                            refused |= !verdict.granted && !settings.shadow;
                            let word = if verdict.granted { "would have" } else { "has" };
                            format!("limit `{name}`{shadow} {word} {} left", verdict.remaining)
                        }
                        Ok(None) => format!("limit `{name}`{shadow} would ask its store"),
                        Err(fault) => format!("limit `{name}`{shadow} cannot say: {fault}"),
                    }
                }
                Counter::Concurrency(limit) => {
                    format!("limit `{name}` lets on {} at once", limit.most())
                }
                Counter::Bandwidth { .. } => format!("limit `{name}` slows bodies down"),
            };
            told.push_str(if told.is_empty() { "" } else { "; " });
            told.push_str(&said);
            if refused {
                return Foreseen::of(PolicyOutcome::Refuses(Reason::RateLimited), told);
            }
        }
        Foreseen::of(PolicyOutcome::Passes, told)
    }

    fn request<'a>(&'a self, cx: &'a mut RequestContext<'_>) -> Flow<'a> {
        // What begins inside was counted when it came from outside.
        if cx.is_internal() {
            return Flow::Next;
        }
        let mut asked = Asked::default();
        if self.ask(cx, &mut asked) {
            return match self.end(cx, asked) {
                Ok(()) => Flow::Next,
                Err(error) => Flow::Refuse(error),
            };
        }
        Flow::wait(async move {
            self.ask_and_wait(cx, &mut asked).await;
            self.end(cx, asked).map(|()| None)
        })
    }

    fn response<'a>(&'a self, cx: &'a mut ResponseContext<'_>) -> Flow<'a> {
        if self.paces_responses
            && let Some(paces) = cx.fact::<Paces>()
        {
            for pace in paces.of_responses() {
                cx.wrap_body(|body| Paced::wrap(body, pace));
            }
        }
        if let Some(owed) = cx.fact::<Owed>() {
            owed.respond(cx.head());
        }
        let Some(Said(said)) = cx.fact::<Said>() else { return Flow::Next };
        let told = said.iter().filter_map(|said| {
            let limit = &self.limits[said.at].settings;
            limit.is_told().then_some((limit, &said.verdict))
        });
        let left = fields::left(told);
        let fields = &mut cx.head_mut().fields;
        fields.add(Known::RateLimitPolicy, self.policy_field.as_bytes());
        if !left.is_empty() {
            fields.add(Known::RateLimit, left.as_bytes());
        }
        Flow::Next
    }
}

#[cold]
fn refusal(limit: &Limit, why: Why) -> Error {
    let name = &limit.name;
    let limited = |say: String| Error::new(Reason::RateLimited, say);
    match (&limit.kind, why) {
        (_, Why::Away) => {
            let say = format!("the store that counts the limit `{name}` is away");
            Error::new(Reason::LimitStoreUnavailable, say)
        }
        (_, Why::Cost(fault)) => {
            let say = format!("the limit `{name}` cannot tell what the request costs");
            limited(say).retry(Retry::No).note(fault.to_string())
        }
        (Kind::Concurrency(most), Why::Left(_)) => {
            let requests = if most.get() == 1 { "request is" } else { "requests are" };
            let error =
                limited(format!("the limit `{name}` is reached: {most} {requests} under way"));
            // Nobody knows when the first of them will have ended.
            error.retry(Retry::After(Duration::from_secs(1)))
        }
        (_, Why::Left(Some(wait))) => {
            limited(format!("the limit `{name}` is reached")).retry(Retry::After(wait))
        }
        (_, Why::Left(None)) => limited(format!("the limit `{name}` is reached"))
            .retry(Retry::No)
            .note("one request costs more than the limit ever grants"),
    }
}

#[cfg(test)]
mod tests;
