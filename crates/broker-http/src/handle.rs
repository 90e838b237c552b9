//! Handle of the front-end: what the binary holds, and what each worker begins.

use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use tokio::sync::watch;
use weft_broker::{Key, SubscriptionKey, SubscriptionTarget, engine::Engines};
use weft_kernel::{Error, Name, Reason, Result, SystemClock};
use weft_net::{Stop, Tasks};
use weft_proxy::{Local, WorkerClient};

use crate::{
    api::{self, Found, Surface},
    deferred::{self, DeferredResponses, Id, Outside},
    push_delivery::{PushSubscription, drive},
    request::Request,
    response::Response,
    schema::Fault,
};

/// How long deliveries under way may take once their subscription is pushed no more.
const LEAVE: Duration = Duration::from_secs(30);

/// What is declared by configuration, and cannot be changed or deleted by the API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Declared {
    /// Topics.
    pub topics: HashSet<Key>,
    /// Queues.
    pub queues: HashSet<Key>,
    /// Subscriptions.
    pub subscriptions: HashSet<SubscriptionKey>,
}

/// What the front-end asks its node to do.
#[derive(Clone, Default)]
pub struct Hooks {
    /// Tells finished operations to addresses outside; without it nobody may ask for that.
    pub outside: Option<Arc<dyn Outside>>,
}

/// Handle of the front-end, cheap to clone.
#[derive(Clone)]
pub struct Handle(Arc<Inner>);

struct Inner {
    engines: Engines,
    deferred: Arc<DeferredResponses>,
    /// What a former process left behind, until a worker takes it.
    left: Mutex<Option<Vec<Id>>>,
    stop: Stop,
    /// What must go on when the request that began it is dropped.
    tasks: Tasks,
    /// How many workers share the subscriptions that are pushed.
    workers: usize,
    hooks: Hooks,
    declared: ArcSwap<Declared>,
    /// The routes by which messages are pushed to services, by service; not told yet, any may be named.
    services: ArcSwapOption<HashMap<String, Name>>,
    /// What the configuration pushes, and that together with what the API has declared.
    configured: Mutex<Arc<[PushSubscription]>>,
    pushes: watch::Sender<Arc<[PushSubscription]>>,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("engines", &self.0.engines).finish_non_exhaustive()
    }
}

impl Handle {
    /// Opens the front-end of a node's engines, and finds the operations again that were kept. Long polls and streams
    /// end when `stop` drains. `workers` is how many will [`begin`](Self::begin).
    ///
    /// # Errors
    /// What the store says.
    pub async fn open(engines: Engines, workers: usize, hooks: Hooks, stop: Stop) -> Result<Self> {
        let store = engines.embedded().shared_store();
        let (deferred, left) = DeferredResponses::open(store).await?;
        Ok(Self(Arc::new(Inner {
            engines,
            deferred: Arc::new(deferred),
            left: Mutex::new(Some(left)),
            tasks: Tasks::new(stop.clone()),
            stop,
            workers: workers.max(1),
            hooks,
            declared: ArcSwap::default(),
            services: ArcSwapOption::empty(),
            configured: Mutex::new(Arc::from([])),
            pushes: watch::Sender::new(Arc::from([])),
        })))
    }

    /// Says what the configuration declares, at each load.
    pub fn declare(&self, declared: Declared) {
        self.0.declared.store(Arc::new(declared));
    }

    /// Says which subscriptions the configuration pushes, and by which route each of its services is
    /// reached for those that the API has declared; at each load. What is no longer pushed ends softly.
    pub fn push(&self, pushes: Vec<PushSubscription>, services: HashMap<String, Name>) {
        *self.0.configured.lock() = pushes.into();
        self.0.services.store(Some(Arc::new(services)));
        self.look_for_pushes();
    }

    /// Finds what is to be pushed, after anything that may have changed it.
    pub(crate) fn look_for_pushes(&self) {
        // Held to the end, so that who looked first does not have the last word.
        let configured = self.0.configured.lock();
        let services = self.0.services.load();
        let mut pushes = configured.to_vec();
        for subscription in self.0.engines.subscriptions() {
            let SubscriptionTarget::Push(target) = subscription.options().target else {
                continue;
            };
            let route = services.as_ref().and_then(|routes| routes.get(&target.service));
            let key = subscription.key();
            let known = configured.iter().any(|push| push.subscription == *key);
            if let (Some(route), false, false) = (route, known, target.configured) {
                pushes.push(PushSubscription {
                    subscription: key.clone(),
                    route: route.clone(),
                    path: target.path,
                    concurrency: target.concurrency,
                    timeout: target.timeout,
                });
            }
        }
        self.0.pushes.send_if_modified(|now| {
            let changed = **now != *pushes;
            if changed {
                *now = pushes.into();
            }
            changed
        });
    }

