//! The running thing: workers, services, snapshot and admin API, joined by one configuration.
//!
//! The request path has its workers; everything else here lives on the control runtime, so that a scrape,
//! a check or a reload never touches a request.

mod listeners;
mod status;

use std::{
    collections::BTreeSet,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use weft_discovery::{Registry, health::NetProbe, resolve::Hickory};
use weft_kernel::{Clock, Rng, SystemClock};
use weft_net::{
    Stop, Workers,
    handover::{self, Offer},
};
use weft_proxy::{Local, Observers, Snapshot};
use weft_telemetry::{access, metrics, otlp, span, trace::Sampler};

use self::listeners::Listeners;
pub use self::status::{AVAILABLE, Refusal, STATES, Status, state_of};
use crate::config::{Loaded, Loader, Plan, Refused};

/// How long work may go on once the node drains.
pub const DRAIN: Duration = Duration::from_secs(30);
/// How long a former process waits for its successor to become ready.
const READY_TIME: Duration = Duration::from_secs(30);
/// The name under which the admin API's socket is handed over; no listener can have it.
const ADMIN: &str = "_admin";
/// How long services that are gone are kept for requests that began before.
const SETTLE_TIME: Duration = Duration::from_millis(200);
/// How often it is looked whether there are any.
const SETTLE_STEP: Duration = Duration::from_millis(5);
/// Spans that may wait to be exported.
const SPANS_MAX: usize = 4096;

/// How a node is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration's file or folder.
    pub config: PathBuf,
    /// Worker threads; one per core by default.
    pub workers: Option<usize>,
    /// Where listening sockets are taken over from a running node, and offered to the next.
    pub handover: Option<PathBuf>,
    /// The zone this node stands in.
    pub zone: Option<String>,
    /// How long work may go on once the node drains.
    pub drain: Duration,
}

/// A running node.
pub struct Node {
    /// How it was started.
    pub options: Options,
    /// What the request path reads.
    pub current: Arc<ArcSwap<Snapshot>>,
    /// The services.
    pub registry: Arc<Registry>,
    /// The metrics.
    pub metrics: metrics::Registry,
    /// The threads of the request path.
    pub workers: Workers<Local>,
    /// Ends everything.
    pub stop: Stop,
    /// The access log, to be opened anew after rotation.
    pub access: access::Log,
    /// When it was started.
    pub started: SystemTime,
    state: Mutex<State>,
    /// Held through a reload, whoever asked for it.
    reloading: tokio::sync::Mutex<()>,
}

/// What changes with a reload.
struct State {
    loader: Loader,
    loaded: Arc<Loaded>,
    listeners: Listeners,
    applied: SystemTime,
    refused: Option<Refusal>,
    /// Files whose change may change or mend the configuration.
    watched: BTreeSet<PathBuf>,
    /// Snapshots that requests may still hold: let go of here, so that no worker has to free one.
    retired: Vec<Arc<Snapshot>>,
}

/// What must outlive the node to be written out at its end.
pub struct Ends {
    /// The access log's writer.
    pub access: access::Guard,
    /// What exports spans, to be run on the control runtime.
    pub exporter: Option<otlp::Exporter>,
    /// What tells the former process to drain.
    pub former: Option<handover::Inheritance>,
    /// The former process's socket of the admin API.
    pub admin: Option<OwnedFd>,
}

