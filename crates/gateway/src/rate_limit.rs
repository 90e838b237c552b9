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
//! Responses tell what is left in the fields `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers),
//! of every limit that refuses.

mod fields;
mod key;
mod owed;
mod pace;

use std::{
    borrow::Cow,
    fmt,
    num::NonZeroU32,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use weft_kernel::{Error, Reason, Result, Retry, Tick};
use weft_proxy::{
    DryRun, Fact, Flow, Foreseen, Outcome, Policy, PolicyMaker, RequestContext, ResponseContext,
    Sides, Stage, plan::Binding,
};
use weft_resilience::{
    concurrency::{Concurrency, Permit},
    rate::{Hashed, Limiter, Rate, Taken, Verdict},
};

pub(crate) use self::key::network;
use self::{
    key::Key,
    owed::Owed,
    pace::{Paced, Paces},
};
pub use self::{key::Part, pace::Direction};
use crate::cost::{Cost, Fault, Formula};

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
        let limits: Arc<[Counted]> = limits.into_iter().map(Counted::new).collect();
        let limiters = limits.iter().filter_map(|limit| match &limit.counter {
            Counter::Rate { limiter, .. } | Counter::Bandwidth { limiter, .. } => Some(limiter),
            Counter::Concurrency(_) => None,
        });
        self.0.lock().extend(limiters.map(Arc::downgrade));
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

/// A limit with what it has counted.
struct Counted {
    settings: Limit,
    counter: Counter,
}

/// What a limit counts by.
enum Counter {
    Rate { limiter: Arc<Limiter>, cost: Cost, charge: Option<Formula> },
    Concurrency(Concurrency),
    Bandwidth { limiter: Arc<Limiter>, of: Direction },
}

impl Counted {
    fn new(settings: Limit) -> Self {
        let limiter = |rate| Arc::new(Limiter::new(rate, settings.keys_max));
        let counter = match &settings.kind {
            Kind::Rate { rate, cost, charge } => {
                let (cost, charge) = (cost.clone(), charge.clone());
                Counter::Rate { limiter: limiter(*rate), cost, charge }
            }
            Kind::Concurrency(most) => Counter::Concurrency(Concurrency::new(*most)),
            Kind::Bandwidth { rate, of } => Counter::Bandwidth { limiter: limiter(*rate), of: *of },
        };
        Self { settings, counter }
    }

    /// What a request has cost in the end, if that is not what was counted.
    fn charge(&self) -> Option<&Formula> {
        match &self.counter {
            Counter::Rate { charge, .. } => charge.as_ref(),
            Counter::Concurrency(_) | Counter::Bandwidth { .. } => None,
        }
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

/// What a limit has said of a request.
struct Verdicted {
    at: usize,
    verdict: Verdict,
    /// Where it was counted and how much, if it can be given back.
    counted: Option<(Hashed, Taken)>,
}

/// What the limits have said of a request, for its response.
struct Said(Vec<Verdicted>);

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

/// What the limits make of a request.
#[derive(Default)]
struct Asked {
    refused: Option<usize>,
    /// Why nobody can tell what the request costs.
    fault: Option<Fault>,
    said: Vec<Verdicted>,
    held: Vec<Permit>,
}

impl Limits {
    /// Asks every limit in turn, until one refuses.
    fn ask(&self, cx: &RequestContext<'_>) -> Asked {
        let now = cx.now();
        let said = Vec::with_capacity(self.limits.len());
        let mut asked = Asked { said, ..Asked::default() };
        for (at, limit) in self.limits.iter().enumerate() {
            let Limit { by, shadow, .. } = &limit.settings;
            let (verdict, counted) = match &limit.counter {
                Counter::Rate { limiter, cost, .. } => {
                    let key = limiter.key(Key::new(by, cx.view()));
                    match cost.of(cx) {
                        Ok(cost) => {
                            let verdict = limiter.take(key, cost, now);
                            (verdict, Some((key, Taken::new(cost, &verdict, now))))
                        }
                        Err(fault) => {
                            asked.fault = Some(fault);
                            let verdict = limiter.peek(key, 0, now);
                            (Verdict { granted: false, retry_after: None, ..verdict }, None)
                        }
                    }
                }
                Counter::Concurrency(limit) => {
                    let key = Key::new(by, cx.view());
                    let permit = if *shadow { limit.take_beyond(key) } else { limit.take(key) };
                    let under_way = permit.as_ref().map_or(u32::MAX, Permit::under_way);
                    let left = limit.most().checked_sub(under_way).map(u64::from);
                    asked.held.extend(permit);
                    let (granted, remaining) = (left.is_some(), left.unwrap_or_default());
                    let reset = Duration::ZERO;
                    (Verdict { granted, remaining, reset, retry_after: Some(reset) }, None)
                }
                Counter::Bandwidth { .. } => continue,
            };
            let granted = verdict.granted;
            asked.said.push(Verdicted { at, verdict, counted });
            if !granted && !*shadow {
                asked.refused = Some(at);
                self.give_back(&mut asked, now);
                break;
            }
        }
        asked
    }

    /// Gives back what the limits before the one that refuses have counted: it costs nothing to be refused.
    fn give_back(&self, asked: &mut Asked, now: Tick) {
        asked.held.clear();
        for Verdicted { at, verdict, counted } in &mut asked.said {
            match (&self.limits[*at].counter, counted) {
                (Counter::Rate { limiter, .. }, Some((key, taken))) if verdict.granted => {
                    limiter.give_back(*key, taken.units, now);
                    verdict.remaining = verdict.remaining.saturating_add(taken.units);
                }
                (Counter::Concurrency(_), _) if verdict.granted => verdict.remaining += 1,
                _ => {}
            }
        }
    }

    /// Slows the request's body down, and leaves what is to be known of the response.
    fn pace(&self, cx: &mut RequestContext<'_>) {
        let mut paces = Paces::default();
        for Counted { settings, counter } in self.limits.iter() {
            let Counter::Bandwidth { limiter, of } = counter else { continue };
            let pace =
                paces.add(settings, limiter, limiter.key(Key::new(&settings.by, cx.view())), *of);
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
        for Counted { settings, counter } in &self.limits {
            let name = &settings.name;
            let said = match counter {
                Counter::Rate { limiter, cost } => {
                    let key = limiter.key(Key::new(&settings.by, cx.view()));
                    let verdict = limiter.peek(key, *cost, now);
                    refused |= !verdict.granted && !settings.shadow;
                    let shadow = if settings.shadow { " (shadow)" } else { "" };
                    let word = if verdict.granted { "would have" } else { "has" };
                    format!("limit `{name}`{shadow} {word} {} left", verdict.remaining)
                }
                Counter::Concurrency(limit) => {
                    format!("limit `{name}` lets on {} at once", limit.most())
                }
                Counter::Bandwidth { .. } => format!("limit `{name}` slows bodies down"),
            };
            told.push_str(if told.is_empty() { "" } else { "; " });
            told.push_str(&said);
            if refused {
                return Foreseen::of(Outcome::Refuses(Reason::RateLimited), told);
            }
        }
        Foreseen::of(Outcome::Passes, told)
    }

    fn request<'a>(&'a self, cx: &'a mut RequestContext<'_>) -> Flow<'a> {
        // What begins inside was counted when it came from outside.
        if cx.is_internal() {
            return Flow::Next;
        }
        let Asked { refused, fault, said, held } = self.ask(cx);
        let would = said.iter().find(|said| !said.verdict.granted).map(|said| said.at);
        if let Some(at) = refused.or(would) {
            let name = self.limits[at].settings.name.clone();
            cx.leave(Limited { name, shadow: refused.is_none() });
        }
        let wait = refused.and_then(|_| said.last()).and_then(|said| said.verdict.retry_after);
        if !held.is_empty() {
            cx.leave(Held(held));
        }
        if self.charges && refused.is_none() {
            cx.leave(Owed::new(&self.limits, &said, cx));
        }
        if !self.policy_field.is_empty() {
            cx.leave(Said(said));
        }
        match (refused, fault) {
            (None, _) => {
                self.pace(cx);
                Flow::Next
            }
            (Some(at), None) => Flow::Refuse(refusal(&self.limits[at].settings, wait)),
            (Some(at), Some(fault)) => {
                let name = &self.limits[at].settings.name;
                let say = format!("the limit `{name}` cannot tell what the request costs");
                let error = Error::new(Reason::RateLimited, say).retry(Retry::No);
                Flow::Refuse(error.note(fault.to_string()))
            }
        }
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
        fields.append("ratelimit-policy", self.policy_field.as_bytes());
        if !left.is_empty() {
            fields.append("ratelimit", left.as_bytes());
        }
        Flow::Next
    }
}

#[cold]
fn refusal(limit: &Limit, wait: Option<Duration>) -> Error {
    let say = match &limit.kind {
        Kind::Concurrency(most) => {
            let requests = if most.get() == 1 { "request is" } else { "requests are" };
            format!("the limit `{}` is reached: {most} {requests} under way", limit.name)
        }
        Kind::Rate { .. } | Kind::Bandwidth { .. } => {
            format!("the limit `{}` is reached", limit.name)
        }
    };
    let error = Error::new(Reason::RateLimited, say);
    match (&limit.kind, wait) {
        // Nobody knows when the first of them will have ended.
        (Kind::Concurrency(_), _) => error.retry(Retry::After(Duration::from_secs(1))),
        (_, Some(wait)) => error.retry(Retry::After(wait)),
        (_, None) => {
            error.retry(Retry::No).note("one request costs more than the limit ever grants")
        }
    }
}

#[cfg(test)]
mod tests;
