//! Outboxes as a component: databases that are read and published to topics, with their positions in the store.

pub mod api;
mod build;
pub mod plan;
pub mod sections;
pub mod view;

use std::{process::ExitCode, sync::Arc};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::sync::Notify;
use weft_api::Row;
use weft_broker::Broker;
use weft_discovery::resolve::Hickory;
use weft_kernel::{Error, Reason, Result};
use weft_ledger::{MapId, options::MapOptions};
use weft_net::Stop;
use weft_outbox::{Outbox, state::State};
use weft_telemetry::metrics::{Def, Kind, Writer};

use super::{storage::described, trust::trust};
use crate::{
    cli,
    component::{Component, Host, Noun},
    config::{
        catalogue::Sections,
        setting::{Cx, Field},
    },
    node::Node,
};

const fn gauge(name: &'static str, unit: &'static str, help: &'static str) -> Def {
    Def { name, kind: Kind::Gauge, unit, labels: &["outbox"], help }
}

const fn counter(name: &'static str, help: &'static str) -> Def {
    Def { name, kind: Kind::Counter, unit: "", labels: &["outbox"], help }
}

static METRICS: [Def; 7] = [
    counter("weft_outbox_events_total", "Events of an outbox that were published."),
    counter(
        "weft_outbox_refused_total",
        "Events of an outbox that went to the queue for what topics refuse.",
    ),
    gauge("weft_outbox_up", "", "Whether an outbox reads: 1 or 0."),
    Def {
        name: "weft_outbox_stopped",
        kind: Kind::Gauge,
        unit: "",
        labels: &["outbox", "fault"],
        help: "Whether an outbox stands still until a person has looked at it: 1, by what is wrong.",
    },
    gauge(
        "weft_outbox_lag_seconds",
        "seconds",
        "For how long something may have waited in an outbox to be published; 0 once all is.",
    ),
    gauge(
        "weft_outbox_lag_bytes",
        "bytes",
        "Bytes of a server's log that have not come to its outbox yet.",
    ),
    gauge(
        "weft_outbox_kept_bytes",
        "bytes",
        "Bytes of its log that a server keeps for the slot of an outbox.",
    ),
];

/// The outboxes of a node.
pub struct Outboxes {
    running: Arc<Running>,
    broker: Broker,
    map: MapId,
    dns: Hickory,
}

/// The outboxes that run.
#[derive(Default)]
pub struct Running {
    made: ArcSwap<Made>,
    changed: Notify,
}

/// Outboxes, each with what it was made of.
type Made = Vec<(plan::Outbox, Arc<Outbox>)>;

impl Running {
    fn all(&self) -> Vec<Arc<Outbox>> {
        self.made.load().iter().map(|(_, outbox)| Arc::clone(outbox)).collect()
    }

    /// Has these run, and no others.
    fn commit(&self, made: Made) {
        let former = self.made.swap(Arc::new(made));
        let now = self.made.load();
        for (plan, outbox) in former.iter().filter(|(_, outbox)| !has(&now, outbox)) {
            outbox.close();
            let slot = &plan.options.slot;
            if !now.iter().any(|(plan, _)| plan.options.slot == *slot) {
                let name = &plan.options.name;
                tracing::warn!(outbox = %name, %slot, "the outbox is gone, and the server keeps its log for its slot: drop that");
            }
        }
        self.changed.notify_one();
    }

    /// Runs all of them, for as long as it is polled.
    async fn run(&self) {
        let (mut running, mut known) = (FuturesUnordered::new(), Arc::new(Made::new()));
        loop {
            let now = self.made.load_full();
            for (_, outbox) in now.iter().filter(|(_, outbox)| !has(&known, outbox)) {
                let outbox = Arc::clone(outbox);
                running.push(async move { outbox.run().await });
            }
            known = now;
            tokio::select! {
                () = self.changed.notified() => {}
                Some(()) = running.next() => {}
            }
        }
    }
}

fn has(made: &Made, outbox: &Arc<Outbox>) -> bool {
    made.iter().any(|(_, other)| Arc::ptr_eq(other, outbox))
}

impl Outboxes {
    fn make(&self, plan: &plan::Outbox) -> anyhow::Result<Arc<Outbox>> {
        let options = plan.options.clone();
        let tls = match options.database.tls {
            false => None,
            true => {
                let (identity, tls) = trust(plan.ca_file.clone())?;
                let name = options.name.clone();
                let shown: weft_net::client::Tls = Box::new(move || {
                    if let Err(faults) = identity.reload() {
                        tracing::warn!(outbox = %name, "the authority in use stays: {faults}");
                    }
                    tls()
                });
                Some(shown)
            }
        };
        let dns = Arc::new(self.dns.clone());
        Ok(Arc::new(Outbox::new(options, self.broker.clone(), self.map, dns, tls)))
    }
}

