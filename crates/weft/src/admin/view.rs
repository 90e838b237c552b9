//! Routes and services as the admin API shows them.

use serde::{Deserialize, Serialize};
use std::time::Duration;
use weft_discovery::{
    Service as Discovered,
    registry::{CheckStatus, EndpointStatus, ResolutionStatus, ServiceStatus},
};
use weft_kernel::{Name, Tick};
use weft_proxy::{
    plan::{self, FallbackTo, FieldValue, Host, Path, PathRewrite},
    upstream::Upstream,
};
use weft_resilience::{
    adaptive::Criticality,
    ejection::{self, Availability, Forced},
};

use crate::node::{AVAILABLE, state_of};

/// A route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RouteView {
    /// Its name.
    pub name: String,
    /// The listeners it is offered on; empty for every HTTP listener.
    pub listeners: Vec<String>,
    /// What fits it, a line for each match.
    pub matches: Vec<String>,
    /// Where its requests go.
    pub target: TargetView,
    /// How its requests are treated.
    pub policy: PolicyView,
}

/// Where requests go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum TargetView {
    /// To one of these services.
    Services {
        /// Each with its weight.
        services: Vec<WeightedView>,
    },
    /// Elsewhere, by the client itself.
    Redirect {
        /// The status.
        status: u16,
        /// What of the location is changed.
        to: String,
    },
    /// Nowhere: Weft answers.
    Respond {
        /// The status.
        status: u16,
    },
}

/// A service and its weight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WeightedView {
    /// The service.
    pub service: String,
    /// Its weight among the others.
    pub weight: u32,
}

/// How the requests of a route are treated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyView {
    /// The longest time of a request, in milliseconds.
    pub request_timeout_ms: Option<f64>,
    /// The longest time of one try.
    pub try_timeout_ms: Option<f64>,
    /// The longest time until a connection stands.
    pub connect_timeout_ms: f64,
    /// Tries after the first.
    pub retries: u32,
    /// Hedges for one request.
    pub hedges: u32,
    /// The largest request body, in bytes.
    pub body_bytes_max: Option<u64>,
    /// Where a share of requests is copied to.
    pub mirror: Option<String>,
    /// Who answers when the target cannot.
    pub fallback: Option<String>,
    /// Whether faults are injected.
    pub fault: bool,
}

/// A service, in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    /// The names that are resolved for it.
    pub resolutions: Vec<ResolutionView>,
    /// Its breaker.
    pub breaker: Option<BreakerView>,
    /// Its adaptive concurrency.
    pub concurrency: Option<ConcurrencyView>,
    /// Its bulkhead.
    pub bulkhead: Option<BulkheadView>,
    /// Retries that its budget allows now.
    pub retry_budget: u64,
}

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndpointView {
    /// Its number, unique while the node runs.
    pub id: u64,
    /// Where it listens.
    pub address: String,
    /// The name it was resolved from.
    pub hostname: Option<String>,
    /// The zone it stands in.
    pub zone: Option<String>,
    /// Its weight.
    pub weight: u32,
    /// Its tier; the lowest is used first.
    pub priority: u16,
    /// `available`, `unhealthy`, `ejected`, `isolated` or `drained`.
    pub state: String,
    /// What active checks say: `unknown`, `healthy` or `unhealthy`.
    pub verdict: String,
    /// Requests in flight.
    pub active: u32,
    /// Requests ever begun.
    pub requests: u64,
    /// Requests that failed.
    pub failures: u64,
    /// The latency that the balancer expects of it.
    pub latency_ms: f64,
    /// How long ago it came.
    pub age_seconds: u64,
    /// The last check.
    pub check: Option<CheckView>,
    /// Its breaker.
    pub ejection: Option<EjectionView>,
}

/// The last check of an endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckView {
    /// How long ago it ended.
    pub ago_seconds: f64,
    /// What it found.
    pub detail: String,
    /// How long the verdict has stood.
    pub verdict_age_seconds: Option<u64>,
    /// How many checks were made.
    pub checks: u64,
    /// How many of them failed.
    pub failures: u64,
}

/// The breaker of an endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EjectionView {
    /// `ready`, `probe` (one request may try it) or `out`.
    pub availability: String,
    /// How long it stays out; null while it is held out by hand.
    pub out_for_seconds: Option<f64>,
    /// `out` or `in` while it is held there by hand.
    pub forced: Option<String>,
    /// Failures in a row just now.
    pub consecutive: u32,
    /// Samples in its window.
    pub samples: u64,
    /// The share of successes among them.
    pub success_ratio: Option<f64>,
    /// How often it was ejected.
    pub ejections: u64,
}

