//! An endpoint: its load, its last check and its breaker.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weft_discovery::services::{CheckStatus, EndpointStatus};
use weft_kernel::Tick;
use weft_resilience::ejection::{self, Availability, Forced};

use super::{millis, seconds};

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Endpoint")]
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
    /// What its source says of it beside.
    pub metadata: BTreeMap<String, String>,
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Check")]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Ejection")]
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

impl EndpointView {
    pub(super) fn of(
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
            metadata: (*of.metadata).clone(),
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
