//! Policies: what is done to the requests and responses of a route, whoever answers them.
//!
//! A [`Policy`] has up to three sides. Its request side runs before anybody is asked, and may answer,
//! wait, read or replace the body; its outgoing side changes what a service or handler is told, each time
//! one is; its response side sees every response of the route, one that Weft gives itself too. The order
//! is fixed by [`Stage`] and not by the configuration: requests pass it downwards, responses upwards. A
//! route keeps a list for each side, and pays nothing for one that is empty.
//!
//! A policy of another crate is registered by a name ([`Handlers::with_policy`](crate::Handlers)) and made
//! for a route by a [`PolicyMaker`]. A reload that leaves its settings as they are keeps the policy
//! itself, and with it what it has counted.

mod body_limit;
mod completion;
mod context;
mod dry_run;
mod fault;
pub(crate) mod gathered;
mod headers;
mod mirror;

use std::{any::Any, borrow::Cow, sync::Arc};

use smallvec::SmallVec;
use weft_kernel::{Error, Result, Tick};
use weft_net::{body::Body, timer::TaskTimer};
use weft_wire::Fields;

pub(crate) use self::{
    body_limit::BodyLimit,
    completion::{carry_out, complete},
    context::First,
    fault::FaultInjection,
    headers::HeaderChanges,
    mirror::Mirror,
};
pub use self::{
    completion::{Completion, TargetFailure},
    context::{OutgoingContext, RequestContext, ResponseContext},
    dry_run::{DryRun, Foreseen, PolicyOutcome, RequestView, Step, Supposed},
};
use crate::{
    answer::{self, Answer},
    exchange::Exchange,
    front::Walk,
    handler::{LocalFuture, Reply},
    plan::Binding,
};

/// What the names of fields begin with by which policies tell themselves, in a request that is kept, what
/// they had found out. A client's own are never kept, so what begins inside Weft and has one was told by a policy;
/// whoever makes requests of what others have said takes nothing of that kind from them.
pub const KEPT_PREFIX: &str = "weft-kept-";

/// The place of a policy in the order of all: requests pass from the first to the last, responses from
/// the last to the first. Trace, access log, the client's address and the route stand before all of
/// them; load shedding, bulkheads, breaker, timeout and retries, which belong to a service, after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Faults that are injected on purpose, so that nothing is spared them.
    Fault,
    /// From where it may ask.
    Network,
    /// The bound of the request body, within which those behind may read it.
    BodyLimit,
    /// What a browser asks before the request, and what every response says to it.
    Cors,
    /// Who the consumer is.
    Authentication,
    /// How often it may ask.
    RateLimit,
    /// What it may ask for.
    Authorization,
    /// Whether it has asked that already.
    Idempotency,
    /// Whether what it asks is well formed.
    Validation,
    /// Whether it is answered later.
    Deferral,
    /// Whether the answer is known.
    Cache,
    /// What is changed of request and response.
    Transform,
    /// Who gets a copy.
    Mirror,
    /// What shows a service who asks, which nobody gets a copy of.
    ServiceCredentials,
}

impl Stage {
    /// Its name, as it is shown.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Fault => "fault",
            Self::Network => "network",
            Self::BodyLimit => "body_limit",
            Self::Cors => "cors",
            Self::Authentication => "authentication",
            Self::RateLimit => "rate_limit",
            Self::Authorization => "authorization",
            Self::Idempotency => "idempotency",
            Self::Validation => "validation",
            Self::Deferral => "deferral",
            Self::Cache => "cache",
            Self::Transform => "transform",
            Self::Mirror => "mirror",
            Self::ServiceCredentials => "service_credentials",
        }
    }
}

/// Which sides a policy has; those that it has not are never asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sides {
    /// [`Policy::request`].
    pub request: bool,
    /// [`Policy::request`], but only where the request has a body.
    pub body: bool,
    /// [`Policy::outgoing`].
    pub outgoing: bool,
    /// [`Policy::response`].
    pub response: bool,
}

/// What a policy makes of a request or a response.
#[must_use]
pub enum Flow<'a> {
    /// It goes on.
    Next,
    /// This is the answer, whoever else would have given one.
    Answer(Box<Reply>),
    /// It is refused.
    Refuse(Error),
    /// It is not known yet: `None` goes on.
    Wait(LocalFuture<'a, Result<Option<Reply>>>),
}

impl<'a> Flow<'a> {
    /// The answer.
    pub fn answer(reply: Reply) -> Self {
        Self::Answer(Box::new(reply))
    }

    /// What the future will say. It may hold the context, and is dropped if the client goes away.
    pub fn wait(future: impl Future<Output = Result<Option<Reply>>> + 'a) -> Self {
        Self::Wait(Box::pin(future))
    }
}