/// A name that is resolved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResolutionView {
    /// The name, as it was configured.
    pub name: String,
    /// How far its addresses can be trusted.
    pub state: String,
    /// How many addresses stand.
    pub addresses: usize,
    /// How long ago the last answer came.
    pub answered_seconds: Option<u64>,
    /// Why the last look-up failed, if it did.
    pub error: Option<String>,
    /// Failures in a row.
    pub failures: u32,
}

/// The breaker of a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BreakerView {
    /// `closed`, `open` or `half_open`.
    pub state: String,
    /// `enforce`, `metrics_only`, `isolated` or `disabled`.
    pub mode: String,
    /// How long it is in that state.
    pub since_seconds: u64,
    /// The share of failures in its window.
    pub failure_ratio: Option<f64>,
    /// The share of slow calls in it.
    pub slow_ratio: Option<f64>,
    /// How many calls the window holds.
    pub calls: u64,
    /// How often it has opened.
    pub opens: u64,
    /// How many calls it has refused.
    pub refusals: u64,
}

/// Adaptive concurrency.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConcurrencyView {
    /// Requests that are let through at once.
    pub limit: u32,
    /// Requests in flight.
    pub in_flight: u32,
    /// The latency without load.
    pub baseline_ms: Option<f64>,
    /// Critical requests that were shed.
    pub shed_critical: u64,
    /// Ordinary requests that were shed.
    pub shed_default: u64,
    /// Sheddable requests that were shed.
    pub shed_sheddable: u64,
}

/// A bulkhead.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BulkheadView {
    /// Requests in flight.
    pub in_flight: usize,
    /// The most of them.
    pub in_flight_max: usize,
    /// Requests that wait.
    pub queued: usize,
    /// Requests that found it full.
    pub full: u64,
    /// Requests that waited too long.
    pub timed_out: u64,
}

fn millis(span: Duration) -> f64 {
    // To the microsecond: more would be noise that people have to read.
    (span.as_secs_f64() * 1e6).round() / 1e3
}

fn seconds(span: Duration) -> f64 {
    (span.as_secs_f64() * 1e3).round() / 1e3
}

impl RouteView {
    pub(crate) fn of(route: &plan::Route) -> Self {
        let policy = &route.policy;
        let fallback = policy.fallback.as_ref().map(|fallback| match &fallback.to {
            FallbackTo::Service(name) => name.to_string(),
            FallbackTo::Respond(respond) => format!("status {}", respond.status),
        });
        Self {
            name: route.name.to_string(),
            listeners: route.listeners.iter().map(ToString::to_string).collect(),
            matches: route.matches.iter().map(conditions).collect(),
            target: TargetView::of(&route.target),
            policy: PolicyView {
                request_timeout_ms: policy.timeout.request.map(millis),
                try_timeout_ms: policy.timeout.per_try.map(millis),
                connect_timeout_ms: millis(policy.timeout.connect),
                retries: policy.retry.as_ref().map_or(0, |retry| retry.retries),
                hedges: policy.hedge.as_ref().map_or(0, |hedge| hedge.max),
                body_bytes_max: policy.body_bytes_max.0,
                mirror: policy.mirror.as_ref().map(|mirror| mirror.service.to_string()),
                fallback,
                fault: policy.fault.is_some(),
            },
        }
    }
}

impl TargetView {
    pub(crate) fn of(target: &plan::Target) -> Self {
        match target {
            plan::Target::Services(weighted) => Self::Services {
                services: weighted
                    .iter()
                    .map(|weighted| WeightedView {
                        service: weighted.service.to_string(),
                        weight: weighted.weight,
                    })
                    .collect(),
            },
            plan::Target::Redirect(redirect) => {
                Self::Redirect { status: redirect.status, to: location(redirect) }
            }
            plan::Target::Respond(respond) => Self::Respond { status: respond.status },
        }
    }
}

impl std::fmt::Display for TargetView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Services { services } => match services.as_slice() {
                [only] => f.write_str(&only.service),
                many => {
                    let shown: Vec<String> = many
                        .iter()
                        .map(|weighted| format!("{} {}", weighted.service, weighted.weight))
                        .collect();
                    f.write_str(&shown.join(", "))
                }
            },
            Self::Redirect { status, to } => write!(f, "redirect {status} to {to}"),
            Self::Respond { status } => write!(f, "status {status}"),
        }
    }
}