impl Component for Outboxes {
    type Plan = plan::Outboxes;
    type Ready = Made;
    type Fixed = ();
    type Locals = ();
    type Api = Arc<Running>;
    type Noun = Nouns;

    /// Their positions stand in the store.
    const EXCLUSIVE: bool = true;
    const ABSENT: &'static str = "this node has no outboxes: its configuration has no `outboxes`";

    fn sections() -> &'static [Field] {
        sections::ALL
    }

    fn build(said: &mut Sections<'_>, cx: &mut Cx) -> Option<plan::Outboxes> {
        build::build(said, cx)
    }

    async fn open(_plan: &plan::Outboxes, host: &Host, _locals: &()) -> anyhow::Result<Self> {
        let store = host.store("outboxes")?;
        let map = store.create_map("positions", MapOptions::default()).await;
        let map = map.map_err(described).context("outboxes")?;
        let engines = host.engines.get().context("the node keeps no topics")?;
        let broker = engines.embedded().clone();
        Ok(Self { running: Arc::default(), broker, map, dns: host.dns.clone() })
    }

    fn fixed(_plan: Option<&plan::Outboxes>) {}

    fn awaits_restart((): &(), _plan: Option<&plan::Outboxes>) -> Vec<&'static str> {
        Vec::new()
    }

    /// One that is there already stays, and with it its connection.
    async fn prepare(&self, plan: Option<&plan::Outboxes>) -> Result<Made, Vec<String>> {
        let (now, mut made, mut wrong) = (self.running.made.load(), Made::new(), Vec::new());
        for plan in plan.map_or(&[][..], |plan| &plan.outboxes) {
            let there = now.iter().find(|(there, _)| there == plan);
            let outbox = there.map(|(_, outbox)| Ok(Arc::clone(outbox)));
            match outbox.unwrap_or_else(|| self.make(plan)) {
                Ok(outbox) => made.push((plan.clone(), outbox)),
                Err(error) => wrong.push(format!("outbox {}: {error:#}", plan.options.name)),
            }
        }
        if wrong.is_empty() { Ok(made) } else { Err(wrong) }
    }

    async fn commit(&self, made: Made) {
        self.running.commit(made);
    }

    async fn run(self: Arc<Self>, stop: Stop) {
        tokio::select! {
            () = self.running.run() => {}
            () = stop.closed() => {}
        }
    }

    fn health(&self) -> Result<()> {
        let made = self.running.made.load();
        let stopped = made
            .iter()
            .find(|(plan, outbox)| plan.required && matches!(outbox.state(), State::Stopped(_)));
        match stopped {
            Some((plan, _)) => Err(Error::new(
                Reason::OutboxStopped,
                format!("outbox {} stands still", plan.options.name),
            )),
            None => Ok(()),
        }
    }

    fn metrics() -> &'static [Def] {
        &METRICS
    }

    fn measure(&self, to: &mut Writer) {
        for outbox in self.running.all() {
            let labels = [("outbox", outbox.options().name.as_str())];
            let (counts, state) = (outbox.counts(), outbox.state());
            to.counter(&METRICS[0], &labels, counts.published);
            to.counter(&METRICS[1], &labels, counts.refused);
            to.gauge(&METRICS[2], &labels, f64::from(u8::from(state == State::Reading)));
            if let State::Stopped(fault) = state {
                to.gauge(&METRICS[3], &[labels[0], ("fault", fault.word())], 1.0);
            }
            let (lag, kept) = outbox.lag_bytes();
            to.gauge(&METRICS[4], &labels, outbox.lag().as_secs_f64());
            to.gauge(&METRICS[5], &labels, lag as f64);
            to.gauge(&METRICS[6], &labels, kept as f64);
        }
    }

    fn operations() -> &'static [Row<Arc<Running>>] {
        api::OPERATIONS
    }

    fn api(self: &Arc<Self>, _node: &Arc<Node>) -> Arc<Running> {
        Arc::clone(&self.running)
    }

    /// A successor reads the slots, which have one reader each.
    fn close(&self) {
        self.running.all().iter().for_each(|outbox| outbox.close());
    }
}

/// Its nouns.
#[derive(Debug, clap::Subcommand)]
pub enum Nouns {
    /// The noun of outboxes.
    #[command(about = api::OUTBOX.title())]
    Outbox(cli::outbox::OutboxNoun),
}

impl Noun for Nouns {
    fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Outbox(outbox) => outbox.run(),
        }
    }
}
