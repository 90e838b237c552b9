//! What a node tells about itself: plain data for the admin API, and gauges for each scrape.
//!
//! Everything is a copy of the state at one time. Nothing here is on the request path: it reads the same
//! atomics that requests write, and takes the control side's locks for no longer than a copy needs.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weft_discovery::{Endpoint, endpoint::Verdict};
use weft_identity::certificate::CertInfo;
use weft_kernel::{Name, SystemClock, Tick};
use weft_resilience::{
    breaker::{Breaker, Mode, State as BreakerState},
    ejection::Forced,
};
use weft_telemetry::metrics::{Metric, Registry, Writer};

use super::{Node, age};
use crate::components::List as _;

/// Why the last configuration was refused.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// When.
    pub at: SystemTime,
    /// Why.
    pub reason: String,
}

/// The state of a node.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// The version that runs.
    pub version: String,
    /// When it was started (RFC 3339).
    pub started: String,
    /// How long ago that was.
    pub uptime_seconds: u64,
    /// Whether it takes no more connections, and ends once what is under way is done.
    pub draining: bool,
    /// Counts the configurations that were put in force.
    pub generation: u64,
    /// The configuration.
    pub config: ConfigStatus,
    /// The threads of the request path.
    pub workers: Vec<WorkerStatus>,
    /// Tasks of the request path that have panicked: each is a fault in Weft.
    pub panics: u64,
    /// The listeners, by name.
    pub listeners: Vec<ListenerStatus>,
    /// How many routes there are.
    pub routes: usize,
    /// How many services there are.
    pub services: usize,
    /// The endpoints of all services.
    pub endpoints: EndpointCount,
}

/// The configuration of a node.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ConfigStatus {
    /// The file or folder that it is read from.
    pub path: String,
    /// When the one in force was applied (RFC 3339).
    pub applied_at: String,
    /// How long ago that was.
    pub age_seconds: u64,
    /// How many things about it are suspicious.
    pub warnings: usize,
    /// Settings that have changed since the start and take effect with a restart.
    #[serde(default)]
    pub restart: Vec<String>,
    /// Why a newer one was refused, if it was.
    pub refused: Option<RefusedStatus>,
}

/// A configuration that was refused.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Refused")]
pub struct RefusedStatus {
    /// When (RFC 3339).
    pub at: String,
    /// How long ago that was.
    pub age_seconds: u64,
    /// Why.
    pub reason: String,
}

/// A thread of the request path.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Worker")]
pub struct WorkerStatus {
    /// Client connections open on it.
    pub connections: usize,
}

/// A listener.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Listener")]
pub struct ListenerStatus {
    /// Its name.
    pub name: String,
    /// Where it listens, with the port that port 0 has become.
    pub addresses: Vec<String>,
    /// Connections open.
    pub connections: u64,
    /// The certificates that it presents.
    pub certificates: Vec<CertificateStatus>,
}

/// A certificate that a listener presents.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Certificate")]
pub struct CertificateStatus {
    /// The names that it is for.
    pub names: Vec<String>,
    /// When its time begins (RFC 3339).
    pub not_before: String,
    /// When its time ends (RFC 3339).
    pub not_after: String,
    /// How much of its time is left.
    pub left_seconds: u64,
    /// Who issued it.
    pub issuer: String,
    /// Its serial number in hexadecimal.
    pub serial: String,
    /// The SHA-256 digest of it in hexadecimal.
    pub fingerprint: String,
}

/// How many endpoints there are.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct EndpointCount {
    /// All of them.
    pub total: usize,
    /// Those that take requests.
    pub available: usize,
}

/// Whether an endpoint takes requests, and why not: the word for API and metrics.
pub fn state_of(endpoint: &Endpoint, now: Tick) -> &'static str {
    let forced = || endpoint.ejection().and_then(|ejection| ejection.snapshot(now).forced);
    if endpoint.is_drained() {
        "drained"
    } else if forced() == Some(Forced::Out) {
        "isolated"
    } else if endpoint.verdict() == Verdict::Unhealthy {
        "unhealthy"
    } else if endpoint.is_ejected() {
        "ejected"
    } else {
        AVAILABLE
    }
}

/// The state of an endpoint that takes requests.
pub const AVAILABLE: &str = "available";
/// Every word of [`state_of`].
pub const STATES: [&str; 5] = [AVAILABLE, "unhealthy", "ejected", "isolated", "drained"];

/// A wall-clock time as RFC 3339 has it, in whole seconds.
pub(crate) fn stamp(at: SystemTime) -> String {
    match jiff::Timestamp::try_from(at) {
        Ok(at) => format!("{at:.0}"),
        // A certificate may name any year.
        Err(_beyond) => "9999-12-31T23:59:59Z".into(),
    }
}

impl Node {
    /// Whether it takes no more connections.
    pub fn is_draining(&self) -> bool {
        self.stop.is_draining() || self.stop.is_closed()
    }

