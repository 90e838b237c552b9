//! Policies in effect.

use weft_proxy::plan::{
    self, BodyLimit, CriticalityOf, Fallback, FallbackTo, Fault, Mirror, Share,
};
use weft_resilience::{adaptive, bulkhead, hedge, retry, timeout};

use super::{known_service, route};
use crate::config::{
    leaf::{Pairs, Switch},
    merge::Names,
    problem::Problem,
    sections::{
        Policy,
        policy::{self, Condition, Criticality, HedgeDelay},
    },
    setting::Cx,
    source::Place,
    text::{HeaderName, HeaderValue},
};

/// A policy in effect, with what components add to it.
pub(in super::super) fn build(
    section: &Policy,
    bindings: Vec<plan::Binding>,
    names: &Names,
    cx: &mut Cx,
) -> Option<plan::RoutePolicies> {
    times(section, cx);
    let mirror = section.mirror.on().map(|mirror| {
        known_service(&mirror.0.to, names, cx);
        Mirror {
            service: mirror.0.to.value.clone(),
            share: mirror.0.share.0,
            body_bytes_max: mirror.0.body_max.as_usize(),
        }
    });
    let fallback = match section.fallback.on() {
        Some(fallback) => Some(fallback_of(&fallback.0, names, cx)?),
        None => None,
    };
    Some(plan::RoutePolicies {
        timeout: timeout::Options {
            request: section.timeout.request.0,
            per_try: section.timeout.per_try.0,
            connect: section.timeout.connect.0,
            idle: section.timeout.idle.0,
        },
        retry: section.retry.on().map(retry_of),
        hedge: section.hedge.on().map(hedge_of),
        body_bytes_max: BodyLimit(section.body_max.on().map(|size| size.0)),
        criticality: CriticalityOf {
            default: match section.criticality.default {
                Criticality::Critical => adaptive::Criticality::Critical,
                Criticality::Default => adaptive::Criticality::Default,
                Criticality::Sheddable => adaptive::Criticality::Sheddable,
            },
            header: section.criticality.header.as_ref().map(|name| name.0.clone()),
        },
        bulkhead: section.bulkhead.on().map(bulkhead_of),
        request_headers: section.headers.request.0.plan(),
        response_headers: section.headers.response.plan(),
        mirror,
        fault: fault_of(&section.fault, section.place, cx),
        fallback,
        policies: bindings,
    })
}

/// Refuses times that cannot be kept together.
fn times(section: &Policy, cx: &mut Cx) {
    let timeout = &section.timeout;
    if let (Some(request), Some(per_try)) = (timeout.request.0, timeout.per_try.0)
        && per_try > request
    {
        let place = if timeout.per_try.place.is_in_file() {
            timeout.per_try.place
        } else {
            timeout.request.place
        };
        cx.report(
            Problem::error(
                place,
                format!(
                    "one try may take {}, longer than the {} of the whole request",
                    weft_kernel::format_duration(per_try),
                    weft_kernel::format_duration(request)
                ),
            )
            .and(timeout.request.place, "the whole request"),
        );
    }
    let Switch::On(retry) = &section.retry else { return };
    if retry.backoff.base.0 > retry.backoff.max.0 {
        cx.report(Problem::error(
            if retry.backoff.base.place.is_in_file() {
                retry.backoff.base.place
            } else {
                retry.backoff.place
            },
            "the first wait is longer than the longest",
        ));
    }
    if retry.retries.0 > 0 && retry.on.is_empty() && retry.statuses.is_empty() {
        cx.report(
            Problem::error(retry.place, "there is nothing to try again after: `on` is empty")
                .help("write `retry: off` if that is meant"),
        );
    }
    if retry.retries.0 > 0 && retry.replay_max.value.0 == 0 && retry.replay_max.place.is_in_file() {
        cx.report(Problem::warning(
            retry.replay_max.place,
            "no body is kept, so a request that has one is never tried again",
        ));
    }
    if retry.on.contains(&Condition::TryTimeout) && timeout.per_try.0.is_none() {
        cx.report(
            Problem::warning(
                retry.place,
                "a try has no time of its own, so `try-timeout` never comes",
            )
            .help("say `timeout: {per_try: …}`"),
        );
    }
}

