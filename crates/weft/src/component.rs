//! A component: one capability of the node, from its part of the configuration to its end.
//!
//! A component is opened once, by what a [`Host`] lends to it, with the first configuration that asks for it.
//! After that every configuration goes the same way for all of them: each prepares, which checks everything
//! against the state that it has and changes nothing; if nobody has anything against it, each stages what it
//! keeps, the node commits that as one transaction of the store, and then all of them commit, which nothing
//! can refuse any more. While the node runs, a component has a part on each worker and a task of its own, and
//! says how it is; at the end it stops, and closes what it keeps.
//!
//! [`Slot`] is what the node holds: a component, or the place of one that the configuration does not ask
//! for. [`Member`] is its side that knows no types, for what is done to all of them alike.

mod slot;

use std::{
    pin::Pin,
    process::ExitCode,
    rc::Rc,
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::Context as _;
use clap::Subcommand;
use weft_api::Row;
use weft_broker::engine::Engines;
use weft_discovery::resolve::Hickory;
use weft_events::{EventCheck, EventStore};
use weft_gateway::kept::Kept;
use weft_kernel::Result;
use weft_ledger::{Ledger, Store, Transaction};
use weft_net::Stop;
use weft_proxy::{Handlers, InternalClient, Local};
use weft_telemetry::metrics::{self, Def, Writer};

pub use self::slot::{Member, Slot};
use crate::{
    config::{
        Plan,
        catalogue::{AnyPart, Checked, Contribution, PolicyKey, Sections, TargetKey},
        setting::{Cx, Field},
    },
    node::Node,
};

/// A future that goes to whatever thread polls it.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a node lends to a component that it opens.
pub struct Host {
    /// How many workers there will be.
    pub workers: usize,
    /// The metrics of the node.
    pub metrics: metrics::Registry,
    /// Drains and closes with the node.
    pub stop: Stop,
    /// Sends requests along internal routes, from any task.
    pub internal: InternalClient,
    /// The DNS client of the node.
    pub dns: Hickory,
    /// Consumers that the node keeps, which authentication asks beside those of the configuration.
    pub kept: Arc<Kept>,
    /// Timeout for acquiring what a former process may be about to let go of; zero once the node is up.
    pub takeover_timeout: Duration,
    /// Store of the node, from when [`Storage`](crate::components::Storage) has opened it.
    pub ledger: OnceLock<Ledger>,
    /// Engines of messages, from when [`Messages`](crate::components::Messages) has opened them.
    pub engines: Arc<OnceLock<Engines>>,
    /// Streams of events, from when [`Streams`](crate::components::Streams) has opened them.
    pub events: OnceLock<EventStore>,
    /// What holds events to schemas, from when [`Schemas`](crate::components::Schemas) is open.
    pub event_check: OnceLock<Arc<dyn EventCheck>>,
}

impl Host {
    /// Namespace of the node's store for the component of a name, with maps, logs, groups and timers of its
    /// own.
    ///
    /// # Errors
    /// That the configuration asks for no store, or that the name cannot be that of a namespace.
    pub fn store(&self, component: &str) -> anyhow::Result<Arc<dyn Store>> {
        Ok(Arc::new(self.root()?.namespace(component)?))
    }

    /// Root of the node's store, whose names are the broker's.
    ///
    /// # Errors
    /// That the configuration asks for no store.
    pub fn root(&self) -> anyhow::Result<&Ledger> {
        self.ledger.get().context("the configuration asks for no store")
    }
}

#[cfg(test)]
impl Host {
    /// What a node lends that has done nothing yet.
    pub(crate) fn idle() -> anyhow::Result<Self> {
        Ok(Self {
            workers: 1,
            metrics: metrics::Registry::new(metrics::Shards::new(1), "test"),
            stop: Stop::new(),
            internal: InternalClient::new(weft_proxy::internal::Options::default()),
            dns: Hickory::system()?,
            kept: Arc::default(),
            takeover_timeout: Duration::ZERO,
            ledger: OnceLock::new(),
            engines: Arc::default(),
            events: OnceLock::new(),
            event_check: OnceLock::new(),
        })
    }
}

/// One capability of the node.
///
/// What has a body here is what a component need not have.
pub trait Component: Send + Sync + Sized + 'static {
    /// Its part of a checked configuration.
    type Plan: AnyPart;
    /// What was checked against the state, and can be put in force.
    type Ready: Send;
    /// What only a start puts in force, as it was at the start.
    type Fixed: Send + Sync;
    /// What of it routes and listeners can name. It is there before the component, so that a configuration
    /// can be refused without anything having been opened.
    type Locals: Default + Send + Sync;
    /// What its operations operate.
    type Api: Send + Sync + 'static;
    /// Its nouns on the command line.
    type Noun: Noun;

    /// Whether it needs something that one process alone can have. A former process is then asked to let
    /// go before it is opened; others are opened before. What keeps something in the store (`Host::store`)
    /// needs it, and stands above the store in the list: it must be opened after it.
    const EXCLUSIVE: bool = false;
    /// What a node answers that does not have it, where it would have answered.
    const ABSENT: &'static str = "the configuration of this node does not ask for it";

    /// Its sections of the configuration: rows of the table of the top level.
    fn sections() -> &'static [Field] {
        &[]
    }

    /// Its targets of routes: keys of a route that lead to its locals.
    fn targets() -> &'static [TargetKey] {
        &[]
    }

    /// Its keys of policies.
    fn policies() -> &'static [PolicyKey] {
        &[]
    }

    /// Makes its part of the plan of its sections, and reports everything that is wrong with them where it
    /// stands; `None` if nothing asks for it.
    fn build(said: &mut Sections<'_>, cx: &mut Cx) -> Option<Self::Plan> {
        let _ = (said, cx);
        None
    }

    /// Checks how the whole plan fits its part: what routes and other components refer to.
    fn check(whole: &Checked<'_>, cx: &mut Cx) {
        let _ = (whole, cx);
    }

    /// Its part of a plan; `None` if that does not ask for it.
    fn plan(plan: &Plan) -> Option<&Self::Plan> {
        plan.part()
    }

    /// Opens it, and gives its locals what they stand on. What its plan says beyond
    /// [`Fixed`](Self::Fixed) is not in force before the first commit.
    fn open(
        plan: &Self::Plan,
        host: &Host,
        locals: &Self::Locals,
    ) -> impl Future<Output = anyhow::Result<Self>> + Send;

    /// Adds its locals to what routes and listeners can name.
    fn register(locals: &Self::Locals, handlers: Handlers) -> Handlers {
        let _ = locals;
        handlers
    }

    /// Of a plan what only a start puts in force.
    fn fixed(plan: Option<&Self::Plan>) -> Self::Fixed;

    /// The settings that are otherwise than they were at the start, and wait for the next one.
    fn awaits_restart(fixed: &Self::Fixed, plan: Option<&Self::Plan>) -> Vec<&'static str>;

    /// Checks a plan against what is there, and changes nothing. What it gives is committed or dropped
    /// soon, and may hold others up until then.
    ///
    /// # Errors
    /// Everything that is wrong, in words.
    fn prepare(
        &self,
        plan: Option<&Self::Plan>,
    ) -> impl Future<Output = Result<Self::Ready, Vec<String>>> + Send;

    /// Adds what it keeps of what was prepared to the one transaction of all components. If the store refuses
    /// that, nothing is changed, and what was prepared is dropped.
    ///
    /// # Errors
    /// What the store says.
    fn stage(
        &self,
        ready: &mut Self::Ready,
        to: &mut Transaction,
    ) -> impl Future<Output = anyhow::Result<()>> + Send {
        let _ = (ready, to);
        std::future::ready(Ok(()))
    }

    /// Puts in force what was prepared, and is kept by now. Everything that can be refused was before.
    fn commit(&self, ready: Self::Ready) -> impl Future<Output = ()> + Send;

    /// Begins its part on a worker, on that worker's runtime.
    fn begin(&self, local: &Rc<Local>) {
        let _ = local;
    }

    /// What it does of itself, until it is told to stop.
    fn run(self: Arc<Self>, stop: Stop) -> impl Future<Output = ()> + Send {
        async move {
            drop(self);
            stop.closed().await;
        }
    }

    /// Whether it can do what it is for; if not, the node is not ready.
    fn health(&self) -> Result<()> {
        Ok(())
    }

    /// The metrics that it brings, beside those of the table that all share.
    fn metrics() -> &'static [Def] {
        &[]
    }

    /// Tells a scrape how it is.
    fn measure(&self, to: &mut Writer) {
        let _ = to;
    }

    /// Its operations: rows of the one table.
    fn operations() -> &'static [Row<Self::Api>] {
        &[]
    }

    /// What its operations operate.
    fn api(self: &Arc<Self>, node: &Arc<Node>) -> Self::Api;

    /// Writes what waits to be kept, and lets go of everything; nothing is asked of it any more. May be
    /// called more than once.
    fn close(&self) {}
}

/// What a component has to do with a configuration.
pub fn contribution<C: Component>() -> Contribution {
    Contribution {
        sections: C::sections(),
        targets: C::targets(),
        policies: C::policies(),
        build: |said, cx| C::build(said, cx).map(|part| Arc::new(part) as Arc<dyn AnyPart>),
        check: C::check,
    }
}

/// A group of nouns on the command line.
pub trait Noun: Subcommand + std::fmt::Debug {
    /// Does what was asked for.
    fn run(self) -> anyhow::Result<ExitCode>;
}
