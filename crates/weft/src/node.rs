//! The running thing: workers, services, snapshot and admin API, joined by one configuration.
//!
//! The request path has its workers; everything else here lives on the control runtime, so that a scrape,
//! a check or a reload never touches a request.

mod listeners;
mod reload;
mod status;
pub mod termination;

use std::{
    collections::BTreeSet,
    os::fd::OwnedFd,
    path::PathBuf,
    rc::Rc,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use weft_discovery::{Services, resolve::Hickory};
use weft_kernel::{SystemClock, Tick};
use weft_net::{
    Stop, Workers,
    handover::{self, Offer},
};
use weft_proxy::{Handlers, InternalClient, Local, Snapshot, internal};
use weft_telemetry::metrics;

use self::listeners::Listeners;
pub(crate) use self::status::stamp;
pub use self::status::{AVAILABLE, ListenerStatus, Refusal, STATES, Status, state_of};
use crate::{
    admin,
    component::Host,
    components::{self, Components, List as _},
    config::{Commands, Loaded, Loader, Plan, plan, watch::Watcher},
};

/// How long work may go on once the node drains.
pub const DRAIN: Duration = Duration::from_secs(30);
/// Timeout for acquiring what a former process may be about to let go of.
const TAKEOVER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a former process waits for its successor to become ready.
const READY_TIME: Duration = Duration::from_secs(30);
/// The name under which the admin API's socket is handed over; no listener can have it.
const ADMIN: &str = "_admin";

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
    /// What it can do.
    pub components: Arc<Components>,
    /// What in the node routes and listeners can name.
    handlers: Handlers,
    /// The services, which every node has.
    pub services: Arc<Services>,
    /// The metrics.
    pub metrics: metrics::Registry,
    /// What components are lent that are opened.
    host: Host,
    /// The threads of the request path.
    pub workers: Workers<Local>,
    /// Ends everything.
    pub stop: Stop,
    /// When it was started.
    pub started: SystemTime,
    /// The same on the clock that nobody sets.
    pub started_tick: Tick,
    state: Mutex<State>,
    /// Tells when the files of the configuration have changed.
    pub watcher: Watcher,
    /// The commands of secrets, which tell when one prints another.
    pub commands: Arc<Commands>,
    /// Held through a reload, whoever asked for it.
    reloading: tokio::sync::Mutex<()>,
}

/// What changes with a reload.
struct State {
    loader: Loader,
    loaded: Arc<Loaded>,
    /// The admin API as it was at the start, which alone puts it in force.
    admin: Option<plan::Admin>,
    listeners: Listeners,
    applied: SystemTime,
    refused: Option<Refusal>,
    /// Files whose change may change or mend the configuration.
    watched: BTreeSet<PathBuf>,
    /// Snapshots that requests may still hold: let go of here, so that no worker has to free one, and so
    /// that it is known whose services are still asked for.
    retired: Vec<reload::Retired>,
}