/// What is done to the requests and responses of a route.
pub trait Policy: Send + Sync {
    /// Its place in the order.
    fn stage(&self) -> Stage;

    /// The sides that it has.
    fn sides(&self) -> Sides;

    /// Judges a request.
    fn request<'a>(&'a self, cx: &'a mut RequestContext<'_>) -> Flow<'a> {
        let _ = cx;
        Flow::Next
    }

    /// Changes what whoever is asked is told: a service, another one after it, or a local handler.
    fn outgoing(&self, cx: &mut OutgoingContext<'_>) {
        let _ = cx;
    }

    /// Changes the head of a request that is kept, to be carried out later along the same route: takes off
    /// what nobody is to keep, and leaves what the request side is to know then, in fields of
    /// [`KEPT_PREFIX`]. Asked of policies with an outgoing side.
    fn keep(&self, cx: &mut OutgoingContext<'_>) {
        let _ = cx;
    }

    /// Whether it takes fields of this name, in lower case, off a request or says them itself, be it not each time:
    /// then none may come after the body either, where its outgoing side does not see them. Asked of policies with an
    /// outgoing side.
    fn takes_off(&self, name: &str) -> bool {
        let _ = name;
        false
    }

    /// Whether it [redacts](Self::redact) targets.
    fn redacts(&self) -> bool {
        false
    }

    /// Takes off a target, as log and span tell it, the secrets that stand in it; `path` is its normal path. Asked as
    /// soon as the route is known, whoever answers or refuses then.
    fn redact(&self, path: &str, target: &mut String) {
        let _ = (path, target);
    }

    /// Changes or replaces a response.
    fn response<'a>(&'a self, cx: &'a mut ResponseContext<'_>) -> Flow<'a> {
        let _ = cx;
        Flow::Next
    }

    /// Its name, as it is shown.
    fn name(&self) -> &'static str {
        self.stage().word()
    }

    /// What it would make of a request that nobody sends: it counts nothing, keeps nothing and asks nobody.
    fn foresee(&self, cx: &mut DryRun<'_>) -> Foreseen {
        let _ = cx;
        Foreseen::TAKES_PART
    }

    /// Whether it has requests carried out by [`WorkerClient`](crate::WorkerClient) on the routes it stands on.
    fn begins_requests(&self) -> bool {
        false
    }
}

/// Makes policies of the settings of routes. The node has one for each name.
pub trait PolicyMaker: Send + Sync {
    /// The policy of a route with these settings.
    ///
    /// # Errors
    /// What is wrong with the settings.
    fn make(&self, binding: &Binding) -> Result<Arc<dyn Policy>, String>;
}

/// Something that a policy has found out, for those behind it and for what is told of the request.
pub trait Fact: Any {
    /// The name and the value under which access log and span tell it, if they shall. The name is one
    /// word in lower case, and unlike every field that they have already.
    fn told(&self) -> Option<(&'static str, Cow<'_, str>)> {
        None
    }

    /// Whether requests are counted under what is [`told`](Self::told), so that metrics show them by it.
    /// Their number of values is bounded; ids of single requests are none the less no use there.
    fn is_counted(&self) -> bool {
        false
    }

    /// Told once, when the response has left whole or could not, before it is told and counted itself. Right after
    /// that the fact is dropped, and with it what it holds for as long as the request lives, such as a permit.
    fn ended(&self, how: &Ended) {
        let _ = how;
    }
}

/// How a request ended, as its facts are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The status that the client was told, or would have been.
    pub status: u16,
    /// The status of a call of gRPC, if it is known.
    pub grpc: Option<u8>,
    /// Bytes of the request's body that came.
    pub request_bytes: u64,
    /// Bytes of the response's body that left.
    pub response_bytes: u64,
    /// When that was.
    pub now: Tick,
}

/// What the policies of a request have found out; each kind once. Most have two at most.
pub(crate) struct Facts(SmallVec<[Box<dyn Fact>; 2]>);

impl Facts {
    pub(crate) const fn none() -> Self {
        Self(SmallVec::new_const())
    }

    pub(crate) fn leave<F: Fact>(&mut self, fact: F) {
        self.0.retain(|known| !(&**known as &dyn Any).is::<F>());
        self.0.push(Box::new(fact));
    }

    pub(crate) fn get<F: Fact>(&self) -> Option<&F> {
        self.0.iter().find_map(|known| (&**known as &dyn Any).downcast_ref())
    }

    /// Tells them how the request ended.
    pub(crate) fn end(&self, how: &Ended) {
        self.0.iter().for_each(|fact| fact.ended(how));
    }

    /// What is to be told of them.
    pub(crate) fn told(&self) -> impl Iterator<Item = (&'static str, Cow<'_, str>)> {
        self.0.iter().filter_map(|fact| fact.told())
    }

