//! Telemetry as a component: who is told of requests, and how that gets out.

mod build;
mod collector;
pub mod plan;
pub mod sections;

use std::sync::Arc;

use anyhow::Context as _;
use parking_lot::Mutex;
use weft_api::{Ask, Gives, Permission, Response, Row, get};
use weft_net::Stop;
use weft_proxy::Observers;
use weft_telemetry::{
    access,
    metrics::{CONTENT_TYPE, Registry, Shards},
    otlp, span,
    trace::Sampler,
};

pub use self::collector::Collector;
use crate::{
    cli::verbs::OfTable,
    component::{Component, Host},
    config::{
        catalogue::Sections,
        setting::{Cx, Field},
    },
    node::Node,
};

/// Spans that may wait to be exported.
const SPANS_MAX: usize = 4096;

/// The access log, and spans on their way out.
pub struct Telemetry {
    observers: Observers,
    access: access::Log,
    /// The access log's writer, until the end.
    writer: Mutex<Option<access::Guard>>,
    /// What exports spans, until it runs.
    exporter: Mutex<Option<otlp::Exporter>>,
    metrics: Registry,
}

/// What is offered.
pub(super) static OPERATIONS: &[Row<Registry>] =
    &[get("metrics", "/metrics", "Every metric as OpenMetrics text.", Permission::Read, |ask| {
        Box::pin(scrape(ask))
    })
    .gives(&[Gives::media(200, CONTENT_TYPE)])
    .probe()];

async fn scrape(ask: Ask<'_, Registry>) -> weft_kernel::Result<Response> {
    Ok(Response::of(200, CONTENT_TYPE, ask.state.encode()))
}

impl Telemetry {
    /// Who is told of requests.
    pub fn observers(&self) -> Observers {
        self.observers.clone()
    }

    /// Opens the access log anew, after rotation.
    pub fn reopen(&self) {
        self.access.reopen();
    }
}

impl Component for Telemetry {
    type Plan = plan::Telemetry;
    type Ready = ();
    type Fixed = Option<plan::Telemetry>;
    type Locals = ();
    type Api = Registry;
    type Noun = OfTable<Self>;

    fn sections() -> &'static [Field] {
        sections::ALL
    }

    fn build(said: &mut Sections<'_>, cx: &mut Cx) -> Option<plan::Telemetry> {
        build::build(said, cx)
    }

    async fn open(plan: &plan::Telemetry, host: &Host, (): &()) -> anyhow::Result<Self> {
        let metrics = &host.metrics;
        let shards = Shards::new(host.workers);
        let (access, writer) =
            access::Log::open(plan.access_log.clone(), shards, metrics.access())?;
        let (spans, exporter) = match &plan.otlp {
            None => (None, None),
            Some(otlp) => {
                let (sender, queue) = span::queue(SPANS_MAX, metrics.spans());
                let collector = Collector::new(otlp, Arc::new(host.dns.clone()))
                    .with_context(|| format!("trace exporter {}", otlp.endpoint))?;
                let exporter = otlp::Exporter::new(otlp.clone(), queue, Arc::new(collector))?;
                (Some(sender), Some(exporter))
            }
        };
        let observers = Observers {
            access: Some(access.clone()),
            spans,
            sampler: Sampler::ratio(plan.trace_sample),
        };
        Ok(Self {
            observers,
            access,
            writer: Mutex::new(Some(writer)),
            exporter: Mutex::new(exporter),
            metrics: metrics.clone(),
        })
    }

    fn fixed(plan: Option<&plan::Telemetry>) -> Option<plan::Telemetry> {
        plan.cloned()
    }

    fn awaits_restart(
        fixed: &Option<plan::Telemetry>,
        plan: Option<&plan::Telemetry>,
    ) -> Vec<&'static str> {
        let (Some(old), Some(new)) = (fixed, plan) else { return Vec::new() };
        let tracing = (&old.otlp, old.trace_sample) != (&new.otlp, new.trace_sample);
        [
            ("telemetry.access_log", old.access_log != new.access_log),
            ("telemetry.tracing", tracing),
            ("telemetry.log", old.log != new.log),
        ]
        .into_iter()
        .filter_map(|(setting, changed)| changed.then_some(setting))
        .collect()
    }

    async fn prepare(&self, _plan: Option<&plan::Telemetry>) -> Result<(), Vec<String>> {
        Ok(())
    }

    async fn commit(&self, (): ()) {}

    async fn run(self: Arc<Self>, stop: Stop) {
        let exporter = self.exporter.lock().take();
        if let Some(exporter) = exporter {
            exporter.run(stop.closed()).await;
        }
    }

    fn operations() -> &'static [Row<Registry>] {
        OPERATIONS
    }

    fn api(self: &Arc<Self>, _node: &Arc<Node>) -> Registry {
        self.metrics.clone()
    }

    fn close(&self) {
        let writer = self.writer.lock().take();
        if let Some(writer) = writer {
            writer.close();
        }
    }
}