impl Node {
    /// Starts a node: takes over or opens its sockets, and begins to accept.
    pub async fn start(
        options: Options,
        loader: Loader,
        loaded: Loaded,
    ) -> anyhow::Result<(Arc<Self>, Ends)> {
        let count = options
            .workers
            .or_else(|| std::thread::available_parallelism().ok().map(Into::into))
            .unwrap_or(1);
        let shards = metrics::Shards::new(count);
        let metrics = metrics::Registry::new(shards, env!("CARGO_PKG_VERSION"));
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let lookup = Hickory::system().context("the resolver configuration cannot be read")?;
        let registry = Arc::new(Registry::new(
            clock,
            Arc::new(lookup),
            Arc::new(NetProbe),
            Rng::from_entropy(),
        ));
        let now = SystemClock::tick();
        let plan = &loaded.plan;
        registry.apply(services(plan), now);
        let snapshot = Snapshot::compile(&plan.proxy, &registry, &metrics, None, now)
            .map_err(|errors| anyhow::anyhow!(join(&errors)))?;
        let current = Arc::new(ArcSwap::from_pointee(snapshot));
        let (access, guard) =
            access::Log::open(plan.telemetry.access_log.clone(), shards, metrics.access())?;
        let (spans, exporter) = match &plan.telemetry.otlp {
            None => (None, None),
            Some(otlp) => {
                let (sender, queue) = span::queue(SPANS_MAX, metrics.spans());
                (Some(sender), Some(otlp::Exporter::new(otlp.clone(), queue)?))
            }
        };
        let observers = Observers {
            access: Some(access.clone()),
            spans,
            sampler: Sampler::ratio(plan.telemetry.trace_sample),
        };
        let stop = Stop::new();
        let zone: Option<Arc<str>> = options.zone.as_deref().map(Into::into);
        let workers = Workers::start(count, stop.clone(), {
            let current = current.clone();
            move |worker| {
                let local = Local::new(
                    worker.index(),
                    current.clone(),
                    zone.clone(),
                    observers.clone(),
                    worker.tasks().clone(),
                );
                async move { Ok(local) }
            }
        })
        .await?;
        let former = match &options.handover {
            Some(path) => handover::take(path).await?,
            None => None,
        };
        let (mut inherited, former) = match former {
            Some(mut former) => (std::mem::take(&mut former.sockets), Some(former)),
            None => (Vec::new(), None),
        };
        let admin = inherited
            .iter()
            .position(|(name, _)| name == ADMIN)
            .map(|place| inherited.swap_remove(place).1);
        let mut listeners = Listeners::new(inherited);
        listeners.apply(&plan.sockets, &workers, options.drain).await?;
        listeners.forget_unclaimed();
        let wall = SystemTime::now();
        metrics.config().applied(wall);
        let node = Arc::new(Self {
            options,
            current,
            registry,
            metrics,
            workers,
            stop,
            access,
            started: wall,
            reloading: tokio::sync::Mutex::default(),
            state: Mutex::new(State {
                loader,
                watched: loaded.files.clone(),
                loaded: Arc::new(loaded),
                listeners,
                applied: wall,
                refused: None,
                retired: Vec::new(),
            }),
        });
        status::publish(&node);
        Ok((node, Ends { access: guard, exporter, former, admin }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the configuration anew and, if nothing at all is wrong with it, puts it in force. What is
    /// under way ends as it began.
    pub async fn reload(&self) -> Result<(), String> {
        let _turn = self.reloading.lock().await;
        let began = std::time::Instant::now();
        let result = self.try_reload().await;
        match &result {
            Ok(()) => {
                let generation = self.current.load().generation;
                tracing::info!(generation, took = ?began.elapsed(), "configuration applied");
            }
            Err(why) => {
                self.metrics.config().refused();
                self.state().refused = Some(Refusal { at: SystemTime::now(), reason: why.clone() });
                tracing::warn!("configuration refused, the last good one stays in force: {why}");
            }
        }
        result
    }

    async fn try_reload(&self) -> Result<(), String> {
        let loaded = {
            let mut state = self.state();
            let path = &self.options.config;
            state.loader.load(path, &|name| std::env::var(name).ok())
        };
        let loaded = loaded.map_err(|refused: Box<Refused>| {
            self.state().watched.extend(refused.files.iter().cloned());
            refused.to_string()
        })?;
        for warning in &loaded.warnings {
            tracing::warn!("configuration: {}", warning.message);
        }
        let now = SystemClock::tick();
        let before = self.current.load_full();
        let plan = &loaded.plan;
        // Services that go are kept until the new snapshot is in force, so that no request finds a
        // service without its endpoints.
        let kept = self.kept_services(plan);
        let removes = kept.len() > plan.proxy.services.len();
        self.registry.apply(kept, now);
        let snapshot =
            Snapshot::compile(&plan.proxy, &self.registry, &self.metrics, Some(&before), now)
                .map_err(|errors| join(&errors))?;
        let mut listeners = std::mem::take(&mut self.state().listeners);
        let opened = listeners.prepare(&plan.sockets, &self.workers);
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => {
                self.state().listeners = listeners;
                return Err(format!("{error:#}"));
            }
        };
        self.current.store(Arc::new(snapshot));
        let switched =
            listeners.commit(opened, &plan.sockets, &self.workers, self.options.drain).await;
        // Requests that began just before may not have chosen their endpoint yet.
        let limit = tokio::time::Instant::now() + SETTLE_TIME;
        while removes && Arc::strong_count(&before) > 1 && tokio::time::Instant::now() < limit {
            tokio::time::sleep(SETTLE_STEP).await;
        }
        self.registry.apply(services(plan), SystemClock::tick());
        let wall = SystemTime::now();
        self.metrics.config().applied(wall);
        let mut state = self.state();
        state.listeners = listeners;
        state.watched = loaded.files.clone();
        state.loaded = Arc::new(loaded);
        state.applied = wall;
        state.refused = None;
        state.retired.push(before);
        state.retired.retain(|snapshot| Arc::strong_count(snapshot) > 1);
        switched.map_err(|error| format!("{error:#}"))
    }

    /// The services of a plan, and those in force that it no longer has.
    fn kept_services(&self, plan: &Plan) -> Vec<weft_discovery::ServiceOptions> {
        let mut kept = services(plan);
        for service in self.registry.services() {
            if !kept.iter().any(|known| known.name == *service.name()) {
                kept.push((*service.options()).clone());
            }
        }
        kept
    }

    /// Lets go of snapshots that no request holds any more.
    pub fn tidy(&self) {
        self.state().retired.retain(|snapshot| Arc::strong_count(snapshot) > 1);
    }

    /// Reads certificates anew from their files.
    pub fn reload_certificates(&self) {
        self.state().listeners.reload_certificates();
    }

    /// The files that the configuration refers to, the refused one's included.
    pub fn watched(&self) -> BTreeSet<PathBuf> {
        let state = self.state();
        state.watched.clone()
    }

    /// The configuration in force.
    pub fn loaded(&self) -> Arc<Loaded> {
        self.state().loaded.clone()
    }

    /// Offers the listening sockets to a successor, that of the admin API among them, and returns once
    /// one has taken over.
    pub async fn offer(&self, admin: Option<&OwnedFd>) -> anyhow::Result<()> {
        let Some(path) = &self.options.handover else {
            return std::future::pending().await;
        };
        let offer = Offer::bind(path)?;
        let sockets = || {
            let mut sockets = self.workers.sockets()?;
            // Without it the successor opens one of its own.
            if let Some(Ok(admin)) = admin.map(OwnedFd::try_clone) {
                sockets.push((ADMIN.to_owned(), admin));
            }
            Ok(sockets)
        };
        offer.taken(sockets, READY_TIME).await?;
        Ok(())
    }

    /// Ends in peace: no new connection, GOAWAY, and what is under way may finish within the drain time.
    /// Gives the number of connections that had to be cut.
    pub async fn drain(&self) -> u64 {
        let deadline = SystemClock::tick().plus(self.options.drain);
        self.workers.drain(deadline).await
    }
}

/// What discovery is to know of a plan.
fn services(plan: &Plan) -> Vec<weft_discovery::ServiceOptions> {
    plan.proxy.services.iter().map(|service| service.discovery.clone()).collect()
}

fn join<T: std::fmt::Display>(errors: &[T]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// How long ago something was, in whole seconds.
pub(crate) fn age(at: SystemTime) -> u64 {
    at.elapsed().map_or(0, |age| age.as_secs())
}
