//! Projections as a component: documents that are folded from the events of streams, in their namespace of the store.

pub mod policies;
pub mod sections;

use std::{collections::BTreeMap, process::ExitCode, sync::Arc, time::SystemTime};

use anyhow::Context as _;
use parking_lot::Mutex;
use weft_api::Row;
use weft_broker_http::{
    CONSISTENCY, Consistency, ConsistencyPolicies, PROJECTION_OPERATIONS, PROJECTIONS, Projected,
    ProjectionTargets,
};
use weft_events::projection::{self, Definition, Runner};
use weft_kernel::{ByteSize, Result};
use weft_net::Stop;
use weft_proxy::Handlers;
use weft_telemetry::metrics::{Def, Kind, Writer};

use super::{below, storage::described};
use crate::{
    cli,
    component::{Component, Host, Noun},
    config::{
        catalogue::{Checked, KeyOf, PolicyKey, Sections, TargetKey},
        problem::Problem,
        setting::{At, Cx, Field},
        source::Place,
        text::PlainPath,
    },
};

/// The largest of what is kept at once.
const DOCUMENT_MAX: ByteSize = ByteSize(1 << 20);

static TARGETS: [TargetKey; 1] = [TargetKey {
    field: KeyOf::<Option<PlainPath>>::new(
        "projections",
        "Path below which the documents of projections are served, as `/v1/projections/…`.",
    )
    .field(),
    build: |_, node, cx| below::target(PROJECTIONS, node, cx),
}];

/// The projections of a node.
pub struct Projections {
    operated: Projected,
    /// What runs them, until they run.
    runners: Mutex<Vec<Runner>>,
}

const fn of_each(name: &'static str, kind: Kind, unit: &'static str, help: &'static str) -> Def {
    Def { name, kind, unit, labels: &["projection"], help }
}

static METRICS: [Def; 5] = [
    of_each(
        "weft_projection_lag_events",
        Kind::Gauge,
        "",
        "Positions of the log that a projection has not looked at.",
    ),
    of_each(
        "weft_projection_lag_seconds",
        Kind::Gauge,
        "seconds",
        "Age of the event that a projection has applied last, while it is behind; 0 otherwise.",
    ),
    of_each(
        "weft_projection_applied_total",
        Kind::Counter,
        "",
        "How often an event was applied to a document of a projection.",
    ),
    of_each(
        "weft_projection_parked",
        Kind::Gauge,
        "",
        "Documents and events of a projection that wait, as an event could not be applied.",
    ),
    of_each(
        "weft_projection_rebuilt_ratio",
        Kind::Gauge,
        "",
        "How far the build has got that is to take the place of what answers, from 0 to 1; 1 if there is none.",
    ),
];

/// What of projections routes can name.
#[derive(Default)]
pub struct Locals {
    api: ProjectionTargets,
    consistency: ConsistencyPolicies,
}

/// The definitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared(BTreeMap<String, Definition>);

impl Component for Projections {
    type Plan = Declared;
    type Ready = ();
    type Fixed = Option<Declared>;
    type Locals = Locals;
    type Api = Projected;
    type Noun = Nouns;

    /// They stand in the store.
    const EXCLUSIVE: bool = true;
    const ABSENT: &'static str =
        "this node has no projections: its configuration has no `projections`";

