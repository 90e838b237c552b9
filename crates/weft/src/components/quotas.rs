//! Quotas as a component: how much a key may have in a day, week or month, kept in the node's store.

pub mod api;
mod build;
mod events;
pub mod plan;
pub mod sections;
pub mod view;

use std::{process::ExitCode, sync::Arc};

use weft_api::Row;
use weft_gateway::{
    QUOTAS, Quotas as Named,
    quota::{Books, Recalled, Warning},
};
use weft_kernel::Result;
use weft_net::Stop;
use weft_proxy::Handlers;
use weft_telemetry::metrics::{Def, Kind, Writer};

use self::events::Events;
use crate::{
    cli,
    component::{Component, Host, Noun},
    config::{
        catalogue::{Checked, PolicyKey, Sections},
        problem::Problem,
        setting::{Cx, Field},
    },
    node::Node,
};

/// The quotas of a node.
pub struct Quotas {
    books: Books,
    events: Events,
    /// Whether the node itself has stopped, and nobody may use anything any more.
    node: Stop,
}

static METRICS: [Def; 4] = [
    Def {
        name: "weft_quota_units_total",
        kind: Kind::Counter,
        unit: "",
        labels: &["quota"],
        help: "Units of a quota that were granted.",
    },
    Def {
        name: "weft_quota_refusals_total",
        kind: Kind::Counter,
        unit: "",
        labels: &["quota"],
        help: "Requests that a quota had not enough left for, also in shadow mode.",
    },
    Def {
        name: "weft_quota_warnings_total",
        kind: Kind::Counter,
        unit: "",
        labels: &["quota", "threshold"],
        help: "Keys of a quota that reached a threshold, in percent of what they may have.",
    },
    Def {
        name: "weft_quota_keys",
        kind: Kind::Gauge,
        unit: "",
        labels: &["quota"],
        help: "Keys of a quota that have used something in the period.",
    },
];

impl Component for Quotas {
    type Plan = plan::Quotas;
    type Ready = Recalled;
    type Fixed = ();
    type Locals = Books;
    type Api = Books;
    type Noun = Nouns;

    /// Its accounts stand in the store, which is opened late.
    const EXCLUSIVE: bool = true;

    fn sections() -> &'static [Field] {
        sections::ALL
    }

    fn policies() -> &'static [PolicyKey] {
        &sections::POLICIES
    }

    fn build(said: &mut Sections<'_>, cx: &mut Cx) -> Option<plan::Quotas> {
        build::build(said, cx)
    }

    fn check(whole: &Checked<'_>, cx: &mut Cx) {
        let quotas = whole.names(&sections::QUOTAS_SECTION);
        for (route, place) in whole.routes() {
            let bindings = route.policy.policies.iter().filter(|of| of.handler == QUOTAS);
            for Named(names) in bindings.filter_map(|of| of.settings::<Named>().ok()) {
                for name in names.iter().filter(|name| !quotas.contains(name.as_str())) {
                    let say = format!(
                        "route `{}` is held to quota `{name}`, which is not there",
                        route.name
                    );
                    let there: Vec<&str> = quotas.iter().map(|(name, _)| name).collect();
                    cx.report(Problem::error(place, say).near(name.as_str(), there));
                }
            }
        }
    }

    async fn open(_plan: &plan::Quotas, host: &Host, locals: &Books) -> anyhow::Result<Self> {
        let books = locals.clone();
        books.open(host.store("quotas")?).await.map_err(super::storage::described)?;
        let events = Events::new(Arc::clone(&host.engines));
        Ok(Self { books, events, node: host.stop.clone() })
    }

    fn register(locals: &Books, handlers: Handlers) -> Handlers {
        handlers.with_policy(QUOTAS, locals.clone())
    }

    fn fixed(_plan: Option<&plan::Quotas>) {}

    fn awaits_restart((): &(), _plan: Option<&plan::Quotas>) -> Vec<&'static str> {
        Vec::new()
    }

    async fn prepare(&self, plan: Option<&plan::Quotas>) -> Result<Recalled, Vec<String>> {
        let quotas = plan.map_or(&[][..], |plan| &plan.quotas);
        self.books.recall(quotas).await.map_err(|error| vec![format!("quotas: {}", error.detail())])
    }

    async fn commit(&self, recalled: Recalled) {
        self.books.put_in_force(recalled);
    }

    /// Puts down what may be used, and tells who has used most of it.
    async fn run(self: Arc<Self>, stop: Stop) {
        tokio::select! {
            () = self.books.run() => {}
            () = self.books.tell(tell, &self.events) => {}
            () = stop.closed() => {}
        }
        // A successor that takes over while requests are under way here finds what they may use as used.
        if self.node.is_draining() || self.node.is_closed() {
            self.books.settle().await;
        }
    }

    fn metrics() -> &'static [Def] {
        &METRICS
    }

    fn measure(&self, to: &mut Writer) {
        for book in self.books.all() {
            let quota = book.name().as_str();
            let (granted, refused) = book.counts();
            to.counter(&METRICS[0], &[("quota", quota)], granted);
            to.counter(&METRICS[1], &[("quota", quota)], refused);
            for (percent, count) in book.warned() {
                let threshold = percent.to_string();
                to.counter(&METRICS[2], &[("quota", quota), ("threshold", &threshold)], count);
            }
            to.gauge(&METRICS[3], &[("quota", quota)], book.keys() as f64);
        }
    }

    fn operations() -> &'static [Row<Books>] {
        api::OPERATIONS
    }

    fn api(self: &Arc<Self>, _node: &Arc<Node>) -> Books {
        self.books.clone()
    }
}

/// Tells that a key has reached a threshold.
fn tell(warning: &Warning) {
    let Warning { quota, key, percent, used, allowed, period } = warning;
    let until = view::time(period.end);
    tracing::warn!(%quota, %key, percent, used, allowed, %until, "quota reached a threshold");
}

/// Its nouns.
#[derive(Debug, clap::Subcommand)]
pub enum Nouns {
    /// Quotas: how much clients may have in a day, week or month.
    Quota(cli::quota::Quota),
}

impl Noun for Nouns {
    fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Quota(quota) => quota.run(),
        }
    }
}