/// A redirect's location, with `…` for what stays as it was.
fn location(redirect: &plan::Redirect) -> String {
    let mut text = String::new();
    if redirect.scheme.is_some() || redirect.host.is_some() || redirect.port.is_some() {
        text.push_str(redirect.scheme.as_deref().unwrap_or("…"));
        text.push_str("://");
        text.push_str(redirect.host.as_deref().unwrap_or("…"));
        if let Some(port) = redirect.port {
            text.push_str(&format!(":{port}"));
        }
    }
    match &redirect.path {
        None => text.push_str("/…"),
        Some(PathRewrite::Prefix(prefix)) => text.push_str(&format!("{prefix}…")),
        Some(PathRewrite::Full(path) | PathRewrite::Template(path)) => text.push_str(path),
        Some(PathRewrite::Regex { replace, .. }) => text.push_str(replace),
    }
    text
}

/// The conditions of a match in one line: `GET,HEAD orders.example /orders/* x-tenant=acme ?v=2`.
pub(crate) fn conditions(of: &plan::Match) -> String {
    let mut words = Vec::new();
    if !of.methods.is_empty() {
        words.push(of.methods.join(","));
    }
    if !of.hosts.is_empty() {
        let hosts: Vec<String> = of
            .hosts
            .iter()
            .map(|host| match host {
                Host::Exact(name) => name.clone(),
                Host::Wildcard(suffix) => format!("*.{suffix}"),
            })
            .collect();
        words.push(hosts.join(","));
    }
    match &of.path {
        Path::Any => {}
        Path::Exact(path) => words.push(format!("={path}")),
        Path::Prefix(path) => words.push(format!("{}/*", path.trim_end_matches('/'))),
        Path::Regex(regex) => words.push(format!("~{regex}")),
        Path::Template(template) => words.push(template.clone()),
    }
    words.extend(of.headers.iter().map(|field| condition("", field)));
    words.extend(of.query.iter().map(|field| condition("?", field)));
    if words.is_empty() { "everything".into() } else { words.join(" ") }
}