/// What a start leaves to be done with sockets.
pub struct Sockets {
    /// What tells the former process to drain, unless it has been told.
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
    ) -> anyhow::Result<(Arc<Self>, Sockets)> {
        let count = options
            .workers
            .or_else(|| std::thread::available_parallelism().ok().map(Into::into))
            .unwrap_or(1);
        let metrics =
            metrics::Registry::new(metrics::Shards::new(count), env!("CARGO_PKG_VERSION"));
        status::count_tasks(&metrics, "control".to_owned());
        let plan = &loaded.plan;
        let stop = Stop::new();
        let internal = InternalClient::new(internal::Options::default());
        let mut host = Host {
            workers: count,
            metrics: metrics.clone(),
            stop: stop.clone(),
            internal: internal.clone(),
            dns: Hickory::system().context("the resolver configuration cannot be read")?,
            kept: Arc::default(),
            takeover_timeout: TAKEOVER_TIMEOUT,
            ledger: OnceLock::new(),
            engines: Arc::default(),
            events: OnceLock::new(),
            event_check: OnceLock::new(),
        };
        let components = Arc::new(Components::new(plan));
        components.open(plan, &host, false).await?;
        let discovery = components.discovery.get().context("there is no discovery")?;
        let services = discovery.services.clone();
        let telemetry = components.telemetry.get().context("there is no telemetry")?;
        let observers = telemetry.observers();
        // Before anything is opened that another process could miss.
        let handlers = components.handlers();
        let (mut ready, snapshot) =
            compile(&components, plan, &handlers, &metrics, None).await.map_err(refused)?;
        let mut former = match &options.handover {
            Some(path) => handover::take(path).await?,
            None => None,
        };
        let mut inherited =
            former.as_mut().map_or_else(Vec::new, |former| std::mem::take(&mut former.sockets));
        let adopted = inherited
            .iter()
            .position(|(name, _)| name == ADMIN)
            .map(|place| inherited.swap_remove(place).1);
        let mut listeners = Listeners::new(count, inherited);
        let mut opened = None;
        if components.is_exclusive(plan)
            && let Some(former) = former.take()
        {
            // The former process goes on if anything of this is refused. It lets go of what is its alone
            // as soon as it hears that its sockets are taken over; connections wait in these meanwhile.
            opened = Some(listeners.prepare(&plan.sockets, None).map_err(refused)?);
            former.ready().await?;
        }
        components.open(plan, &host, true).await?;
        // Without a former process sockets are opened late, so that nobody connects who would have to wait.
        let opened = match opened {
            Some(opened) => opened,
            None => listeners.prepare(&plan.sockets, None).map_err(refused)?,
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
        // A configuration is put in force once nothing else can be refused.
        let mut faults = Vec::new();
        components.prepare_rest(plan, &mut ready, &mut faults).await;
        if !faults.is_empty() {
            return Err(refused(faults));
        }
        components.commit(ready).await?;
        // What a reload opens nobody is about to let go of.
        host.takeover_timeout = Duration::ZERO;
        let current = Arc::new(ArcSwap::from_pointee(snapshot));
        let zone: Option<Arc<str>> = options.zone.as_deref().map(Into::into);
        let workers = Workers::start(count, stop.clone(), {
            let current = current.clone();
            let components = components.clone();
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
                components.begin(&local);
                let served = internal.serve(&local);
                async move { served.map(|()| local) }
            }
        })
        .await?;
        listeners.commit(opened, &workers, options.drain).await?;
        listeners.forget_unclaimed();
        let wall = SystemTime::now();
        metrics.config().applied(wall);
        watcher.files(&loaded.files);
        let commands = Arc::clone(loader.commands());
        commands.keep();
        let node = Arc::new(Self {
            options,
            current,
            components,
            handlers,
            services,
            metrics,
            host,
            workers,
            stop,
            started: wall,
            started_tick: SystemClock::tick(),
            watcher,
            commands,
            reloading: tokio::sync::Mutex::default(),
            state: Mutex::new(State {
                loader,
                watched: loaded.files.clone(),
                admin: loaded.plan.admin.clone(),
                loaded: Arc::new(loaded),
                listeners,
                applied: wall,
                refused: None,
                retired: Vec::new(),
            }),
        });
        status::publish(&node);
        Ok((node, Sockets { former, admin }))
    }

    /// Opens the access log anew, after rotation.
    pub fn reopen(&self) {
        if let Some(telemetry) = self.components.telemetry.get() {
            telemetry.reopen();
        }
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

    /// Ends in peace: no new connection, GOAWAY, and what is under way may finish within the drain time.
    /// Gives the number of connections that had to be cut.
    pub async fn drain(&self) -> u64 {
        let deadline = SystemClock::tick().plus(self.options.drain);
        self.workers.drain(deadline).await
    }
}

/// Lets all components prepare a plan, and compiles it beside the snapshot in force, if there is one.
/// Nothing is changed by it.
///
/// # Errors
/// Everything that is wrong.
async fn compile(
    components: &Components,
    plan: &Plan,
    handlers: &Handlers,
    metrics: &metrics::Registry,
    before: Option<&Snapshot>,
) -> Result<(components::Ready, Snapshot), Vec<String>> {
    let mut faults = Vec::new();
    let ready = components.prepare(plan, &mut faults).await;
    let Some(services) = &ready.discovery else {
        faults.push("there is no discovery".to_owned());
        return Err(faults);
    };
    let now = SystemClock::tick();
    match Snapshot::compile(&plan.whole_proxy(), services, handlers, metrics, before, now) {
        Ok(snapshot) if faults.is_empty() => Ok((ready, snapshot)),
        Ok(_) => Err(faults),
        Err(errors) => {
            faults.extend(errors.iter().map(ToString::to_string));
            Err(faults)
        }
    }
}

/// A start that cannot be, with everything that is wrong.
fn refused(faults: Vec<String>) -> anyhow::Error {
    anyhow::anyhow!(faults.join("; "))
}

/// How long ago something was, in whole seconds.
pub(crate) fn age(at: SystemTime) -> u64 {
    at.elapsed().map_or(0, |age| age.as_secs())
}
