//! The running thing: workers, services, snapshot and admin API, joined by one configuration.
//!
//! The request path has its workers; everything else here lives on the control runtime, so that a scrape,
//! a check or a reload never touches a request.

mod listeners;
mod locals;
pub mod messages;
mod reload;
mod status;
pub mod termination;

use std::{
    collections::BTreeSet,
    os::fd::OwnedFd,
    path::PathBuf,
    rc::Rc,
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
use weft_proxy::{Handlers, Local, Observers, Snapshot};
use weft_telemetry::{access, metrics, otlp, span, trace::Sampler};

pub use self::locals::Locals;
pub use self::status::{AVAILABLE, ListenerStatus, Refusal, STATES, Status, state_of};
use self::{listeners::Listeners, messages::Messages};
use crate::{
    admin,
    config::{Loaded, Loader, Plan, watch::Watcher},
};

/// How long work may go on once the node drains.
pub const DRAIN: Duration = Duration::from_secs(30);
/// How long a former process waits for its successor to become ready.
const READY_TIME: Duration = Duration::from_secs(30);
/// The name under which the admin API's socket is handed over; no listener can have it.
const ADMIN: &str = "_admin";
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
    /// What in the node routes and listeners can name.
    handlers: Handlers,
    /// The services.
    pub registry: Arc<Registry>,
    /// The metrics.
    pub metrics: metrics::Registry,
    /// The threads of the request path.
    pub workers: Workers<Local>,
    /// What keeps messages, if this node keeps any.
    pub messages: Option<Arc<Messages>>,
    /// Ends everything.
    pub stop: Stop,
    /// The access log, to be opened anew after rotation.
    pub access: access::Log,
    /// When it was started.
    pub started: SystemTime,
    state: Mutex<State>,
    /// Tells when the files of the configuration have changed.
    pub watcher: Watcher,
    /// Held through a reload, whoever asked for it.
    reloading: tokio::sync::Mutex<()>,
}

/// What changes with a reload.
struct State {
    loader: Loader,
    loaded: Arc<Loaded>,
    /// What only a start puts in force, as it was then.
    fixed: reload::Fixed,
    listeners: Listeners,
    applied: SystemTime,
    refused: Option<Refusal>,
    /// Files whose change may change or mend the configuration.
    watched: BTreeSet<PathBuf>,
    /// Snapshots that requests may still hold: let go of here, so that no worker has to free one, and so
    /// that it is known whose services are still asked for.
    retired: Vec<reload::Retired>,
}

/// What must outlive the node to be written out at its end.
pub struct Ends {
    /// The access log's writer.
    pub access: access::Guard,
    /// What exports spans, to be run on the control runtime.
    pub exporter: Option<otlp::Exporter>,
    /// What tells the former process to drain.
    pub former: Option<handover::Inheritance>,
    /// The socket of the admin API.
    pub admin: Option<admin::Listener>,
}

impl Node {
    /// Starts a node: takes over or opens its sockets, and begins to accept. `watcher` has been started
    /// before the configuration was loaded.
    pub async fn start(
        options: Options,
        watcher: Watcher,
        loader: Loader,
        loaded: Loaded,
    ) -> anyhow::Result<(Arc<Self>, Ends)> {
        let count = options
            .workers
            .or_else(|| std::thread::available_parallelism().ok().map(Into::into))
            .unwrap_or(1);
        let shards = metrics::Shards::new(count);
        let metrics = metrics::Registry::new(shards, env!("CARGO_PKG_VERSION"));
        status::count_tasks(&metrics, "control".to_owned());
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
        let discovered = registry.prepare(services(plan));
        let locals = Locals::default();
        let handlers = locals.handlers();
        let snapshot = Snapshot::compile(&plan.proxy, &discovered, &handlers, &metrics, None, now)
            .map_err(|errors| anyhow::anyhow!(join(&errors)))?;
        registry.commit(discovered, now);
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
        let former = match &options.handover {
            Some(path) => handover::take(path).await?,
            None => None,
        };
        let (mut inherited, mut former) = match former {
            Some(mut former) => (std::mem::take(&mut former.sockets), Some(former)),
            None => (Vec::new(), None),
        };
        let adopted = inherited
            .iter()
            .position(|(name, _)| name == ADMIN)
            .map(|place| inherited.swap_remove(place).1);
        let mut listeners = Listeners::new(count, inherited);
        // The former process goes on if these cannot be opened. Without one they wait for the ledger, so
        // that nobody connects who would have to.
        let mut opened = None;
        if former.is_some() {
            opened = Some(listeners.prepare(&plan.sockets, None)?);
        }
        let messages = match &plan.messages {
            None => None,
            Some(messages) => {
                // Only one process can keep messages. The former lets go of them as soon as it hears that
                // its sockets are taken over; connections wait in these meanwhile.
                if let Some(former) = former.take() {
                    former.ready().await?;
                }
                Some(Arc::new(Messages::open(messages, count, stop.clone()).await?))
            }
        };
        let opened = match opened {
            Some(opened) => opened,
            None => listeners.prepare(&plan.sockets, None)?,
        };
        let admin = match &plan.admin {
            None => None,
            Some(admin) => {
                Some(match adopted.and_then(|socket| admin::adopt(&admin.listen, socket)) {
                    Some(listener) => listener,
                    None => admin::bind(&admin.listen).await?,
                })
            }
        };
        // What is declared is put in force once nothing else can be refused.
        if let Some(messages) = &messages {
            messages.commit(messages.prepare(plan.messages.as_ref()).await?).await?;
            locals.open(messages);
        }
        let zone: Option<Arc<str>> = options.zone.as_deref().map(Into::into);
        let workers = Workers::start(count, stop.clone(), {
            let current = current.clone();
            let desk = messages.as_ref().map(|messages| messages.desk.clone());
            let metrics = metrics.clone();
            move |worker| {
                status::count_tasks(&metrics, worker.index().to_string());
                let local = Rc::new(Local::new(
                    worker.index(),
                    current.clone(),
                    zone.clone(),
                    observers.clone(),
                    worker.tasks().clone(),
                ));
                if let Some(desk) = &desk {
                    desk.begin(&local);
                }
                async move { Ok(local) }
            }
        })
        .await?;
        listeners.commit(opened, &plan.sockets, &workers, options.drain).await?;
        listeners.forget_unclaimed();
        let wall = SystemTime::now();
        metrics.config().applied(wall);
        watcher.files(&loaded.files);
        let node = Arc::new(Self {
            options,
            current,
            handlers,
            registry,
            metrics,
            workers,
            messages,
            stop,
            access,
            started: wall,
            watcher,
            reloading: tokio::sync::Mutex::default(),
            state: Mutex::new(State {
                loader,
                watched: loaded.files.clone(),
                fixed: reload::Fixed::of(&loaded.plan),
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

    /// Writes what waits to be kept, and lets go of it, so that another process can have it.
    pub fn let_go(&self) {
        if let Some(messages) = &self.messages {
            messages.close();
        }
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
