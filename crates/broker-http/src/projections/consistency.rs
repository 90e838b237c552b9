//! The policy by which clients read what they have written through services that know nothing of it.
//!
//! A response to what may have changed something gets a token of where the events ended when it was answered: whatever
//! the service has appended before is before that. A request that carries it, in the field or in a cookie, waits at its
//! route until the projections that its service reads have got there. If they do not in time, it is refused, or goes on
//! and is told of as stale, to the service and to the client.

use std::{
    borrow::Cow,
    fmt,
    pin::pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures_util::future::join_all;
use weft_events::projection::Projection;
use weft_kernel::{Error, Name, Reason, Result};
use weft_proxy::{
    DryRun, Fact, Flow, Foreseen, Handlers, OutgoingContext, Policy, PolicyMaker, PolicyOutcome,
    RequestContext, ResponseContext, Sides, Stage, cookie, plan::Binding,
};
use weft_wire::{Fields, Known, Method};

use super::{
    Projected,
    token::{STALE, TOKEN, farthest, position, token},
};

/// The policy that tells and honours consistency tokens; its settings are a [`Consistency`].
pub const CONSISTENCY: &str = "consistency";

/// How long a browser keeps its token: far longer than projections are behind.
const COOKIE_SECONDS: u64 = 3_600;

/// Settings of the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consistency {
    /// Whether responses to requests with an unsafe method carry a token.
    pub issue: bool,
    /// Whether the token is told and read as a cookie too.
    pub cookie: bool,
    /// Projections for which requests with a token wait.
    pub projections: Vec<Name>,
    /// The longest wait.
    pub wait: Duration,
    /// Whether a request goes on when it has waited so long, rather than being refused.
    pub serve_stale: bool,
}

impl fmt::Display for Consistency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.projections.iter().map(Name::as_str).collect();
        let waits = format!("requests wait for {}", names.join(", "));
        match (self.issue, names.is_empty()) {
            (true, true) => f.write_str("responses tell a token"),
            (true, false) => write!(f, "responses tell a token, {waits}"),
            (false, _) => f.write_str(&waits),
        }
    }
}

/// Makes policies of settings. Routes can be bound to them before the ledger is open.
#[derive(Clone, Default)]
pub struct ConsistencyPolicies(Arc<OnceLock<Projected>>);

impl ConsistencyPolicies {
    /// Gives what is waited for from now on; the first one stays.
    pub fn open(&self, operated: Projected) {
        let _ = self.0.set(operated);
    }

    /// Adds them to the handlers of a node.
    pub fn register(&self, handlers: Handlers) -> Handlers {
        handlers.with_policy(CONSISTENCY, self.clone())
    }
}

impl PolicyMaker for ConsistencyPolicies {
    fn make(&self, binding: &Binding) -> Result<Arc<dyn Policy>, String> {
        Ok(Arc::new(Bound { operated: Arc::clone(&self.0), settings: binding.settings()? }))
    }
}

/// The policy of a route.
struct Bound {
    operated: Arc<OnceLock<Projected>>,
    settings: Consistency,
}

/// That what is shown is older than the token of the request.
struct Stale;

impl Fact for Stale {
    fn told(&self) -> Option<(&'static str, Cow<'_, str>)> {
        Some(("stale", "true".into()))
    }
}

impl Bound {
    /// Up to where a request wants projections to be; `None` if it does not say.
    fn wanted(&self, operated: &Projected, fields: &Fields) -> Result<Option<u64>> {
        let told = farthest(&operated.events, fields)?;
        if !self.settings.cookie || !fields.has(Known::Cookie) {
            return Ok(told);
        }
        // A browser cannot do anything about one of another store, and would show it again and again.
        let kept = cookie::values(fields, TOKEN).filter_map(|of| position(&operated.events, of));
        Ok(told.max(kept.max()))
    }