    /// That there is no service of a name to push to, if there is none.
    pub(crate) fn no_service(&self, name: &str) -> Option<Fault> {
        let services = self.0.services.load();
        let services = services.as_ref().filter(|services| !services.contains_key(name))?;
        let mut known: Vec<&str> = services.keys().map(String::as_str).collect();
        known.sort_unstable();
        let fault = Fault::said(&["push", "service"], format!("there is no service `{name}`"));
        Some(match &*known {
            [] => fault.help("the configuration declares services, and it has none"),
            known => fault.help(format!("the configuration has {}", known.join(", "))),
        })
    }

    /// Begins what a worker does of itself: push deliveries, and operations that were left behind. To be
    /// called once by each worker, on its own runtime.
    pub fn begin(&self, local: &Rc<Local>) {
        let (handle, worker) = (self.clone(), local.clone());
        local.tasks.spawn_local(async move { handle.supervise(worker).await });
        let left = self.0.left.lock().take();
        if let Some(left) = left {
            local.tasks.spawn_local(deferred::keep_house(self.clone(), local.clone(), left));
        }
    }

    /// Drives those subscriptions that are this worker's share, as the configuration changes.
    async fn supervise(&self, local: Rc<Local>) {
        let client = match WorkerClient::new(local.clone()) {
            Ok(client) => Rc::new(client),
            Err(error) => {
                tracing::error!(error = %error.detail(), "no push delivery on this worker");
                return;
            }
        };
        let mut watched = self.0.pushes.subscribe();
        let mut driven: HashMap<String, (PushSubscription, Stop)> = HashMap::new();
        loop {
            let wanted = watched.borrow_and_update().clone();
            driven.retain(|_, (push, stop)| {
                let stays = wanted.contains(push);
                if !stays {
                    stop.drain(SystemClock::tick().plus(LEAVE));
                }
                stays
            });
            for push in wanted.iter().filter(|push| self.share(push) == local.index) {
                let name = format!("{:?}", push.subscription);
                if driven.contains_key(&name) {
                    continue;
                }
                let stop = local.stop.child();
                driven.insert(name, (push.clone(), stop.clone()));
                let (engines, client, push) =
                    (self.0.engines.clone(), client.clone(), push.clone());
                local.tasks.spawn_local(async move {
                    drive::run(&engines, &push, &*client, &stop).await;
                });
            }
            tokio::select! {
                changed = watched.changed() => if changed.is_err() { return },
                () = local.stop.draining() => return,
            }
        }
    }

    /// The worker that drives a subscription.
    fn share(&self, push: &PushSubscription) -> usize {
        let mut hasher = DefaultHasher::new();
        push.subscription.hash(&mut hasher);
        (hasher.finish() % self.0.workers as u64) as usize
    }

    /// Answers a request of the API; whatever goes wrong is told as a problem.
    pub async fn answer(&self, surface: Surface, request: Request) -> Response {
        match api::find(surface, &request.method, &request.path) {
            Ok(found) => self.answer_found(found, &request).await,
            Err(refusal) => *refusal,
        }
    }

    /// Answers a request whose operation is known.
    pub(crate) async fn answer_found<'a>(
        &'a self,
        found: Found<'a>,
        request: &'a Request,
    ) -> Response {
        found.row.answer(self, found.names, request).await
    }

    pub(crate) fn engines(&self) -> &Engines {
        &self.0.engines
    }

    pub(crate) fn deferred(&self) -> &Arc<DeferredResponses> {
        &self.0.deferred
    }

    pub(crate) fn stop(&self) -> &Stop {
        &self.0.stop
    }

    pub(crate) fn tasks(&self) -> &Tasks {
        &self.0.tasks
    }

    pub(crate) fn outside(&self) -> Option<&Arc<dyn Outside>> {
        self.0.hooks.outside.as_ref()
    }

    pub(crate) fn declared(&self) -> Arc<Declared> {
        self.0.declared.load_full()
    }
}

/// That only the configuration changes a thing.
pub(crate) fn is_declared(what: &str) -> Error {
    Error::new(
        Reason::DefinitionConflict,
        format!("{what} is declared by the configuration, and changed there"),
    )
}