    /// The state of the node now.
    pub fn status(&self) -> Status {
        let snapshot = self.current.load_full();
        let (loaded, config) = self.config_status();
        let now = SystemClock::tick();
        let mut endpoints = EndpointCount::default();
        for service in self.services.services() {
            for member in service.set().members() {
                endpoints.total += 1;
                endpoints.available += usize::from(state_of(&member.endpoint, now) == AVAILABLE);
            }
        }
        let mut certificates = self.certificates();
        let mut listeners: Vec<ListenerStatus> = loaded
            .plan
            .sockets
            .iter()
            .map(|socket| {
                let name = &socket.listener;
                let mut addresses: Vec<String> =
                    socket.addresses.iter().map(ToString::to_string).collect();
                if let (Some(first), Some(real)) =
                    (addresses.first_mut(), self.workers.address(name))
                {
                    *first = real.to_string();
                }
                let meter = snapshot.listeners.get(name).map(|listener| &listener.meter);
                ListenerStatus {
                    name: name.to_string(),
                    addresses,
                    connections: meter.map_or(0, |meter| meter.active()),
                    certificates: certificates
                        .remove(name)
                        .unwrap_or_default()
                        .iter()
                        .map(certificate)
                        .collect(),
                }
            })
            .collect();
        listeners.sort_by(|a, b| a.name.cmp(&b.name));
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            started: stamp(self.started),
            uptime_seconds: SystemClock::tick().since(self.started_tick).as_secs(),
            draining: self.is_draining(),
            generation: snapshot.generation,
            config,
            workers: self
                .workers
                .connections()
                .into_iter()
                .map(|connections| WorkerStatus { connections })
                .collect(),
            panics: self.workers.panics(),
            listeners,
            routes: loaded.plan.proxy.routes.len(),
            services: snapshot.services.len(),
            endpoints,
        }
    }

    fn config_status(&self) -> (Arc<crate::config::Loaded>, ConfigStatus) {
        let restart = self.awaits_restart().into_iter().map(ToOwned::to_owned).collect();
        let state = self.state();
        let config = ConfigStatus {
            path: self.options.config.display().to_string(),
            applied_at: stamp(state.applied),
            age_seconds: age(state.applied),
            warnings: state.loaded.warnings.len(),
            restart,
            refused: state.refused.as_ref().map(|refusal| RefusedStatus {
                at: stamp(refusal.at),
                age_seconds: age(refusal.at),
                reason: refusal.reason.clone(),
            }),
        };
        (state.loaded.clone(), config)
    }

    /// The certificates of each listener that has some.
    fn certificates(&self) -> BTreeMap<Name, Vec<CertInfo>> {
        self.state().listeners.certificates().into_iter().collect()
    }
}

fn certificate(info: &CertInfo) -> CertificateStatus {
    CertificateStatus {
        names: info.names.clone(),
        not_before: stamp(info.not_before),
        not_after: stamp(info.not_after),
        left_seconds: info.left(SystemTime::now()).as_secs(),
        issuer: info.issuer.clone(),
        serial: info.serial.clone(),
        fingerprint: info.fingerprint.clone(),
    }
}

/// Lets each scrape ask for the state of endpoints, breakers and certificates.
pub(super) fn publish(node: &Arc<Node>) {
    // The registry of metrics belongs to the node, and must not keep it alive.
    let weak = Arc::downgrade(node);
    node.metrics.source(move |to| {
        if let Some(node) = weak.upgrade() {
            write(&node, to);
            node.components.measure(to);
        }
    });
}

/// Lets each scrape count the tasks of the runtime that this is called in, all that are alive there.
pub(super) fn count_tasks(metrics: &Registry, thread: String) {
    let runtime = tokio::runtime::Handle::current().metrics();
    metrics.source(move |to| {
        to.gauge(Metric::Tasks, &[("thread", &*thread)], runtime.num_alive_tasks() as f64);
    });
}

fn write(node: &Node, to: &mut Writer) {
    let now = SystemClock::tick();
    let snapshot = node.current.load();
    for (name, upstream) in &snapshot.services {
        let labels = [("weft_service", name.as_str())];
        if let Some(breaker) = &upstream.breaker {
            to.gauge(Metric::ServiceBreakerState, &labels, breaker_level(breaker, now));
        }
        if let Some(limiter) = &upstream.adaptive {
            to.gauge(Metric::ServiceConcurrencyLimit, &labels, f64::from(limiter.limit()));
        }
    }
    let mut expiries: BTreeMap<String, SystemTime> = BTreeMap::new();
    for info in node.certificates().into_values().flatten() {
        let name = info.names.into_iter().next().unwrap_or(info.fingerprint);
        let expiry = expiries.entry(name).or_insert(info.not_after);
        *expiry = (*expiry).min(info.not_after);
    }
    for (name, expiry) in &expiries {
        let seconds = expiry.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let labels = [("certificate", name.as_str())];
        to.gauge(Metric::CertificateExpiry, &labels, seconds.as_secs_f64());
    }
}

/// The number of a breaker's state, as [`Metric::ServiceBreakerState`] says.
fn breaker_level(breaker: &Breaker, now: Tick) -> f64 {
    match (breaker.mode(), breaker.state(now)) {
        (Mode::Isolated, _) => 3.0,
        (_, BreakerState::Closed) => 0.0,
        (_, BreakerState::HalfOpen) => 1.0,
        (_, BreakerState::Open) => 2.0,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_time_is_told_to_the_second() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_763_706_354_900);
        assert_eq!(stamp(at), "2025-11-21T06:25:54Z");
        let far = SystemTime::UNIX_EPOCH + Duration::from_secs(400_000_000_000);
        assert_eq!(stamp(far), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn the_level_of_a_breaker_follows_its_mode_and_state() {
        let now = Tick::from_nanos(3_600_000_000_000);
        let breaker = Breaker::new(weft_resilience::breaker::Options::default(), now);
        assert_eq!(breaker_level(&breaker, now), 0.0);
        breaker.isolate(now);
        assert_eq!(breaker_level(&breaker, now), 3.0);
    }
}