    fn sections() -> &'static [Field] {
        sections::ALL
    }

    fn targets() -> &'static [TargetKey] {
        &TARGETS
    }

    fn policies() -> &'static [PolicyKey] {
        &policies::ALL
    }

    fn build(said: &mut Sections<'_>, cx: &mut Cx) -> Option<Declared> {
        let declared = sections::build(said, cx);
        let place = said.place(&sections::PROJECTIONS_SECTION);
        if place.is_none() && !is_on_a_route(said) {
            return None;
        }
        said.keep(At { value: DOCUMENT_MAX, place: place.unwrap_or(Place::BUILT_IN) });
        Some(Declared(declared))
    }

    fn check(whole: &Checked<'_>, cx: &mut Cx) {
        let declared = whole.names(&sections::PROJECTIONS_SECTION);
        for (route, place) in whole.routes() {
            let bindings = route.policy.policies.iter().filter(|of| of.handler == CONSISTENCY);
            for Consistency { projections, .. } in bindings.filter_map(|of| of.settings().ok()) {
                for name in projections.iter().filter(|name| !declared.contains(name.as_str())) {
                    let say = format!(
                        "route `{}` waits for projection `{name}`, which is not there",
                        route.name
                    );
                    let there: Vec<&str> = declared.iter().map(|(name, _)| name).collect();
                    cx.report(Problem::error(place, say).near(name.as_str(), there));
                }
            }
        }
    }

    async fn open(plan: &Declared, host: &Host, locals: &Locals) -> anyhow::Result<Self> {
        let events = host.events.get().context("the node keeps no streams")?;
        let opened = projection::Projections::open(events, plan.0.clone()).await;
        let (projections, runners) = opened.map_err(described).context("projections")?;
        let (events, stop) = (events.clone(), host.stop.clone());
        let operated = Projected { events, projections, stop };
        locals.api.open(operated.clone());
        locals.consistency.open(operated.clone());
        Ok(Self { operated, runners: Mutex::new(runners) })
    }

    fn register(locals: &Locals, handlers: Handlers) -> Handlers {
        locals.consistency.register(locals.api.register(handlers))
    }

    fn fixed(plan: Option<&Declared>) -> Option<Declared> {
        plan.cloned()
    }

    fn awaits_restart(fixed: &Option<Declared>, plan: Option<&Declared>) -> Vec<&'static str> {
        if fixed.as_ref() == plan { Vec::new() } else { vec!["projections"] }
    }

    async fn prepare(&self, _plan: Option<&Declared>) -> Result<(), Vec<String>> {
        Ok(())
    }

    async fn commit(&self, (): ()) {}

    /// Each goes on as events come; what was begun when the node stops is done again at the next start.
    async fn run(self: Arc<Self>, stop: Stop) {
        let runners = std::mem::take(&mut *self.runners.lock());
        let running = futures_util::future::join_all(runners.into_iter().map(Runner::run));
        drop(self);
        tokio::select! {
            () = stop.closed() => {}
            () = async { running.await; std::future::pending().await } => {}
        }
    }

    fn metrics() -> &'static [Def] {
        &METRICS
    }

    fn measure(&self, to: &mut Writer) {
        let now = SystemTime::now();
        for projection in self.operated.projections.all() {
            let (status, lag) = (projection.status(), projection.lag());
            let labels = [("projection", projection.name())];
            let end = (status.position + lag).max(1) as f64;
            to.gauge(&METRICS[0], &labels, lag as f64);
            to.gauge(&METRICS[1], &labels, projection.lag_seconds(now));
            to.counter(&METRICS[2], &labels, status.applied);
            to.gauge(&METRICS[3], &labels, status.parked as f64);
            let rebuilt = status.building.map_or(1.0, |position| (position as f64 / end).min(1.0));
            to.gauge(&METRICS[4], &labels, rebuilt);
        }
    }

    fn operations() -> &'static [Row<Projected>] {
        PROJECTION_OPERATIONS
    }

    fn api(self: &Arc<Self>, _node: &Arc<crate::node::Node>) -> Projected {
        self.operated.clone()
    }
}

/// Whether a route offers projections, or has something to do with consistency tokens.
pub(super) fn is_on_a_route(said: &Sections<'_>) -> bool {
    let is_consistent = |route: &weft_proxy::plan::Route| {
        route.policy.policies.iter().any(|policy| policy.handler == CONSISTENCY)
    };
    below::is_offered(said, &[PROJECTIONS])
        || said.proxy.routes.iter().any(|route| is_consistent(route))
}

/// Its nouns.
#[derive(Debug, clap::Subcommand)]
pub enum Nouns {
    /// The noun of projections.
    #[command(about = weft_broker_http::PROJECTION.title())]
    Projection(cli::projection::Projection),
}

impl Noun for Nouns {
    fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Projection(projection) => projection.run(),
        }
    }
}