    /// Projections that have not got there, and where that is.
    fn behind(&self, fields: &Fields) -> Result<Option<(u64, Vec<Projection>)>> {
        let absent = |say: String| Error::new(Reason::Misconfigured, say);
        let operated = self.operated.get();
        let operated =
            operated.ok_or_else(|| absent("projections are not open on this node".into()))?;
        let Some(to) = self.wanted(operated, fields)? else { return Ok(None) };
        let mut behind = Vec::new();
        for name in &self.settings.projections {
            let found = operated.projections.get(name.as_str());
            let found = found.map_err(|error| {
                absent(format!("the projection `{name}` is not open on this node")).because(error)
            })?;
            if found.status().position < to {
                behind.push(found.clone());
            }
        }
        Ok((!behind.is_empty()).then_some((to, behind)))
    }
}

impl Policy for Bound {
    fn stage(&self) -> Stage {
        Stage::Consistency
    }

    fn sides(&self) -> Sides {
        let waits = !self.settings.projections.is_empty();
        Sides { request: waits, outgoing: waits, response: true, ..Sides::default() }
    }

    fn request<'a>(&'a self, cx: &'a mut RequestContext<'_>) -> Flow<'a> {
        let (to, behind) = match self.behind(&cx.head().fields) {
            Ok(None) => return Flow::Next,
            Ok(Some(behind)) => behind,
            Err(error) => return Flow::Refuse(error),
        };
        Flow::wait(async move {
            let until = cx.now().plus(self.settings.wait);
            let reached = pin!(join_all(behind.iter().map(|of| of.reached(to))));
            if cx.wait_for(until, reached).await.is_some() {
                return Ok(None);
            }
            match behind.iter().find(|of| of.status().position < to) {
                Some(of) if !self.settings.serve_stale => Err(super::behind(of)),
                Some(_) => {
                    cx.leave(Stale);
                    Ok(None)
                }
                None => Ok(None),
            }
        })
    }

    /// Nobody but this node tells a service that it is asked for what is stale.
    fn outgoing(&self, cx: &mut OutgoingContext<'_>) {
        let is_stale = cx.fact::<Stale>().is_some();
        let fields = &mut cx.head_mut().fields;
        fields.remove_named(STALE);
        if is_stale {
            fields.append(STALE, b"true");
        }
    }

    fn takes_off(&self, name: &str) -> bool {
        name == STALE
    }

    fn response<'a>(&'a self, cx: &'a mut ResponseContext<'_>) -> Flow<'a> {
        if cx.fact::<Stale>().is_some() {
            cx.head_mut().fields.set_named(STALE, b"true");
        }
        let is_safe = matches!(
            cx.request().method,
            Method::Get | Method::Head | Method::Options | Method::Trace
        );
        // What Weft refuses has changed nothing, or may not have: its caller asks again.
        if !self.settings.issue || is_safe || cx.reason().is_some() || cx.is_tunnel() {
            return Flow::Next;
        }
        let Some(operated) = self.operated.get() else { return Flow::Next };
        let is_secure = cx.is_secure();
        let fields = &mut cx.head_mut().fields;
        let end = token(operated.events.epoch(), operated.events.next_position());
        // A service that tells its own knows better; a cookie takes the place of one that may be of later events.
        if fields.named(TOKEN).is_none() {
            fields.append(TOKEN, end.as_bytes());
        }
        if self.settings.cookie {
            let secure = if is_secure { "; Secure" } else { "" };
            let line = format!(
                "{TOKEN}={end}; Path=/; Max-Age={COOKIE_SECONDS}; HttpOnly; SameSite=Lax{secure}"
            );
            fields.append("set-cookie", line.as_bytes());
        }
        Flow::Next
    }

    fn name(&self) -> &'static str {
        CONSISTENCY
    }

    fn foresee(&self, cx: &mut DryRun<'_>) -> Foreseen {
        let fields = &cx.view().head().fields;
        let told = fields.named(TOKEN).is_some();
        let told = told || self.settings.cookie && cookie::value(fields, TOKEN).is_some();
        match told && !self.settings.projections.is_empty() {
            true => Foreseen::new(PolicyOutcome::TakesPart, "it waits for what its token is of"),
            false => Foreseen::new(PolicyOutcome::Passes, "it waits for no projection"),
        }
    }
}
