//! What an instance can be made to suffer while it runs, and the gate that every request passes.
//!
//! `hang` also silences `/health`, as a process that is stuck would; latency and failures do not, so
//! that finding a half-broken instance is left to whoever watches its answers. `/knobs` always answers.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Json,
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue, StatusCode, header::CONTENT_TYPE};
use serde::{Deserialize, Serialize};
use weft_kernel::Rng;

use crate::{failure::Failure, trace::Trace};

/// Names the instance that answered, so that a caller sees how requests are spread.
const INSTANCE: HeaderName = HeaderName::from_static("x-shop-instance");
const LATENCY_MS_MAX: f64 = 600_000.0;

/// How the instance treats requests now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Setting {
    pub(crate) latency_ms: f64,
    pub(crate) jitter_ms: f64,
    pub(crate) fail_ratio: f64,
    pub(crate) hang: bool,
}

/// A change of some settings; what is absent stays.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Change {
    latency_ms: Option<f64>,
    jitter_ms: Option<f64>,
    fail_ratio: Option<f64>,
    hang: Option<bool>,
}

impl Setting {
    /// The setting after a change, or what is wrong with it.
    fn changed(self, change: Change) -> Result<Self, Failure> {
        Self {
            latency_ms: change.latency_ms.unwrap_or(self.latency_ms),
            jitter_ms: change.jitter_ms.unwrap_or(self.jitter_ms),
            fail_ratio: change.fail_ratio.unwrap_or(self.fail_ratio),
            hang: change.hang.unwrap_or(self.hang),
        }
        .checked()
    }

    /// The setting itself if it can be meant.
    pub(crate) fn checked(self) -> Result<Self, Failure> {
        let bad = |detail: String| Err(Failure::new(StatusCode::BAD_REQUEST, detail));
        for (name, ms) in [("latency_ms", self.latency_ms), ("jitter_ms", self.jitter_ms)] {
            if !(0.0..=LATENCY_MS_MAX).contains(&ms) {
                return bad(format!("{name} is {ms}: it must be from 0 to {LATENCY_MS_MAX}"));
            }
        }
        if !(0.0..=1.0).contains(&self.fail_ratio) {
            return bad(format!("fail_ratio is {}: it must be from 0 to 1", self.fail_ratio));
        }
        Ok(self)
    }
}

/// One running instance: its name, its knobs, whether it logs.
#[derive(Debug)]
pub(crate) struct Instance {
    name: String,
    header: HeaderValue,
    verbose: bool,
    state: Mutex<(Setting, Rng)>,
    /// Requests that came through the gate, but for probes and knobs.
    requests: AtomicU64,
}

/// What `/knobs` tells.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Report {
    #[serde(flatten)]
    setting: Setting,
    requests: u64,
}

impl Instance {
    pub(crate) fn new(name: String, setting: Setting, verbose: bool) -> anyhow::Result<Self> {
        let header = HeaderValue::from_str(&name)?;
        let state = Mutex::new((setting, Rng::from_entropy()));
        Ok(Self { name, header, verbose, state, requests: AtomicU64::new(0) })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn report(&self, setting: Setting) -> Json<Report> {
        Json(Report { setting, requests: self.requests.load(Ordering::Relaxed) })
    }

    /// What happens to the next request: a delay, whether it fails, whether it hangs.
    fn roll(&self) -> (Duration, bool, bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (setting, rng) = &mut *state;
        let jitter = rng.up_to(Duration::from_secs_f64(setting.jitter_ms / 1e3));
        let delay = Duration::from_secs_f64(setting.latency_ms / 1e3) + jitter;
        (delay, rng.chance(setting.fail_ratio), setting.hang)
    }
}

/// `GET /knobs`
pub(crate) async fn show(State(me): State<Arc<Instance>>) -> Json<Report> {
    me.report(me.state.lock().unwrap_or_else(PoisonError::into_inner).0)
}

/// `PUT /knobs`
pub(crate) async fn turn(
    State(me): State<Arc<Instance>>,
    Json(change): Json<Change>,
) -> Result<Json<Report>, Failure> {
    let mut state = me.state.lock().unwrap_or_else(PoisonError::into_inner);
    state.0 = state.0.changed(change)?;
    Ok(me.report(state.0))
}

/// What every request passes: the knobs, the trace context, the instance's name, the log.
pub(crate) async fn gate(
    State(me): State<Arc<Instance>>,
    mut request: Request,
    next: Next,
) -> Response {
    let began = Instant::now();
    let path = request.uri().path().to_owned();
    let method = request.method().clone();
    let grpc = is_grpc(&request);
    let trace = Trace::of(request.headers());
    request.extensions_mut().insert(trace.clone());
    let mut response = if path == "/knobs" {
        next.run(request).await
    } else {
        let probe = path == "/health" || path.starts_with("/grpc.health.v1.Health/");
        if !probe {
            me.requests.fetch_add(1, Ordering::Relaxed);
        }
        let (delay, fails, hangs) = me.roll();
        if hangs {
            std::future::pending::<()>().await;
        }
        if !probe && !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        match (!probe && fails, grpc) {
            (false, _) => next.run(request).await,
            (true, true) => tonic::Status::unavailable("the failure knob is turned up").into_http(),
            (true, false) => {
                Failure::new(StatusCode::SERVICE_UNAVAILABLE, "the failure knob is turned up")
                    .into_response()
            }
        }
    };
    response.headers_mut().insert(INSTANCE, me.header.clone());
    if me.verbose {
        let (status, ms) = (response.status().as_u16(), began.elapsed().as_secs_f64() * 1e3);
        println!("{} {method} {path} {status} {ms:.1}ms trace={}", me.name, trace.id());
    }
    response
}

/// Whether a request speaks gRPC.
pub(crate) fn is_grpc(request: &Request) -> bool {
    let kind = request.headers().get(CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_keep_what_they_do_not_name_and_refuse_nonsense() {
        let before = Setting { latency_ms: 5.0, ..Setting::default() };
        let hang = Change { hang: Some(true), ..Change::default() };
        assert_eq!(before.changed(hang), Ok(Setting { hang: true, ..before }));
        for change in [
            Change { fail_ratio: Some(1.5), ..Change::default() },
            Change { latency_ms: Some(-1.0), ..Change::default() },
            Change { jitter_ms: Some(f64::NAN), ..Change::default() },
        ] {
            let failure = before.changed(change).unwrap_err();
            assert_eq!(failure.status, StatusCode::BAD_REQUEST, "{change:?}");
        }
    }
}