    /// What requests are counted under.
    pub(crate) fn counted(&self) -> impl Iterator<Item = (&'static str, Cow<'_, str>)> {
        self.0.iter().filter(|fact| fact.is_counted()).filter_map(|fact| fact.told())
    }
}

/// Leads a request through the request sides of `policies` of its route; gives the answer of the one that
/// answers.
pub(crate) async fn requests(
    policies: &[Arc<dyn Policy>],
    walk: &Walk<'_>,
    exchange: &mut Exchange,
    body: &mut Body,
    timer: &TaskTimer,
) -> Result<Option<Answer>> {
    for policy in policies {
        let (exchange, body) = (&mut *exchange, &mut *body);
        let mut cx = RequestContext { exchange, walk, body, timer };
        let reply = match policy.request(&mut cx) {
            Flow::Next => continue,
            Flow::Answer(reply) => Some(*reply),
            Flow::Refuse(error) => return Err(error),
            Flow::Wait(future) => future.await?,
        };
        if let Some(reply) = reply {
            return Ok(Some(Answer::from(reply)));
        }
    }
    Ok(None)
}

/// Leads a response through the response sides of its route's policies.
pub(crate) async fn responses(exchange: &mut Exchange, answer: &mut Answer) {
    let Some(route) = exchange.record.route.clone() else { return };
    for policy in route.policies.responses.iter().rev() {
        let outcome = {
            let mut cx = ResponseContext { exchange: &mut *exchange, answer: &mut *answer };
            match policy.response(&mut cx) {
                Flow::Next => continue,
                Flow::Answer(reply) => Ok(Some(*reply)),
                Flow::Refuse(error) => Err(error),
                Flow::Wait(future) => future.await,
            }
        };
        match outcome {
            Ok(None) => {}
            Ok(Some(reply)) => *answer = Answer::from(reply),
            Err(error) => *answer = answer::problem(exchange, &error, None),
        }
    }
}

/// The policies of a route, by the sides that they have.
#[derive(Default)]
pub(crate) struct Policies {
    /// All of them, in their order.
    pub(crate) all: Box<[Arc<dyn Policy>]>,
    requests: Box<[Arc<dyn Policy>]>,
    /// Those of `requests` that are asked where there is no body.
    bodiless: Box<[Arc<dyn Policy>]>,
    pub(crate) outgoings: Box<[Arc<dyn Policy>]>,
    pub(crate) responses: Box<[Arc<dyn Policy>]>,
    /// Those that redact targets.
    redactors: Box<[Arc<dyn Policy>]>,
    /// Those of other crates, in the order of their bindings.
    pub(crate) named: Box<[Arc<dyn Policy>]>,
    /// Whether one of them has requests carried out on the route.
    pub(crate) begin_requests: bool,
}

impl Policies {
    /// Puts policies in order; `named` are those of other crates.
    pub(crate) fn new(mut all: Vec<Arc<dyn Policy>>, named: Vec<Arc<dyn Policy>>) -> Self {
        all.extend(named.iter().cloned());
        // Those of one stage stay as they are.
        all.sort_by_key(|policy| policy.stage());
        let with = |has: fn(Sides) -> bool| {
            all.iter().filter(|policy| has(policy.sides())).cloned().collect::<Box<[_]>>()
        };
        let redactors = all.iter().filter(|policy| policy.redacts()).cloned().collect();
        Self {
            redactors,
            requests: with(|sides| sides.request || sides.body),
            bodiless: with(|sides| sides.request),
            outgoings: with(|sides| sides.outgoing),
            responses: with(|sides| sides.response),
            begin_requests: all.iter().any(|policy| policy.begins_requests()),
            named: named.into(),
            all: all.into(),
        }
    }

    /// A target as log and span are to tell it, if that is not as it is.
    pub(crate) fn redacted(&self, path: &str, target: &str) -> Option<String> {
        if self.redactors.is_empty() || !target.contains('?') {
            return None;
        }
        let mut redacted = target.to_owned();
        self.redactors.iter().for_each(|policy| policy.redact(path, &mut redacted));
        (redacted != target).then_some(redacted)
    }

    /// Takes off the trailers of a request what one of them takes off before its body; tells whether any are left.
    pub(crate) fn hold_trailers(&self, trailers: &mut Fields) -> bool {
        trailers.retain(|name, _| !self.outgoings.iter().any(|policy| policy.takes_off(name)));
        !trailers.is_empty()
    }

    /// Those that a request with this body is led through.
    pub(crate) const fn of(&self, body: &Body) -> &[Arc<dyn Policy>] {
        match body {
            Body::Empty => &self.bodiless,
            _ => &self.requests,
        }
    }
}