fn retry_of(section: &policy::Retry) -> retry::Options {
    retry::Options {
        retries: section.retries.u32(),
        on: section.on.iter().map(|condition| condition_of(*condition)).collect(),
        statuses: section.statuses.iter().map(|status| status.0).collect(),
        backoff: retry::Backoff { base: section.backoff.base.value.0, max: section.backoff.max.0 },
        retry_after_max: section.retry_after_max,
        unsafe_methods: section.unsafe_methods,
        replay_bytes_max: section.replay_max.as_usize(),
    }
}

fn condition_of(condition: Condition) -> retry::Condition {
    match condition {
        Condition::ConnectFailure => retry::Condition::ConnectFailure,
        Condition::RefusedStream => retry::Condition::RefusedStream,
        Condition::Reset => retry::Condition::ResetBeforeHeaders,
        Condition::GatewayError => retry::Condition::GatewayError,
        Condition::ServerError => retry::Condition::ServerError,
        Condition::TryTimeout => retry::Condition::TryTimeout,
        Condition::GrpcUnavailable => retry::Condition::GrpcUnavailable,
        Condition::GrpcCancelled => retry::Condition::GrpcCancelled,
        Condition::GrpcDeadline => retry::Condition::GrpcDeadlineExceeded,
        Condition::GrpcExhausted => retry::Condition::GrpcResourceExhausted,
        Condition::GrpcInternal => retry::Condition::GrpcInternal,
    }
}

fn hedge_of(section: &policy::Hedge) -> hedge::Options {
    hedge::Options {
        delay: match section.delay {
            HedgeDelay::Fixed(delay) => hedge::Delay::Fixed(delay),
            HedgeDelay::Quantile(quantile) => hedge::Delay::Quantile(quantile),
        },
        max: section.max.u32(),
        budget: section.budget.0,
    }
}

pub(super) fn bulkhead_of(section: &policy::Bulkhead) -> bulkhead::Options {
    bulkhead::Options {
        in_flight_max: section.in_flight_max.usize(),
        queue_max: section.queue_max.usize(),
        queue_timeout: section.queue_timeout,
    }
}

fn fault_of(section: &policy::Fault, place: Place, cx: &mut Cx) -> Option<Fault> {
    let mut share = |share: f64, header: &Pairs<HeaderName, HeaderValue>| {
        if header.0.len() > 1 {
            cx.report(Problem::error(place, "a fault looks at one header field"));
        }
        Share {
            share,
            header: header.0.first().map(|(name, value)| (name.0.clone(), value.0.clone())),
        }
    };
    let delay =
        section.delay.as_ref().map(|delay| (delay.span.0, share(delay.share.0, &delay.header)));
    let abort =
        section.abort.as_ref().map(|abort| (abort.status.0, share(abort.share.0, &abort.header)));
    (delay.is_some() || abort.is_some()).then_some(Fault { delay, abort })
}

fn fallback_of(section: &policy::Fallback, names: &Names, cx: &mut Cx) -> Option<Fallback> {
    let to = match (&section.to, &section.respond) {
        (Some(name), None) => {
            known_service(name, names, cx);
            FallbackTo::Service(name.value.clone())
        }
        (None, Some(respond)) => FallbackTo::Respond(route::respond_target(respond, cx)?),
        (None, None) => {
            cx.report(Problem::error(section.place, "a fallback needs `to` or `respond`"));
            return None;
        }
        (Some(_), Some(_)) => {
            cx.report(
                Problem::error(
                    section.place,
                    "`to` and `respond` of a fallback exclude each other",
                )
                .help("keep one of `to` and `respond`"),
            );
            return None;
        }
    };
    let statuses = section.statuses.iter().flat_map(|statuses| statuses.0.clone()).collect();
    Some(Fallback { to, statuses })
}
