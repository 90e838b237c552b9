//! A service with its endpoints, names and limits.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weft_discovery::{
    Service as Discovered,
    services::{ServiceStatus, SourceStatus},
};
use weft_kernel::{Name, Tick};
use weft_proxy::{
    plan::{self, FallbackTo},
    upstream::Upstream,
};

use super::{BreakerView, BulkheadView, ConcurrencyView, EndpointView};
use crate::node::{AVAILABLE, state_of};

/// A service, in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceSummary {
    /// Its name.
    pub name: String,
    /// How it is balanced.
    pub algorithm: String,
    /// How many endpoints it has.
    pub endpoints: usize,
    /// How many of them take requests.
    pub available: usize,
    /// Requests in flight.
    pub active: u64,
    /// The state of its breaker, if it has one.
    pub breaker: Option<String>,
    /// Whether so few endpoints are well that verdicts are not believed.
    pub panicking: bool,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Service")]
pub struct ServiceView {
    /// Its name.
    pub name: String,
    /// How it is balanced.
    pub algorithm: String,
    /// Whether so few endpoints are well that verdicts are not believed.
    pub panicking: bool,
    /// Picks that found no endpoint.
    pub refused: u64,
    /// The routes that lead to it.
    pub routes: Vec<String>,
    /// Its endpoints.
    pub endpoints: Vec<EndpointView>,
    /// What tells of its endpoints, beside the addresses of the configuration.
    pub sources: Vec<SourceView>,
    /// Its breaker.
    pub breaker: Option<BreakerView>,
    /// Its adaptive concurrency.
    pub concurrency: Option<ConcurrencyView>,
    /// Its bulkhead.
    pub bulkhead: Option<BulkheadView>,
    /// Retries that its budget allows now.
    pub retry_budget: u64,
}

/// A source of endpoints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Source")]
pub struct SourceView {
    /// Its kind: `dns`, `file`.
    pub kind: String,
    /// Its name, as it was configured.
    pub name: String,
    /// How far its endpoints can be trusted: `pending`, `fresh`, `stale` or `failed`.
    pub state: String,
    /// How many endpoints stand.
    pub endpoints: usize,
    /// How long ago it told of endpoints last.
    pub told_seconds: Option<u64>,
    /// How long it has failed, if it does.
    pub failing_seconds: Option<u64>,
    /// Why it fails, if it does.
    pub error: Option<String>,
    /// Failures in a row.
    pub failures: u32,
    /// When it tries next, if it knows.
    pub next_seconds: Option<u64>,
}

impl ServiceSummary {
    pub(crate) fn of(service: &Discovered, upstream: Option<&Upstream>, now: Tick) -> Self {
        let set = service.set();
        let available =
            set.members().iter().filter(|member| state_of(&member.endpoint, now) == AVAILABLE);
        Self {
            name: service.name().to_string(),
            algorithm: service.options().algorithm.word().into(),
            endpoints: set.members().len(),
            available: available.count(),
            active: set.members().iter().map(|member| u64::from(member.endpoint.active())).sum(),
            breaker: upstream.and_then(|upstream| {
                Some(BreakerView::of(upstream.breaker.as_ref()?, now).state_or_mode())
            }),
            panicking: set.panicking(),
        }
    }
}

impl ServiceView {
    pub(crate) fn of(
        service: &Discovered,
        status: ServiceStatus,
        upstream: Option<&Upstream>,
        plan: &plan::Plan,
        now: Tick,
    ) -> Self {
        let set = service.set();
        let endpoints = status.endpoints.into_iter().map(|endpoint| {
            let member = set.members().iter().find(|member| member.endpoint.id() == endpoint.id);
            let state = member.map_or("gone", |member| state_of(&member.endpoint, now));
            let ejection = member.and_then(|member| member.endpoint.ejection());
            EndpointView::of(endpoint, state, ejection.map(|of| of.snapshot(now)), now)
        });
        Self {
            name: status.name.to_string(),
            algorithm: status.algorithm.into(),
            panicking: status.panicking,
            refused: status.refused,
            routes: routes_to(plan, &status.name),
            endpoints: endpoints.collect(),
            sources: status.sources.into_iter().map(SourceView::of).collect(),
            breaker: upstream
                .and_then(|upstream| Some(BreakerView::of(upstream.breaker.as_ref()?, now))),
            concurrency: upstream
                .and_then(|upstream| Some(ConcurrencyView::of(upstream.adaptive.as_ref()?))),
            bulkhead: upstream
                .and_then(|upstream| Some(BulkheadView::of(upstream.bulkhead.as_ref()?))),
            retry_budget: upstream.map_or(0, |upstream| upstream.budget.balance(now)),
        }
    }
}

impl SourceView {
    fn of(of: SourceStatus) -> Self {
        let seconds = |span: Option<Duration>| span.map(|span| span.as_secs());
        Self {
            kind: of.kind,
            name: of.name,
            state: of.state.word().into(),
            endpoints: of.endpoints,
            told_seconds: seconds(of.pushed),
            failing_seconds: seconds(of.failing),
            error: of.error,
            failures: of.failures,
            next_seconds: seconds(of.next),
        }
    }
}

/// The routes that send requests to a service, copies and fallbacks included.
fn routes_to(plan: &plan::Plan, service: &Name) -> Vec<String> {
    let leads = |route: &plan::Route| {
        let targets = match &route.target {
            plan::Target::Services(weighted) => {
                weighted.iter().any(|weighted| weighted.service == *service)
            }
            _ => false,
        };
        let mirror = &route.policy.mirror;
        let fallback = route.policy.fallback.as_ref().map(|fallback| &fallback.to);
        targets
            || mirror.as_ref().is_some_and(|mirror| mirror.service == *service)
            || matches!(fallback, Some(FallbackTo::Service(name)) if name == service)
    };
    plan.routes.iter().filter(|route| leads(route)).map(|route| route.name.to_string()).collect()
}