fn condition(mark: &str, field: &plan::Field) -> String {
    let not = if field.invert { "not " } else { "" };
    let name = &field.name;
    match &field.value {
        FieldValue::Present => format!("{not}{mark}{name}"),
        FieldValue::Exact(value) => format!("{not}{mark}{name}={value}"),
        FieldValue::Prefix(value) => format!("{not}{mark}{name}={value}*"),
        FieldValue::Regex(value) => format!("{not}{mark}{name}~{value}"),
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

impl ServiceSummary {
    pub(super) fn of(service: &Discovered, upstream: Option<&Upstream>, now: Tick) -> Self {
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

impl BreakerView {
    fn of(breaker: &weft_resilience::breaker::Breaker, now: Tick) -> Self {
        let shot = breaker.snapshot(now);
        Self {
            state: shot.state.word().into(),
            mode: shot.mode.word().into(),
            since_seconds: now.since(shot.since).as_secs(),
            failure_ratio: shot.failure_ratio,
            slow_ratio: shot.slow_ratio,
            calls: shot.calls,
            opens: shot.opens,
            refusals: shot.refusals,
        }
    }

    /// What matters most in one word: a breaker that was set by hand says so.
    fn state_or_mode(&self) -> String {
        let by_hand = ["isolated", "disabled"].contains(&&*self.mode);
        if by_hand { self.mode.clone() } else { self.state.clone() }
    }
}

impl ServiceView {
    pub(super) fn of(
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
        let shed = |shed: &[u64; 3], of: Criticality| {
            let at = Criticality::ALL.iter().position(|one| *one == of).unwrap_or_default();
            shed[at]
        };
        Self {
            name: status.name.to_string(),
            algorithm: status.algorithm.into(),
            panicking: status.panicking,
            refused: status.refused,
            routes: routes_to(plan, &status.name),
            endpoints: endpoints.collect(),
            resolutions: status.resolutions.into_iter().map(ResolutionView::of).collect(),
            breaker: upstream
                .and_then(|upstream| Some(BreakerView::of(upstream.breaker.as_ref()?, now))),
            concurrency: upstream.and_then(|upstream| {
                let shot = upstream.adaptive.as_ref()?.snapshot();
                Some(ConcurrencyView {
                    limit: shot.limit,
                    in_flight: shot.in_flight,
                    baseline_ms: shot.baseline.map(millis),
                    shed_critical: shed(&shot.shed, Criticality::Critical),
                    shed_default: shed(&shot.shed, Criticality::Default),
                    shed_sheddable: shed(&shot.shed, Criticality::Sheddable),
                })
            }),
            bulkhead: upstream.and_then(|upstream| {
                let bulkhead = upstream.bulkhead.as_ref()?;
                let shot = bulkhead.snapshot();
                Some(BulkheadView {
                    in_flight: shot.in_flight,
                    in_flight_max: bulkhead.options().in_flight_max,
                    queued: shot.queued,
                    full: shot.full,
                    timed_out: shot.timed_out,
                })
            }),
            retry_budget: upstream.map_or(0, |upstream| upstream.budget.balance(now)),
        }
    }
}

impl EndpointView {
    fn of(
        of: EndpointStatus,
        state: &str,
        ejection: Option<ejection::Snapshot>,
        now: Tick,
    ) -> Self {
        Self {
            id: of.id,
            address: of.address.to_string(),
            hostname: of.hostname.map(|name| name.to_string()),
            zone: of.zone.map(|zone| zone.to_string()),
            weight: of.weight,
            priority: of.priority,
            state: state.into(),
            verdict: of.verdict.word().into(),
            active: of.active,
            requests: of.requests,
            failures: of.failures,
            latency_ms: millis(of.latency),
            age_seconds: of.age.as_secs(),
            check: of.check.map(CheckView::of),
            ejection: ejection.map(|ejection| EjectionView::of(&ejection, now)),
        }
    }
}

impl CheckView {
    fn of(of: CheckStatus) -> Self {
        Self {
            ago_seconds: seconds(of.ago),
            detail: of.detail,
            verdict_age_seconds: of.verdict_age.map(|age| age.as_secs()),
            checks: of.checks,
            failures: of.failures,
        }
    }
}

impl EjectionView {
    fn of(of: &ejection::Snapshot, now: Tick) -> Self {
        let (availability, out_for) = match of.availability {
            Availability::Ready => ("ready", None),
            Availability::Probe => ("probe", None),
            Availability::Out { until: Tick::NEVER } => ("out", None),
            Availability::Out { until } => ("out", Some(seconds(until.since(now)))),
        };
        let forced = of.forced.map(|forced| match forced {
            Forced::Out => "out".into(),
            Forced::In => "in".into(),
        });
        Self {
            availability: availability.into(),
            out_for_seconds: out_for,
            forced,
            consecutive: of.consecutive,
            samples: of.samples,
            success_ratio: of.success_ratio,
            ejections: of.ejections,
        }
    }
}

impl ResolutionView {
    fn of(of: ResolutionStatus) -> Self {
        Self {
            name: of.name,
            state: of.state.word().into(),
            addresses: of.addresses,
            answered_seconds: of.answered.map(|ago| ago.as_secs()),
            error: of.error,
            failures: of.failures,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_match_is_one_line() {
        let field = |name: &str, value, invert| plan::Field { name: name.into(), value, invert };
        for (of, line) in [
            (plan::Match::default(), "everything"),
            (
                plan::Match {
                    hosts: vec![Host::Exact("a.example".into()), Host::Wildcard("b".into())],
                    path: Path::Prefix("/orders".into()),
                    methods: vec!["GET".into(), "HEAD".into()],
                    headers: vec![field("x-tenant", FieldValue::Exact("acme".into()), false)],
                    query: vec![field("v", FieldValue::Present, true)],
                },
                "GET,HEAD a.example,*.b /orders/* x-tenant=acme not ?v",
            ),
            (plan::Match { path: Path::Prefix("/".into()), ..plan::Match::default() }, "/*"),
            (plan::Match { path: Path::Exact("/a".into()), ..plan::Match::default() }, "=/a"),
            (plan::Match { path: Path::Regex("/a+".into()), ..plan::Match::default() }, "~/a+"),
        ] {
            assert_eq!(conditions(&of), line);
        }
    }

    #[test]
    fn a_redirect_says_what_changes() {
        let mut redirect = plan::Redirect {
            scheme: None,
            host: None,
            port: None,
            path: Some(PathRewrite::Prefix("/new/".into())),
            status: 308,
            strip_query: false,
        };
        assert_eq!(location(&redirect), "/new/…");
        redirect.scheme = Some("https".into());
        redirect.path = None;
        assert_eq!(location(&redirect), "https://…/…");
    }
}
