//! A worker with routes of a test's own, asked as a client of its listener would.

use std::{path::PathBuf, rc::Rc, sync::Arc};

use arc_swap::ArcSwap;
use bytes::Bytes;
use tempfile::TempDir;
use weft_discovery::{
    Services,
    health::{Checkup, Probe, ProbeFuture},
    resolve::{Lookup, LookupFuture, Query},
};
use weft_kernel::{Name, Result, Rng, SystemClock};
use weft_net::{
    Address, Stop, Tasks,
    body::Body,
    clock,
    message::{Handler as _, InterimSender, Peer, Request, Response},
    timer::TaskTimer,
};
use weft_proxy::{
    Call, Front, Handlers, Local, LocalFuture, LocalTarget, Means, Observers, Reply, Snapshot,
    TargetMaker,
    plan::{self, Binding, RoutePolicies},
};
use weft_telemetry::{access, metrics};
use weft_wire::{Fields, Known, Method, RequestHead, ResponseHead, Version};

/// Nothing is looked up or checked here.
struct Nobody;

impl Lookup for Nobody {
    fn lookup<'a>(&'a self, _: &'a Query) -> LookupFuture<'a> {
        Box::pin(std::future::pending())
    }
}

impl Probe for Nobody {
    fn probe(&self, _: Checkup) -> ProbeFuture<'_> {
        Box::pin(std::future::pending())
    }
}

/// A local target that answers with the body that it was sent, and says which fields it was told.
struct Echo;

impl TargetMaker for Echo {
    fn make(&self, _: &Binding) -> Result<Arc<dyn LocalTarget>, String> {
        Ok(Arc::new(Self))
    }
}

impl LocalTarget for Echo {
    fn call<'a>(&'a self, _: &'a Rc<Local>, call: Call) -> LocalFuture<'a, Result<Reply>> {
        Box::pin(async move {
            let mut head = ResponseHead::new(200);
            for (name, value) in call.head.fields.iter().filter(|(name, _)| name.starts_with("x-"))
            {
                head.fields.append(&format!("told-{name}"), value);
            }
            Ok(Reply::new(head, Body::full(call.body.collect(1 << 20).await?)))
        })
    }
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// A target of [`Echo`].
pub(crate) fn echo() -> plan::Target {
    plan::Target::Local(Binding::new("echo", 0_u8))
}

/// A target that always says the same.
pub(crate) fn fixed(status: u16, body: &str) -> plan::Target {
    plan::Target::Respond(plan::Respond {
        status,
        headers: Vec::new(),
        body: body.as_bytes().into(),
    })
}

/// A route for the path `/NAME`.
pub(crate) fn route(called: &str, target: plan::Target, policy: RoutePolicies) -> plan::Route {
    plan::Route {
        name: name(called),
        listeners: Vec::new(),
        is_internal: false,
        matches: vec![plan::Match {
            path: plan::Path::Exact(format!("/{called}")),
            ..plan::Match::default()
        }],
        policy: Arc::new(policy),
        rewrite: plan::Rewrite::default(),
        target,
    }
}

/// What a client was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) fields: Fields,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.fields.named(name).map(|value| std::str::from_utf8(value).unwrap())
    }
}

pub(crate) struct Node {
    pub(crate) local: Rc<Local>,
    handlers: Handlers,
    /// What is said of the services.
    told: Vec<plan::Service>,
    services: Services,
    metrics: metrics::Registry,
    log: PathBuf,
    guard: Option<access::Guard>,
    _folder: TempDir,
}

impl Node {
    /// A worker with these routes. To be called on its runtime.
    pub(crate) fn new(handlers: Handlers, routes: Vec<plan::Route>) -> Self {
        Self::with(handlers, routes, Vec::new(), Means::default())
    }

    /// A worker with these routes and services, and means of the test's.
    pub(crate) fn with(
        handlers: Handlers,
        routes: Vec<plan::Route>,
        told: Vec<plan::Service>,
        means: Means,
    ) -> Self {
        let handlers = handlers.with_target("echo", Echo);
        let services = Services::new(
            Arc::new(SystemClock),
            Arc::new(Nobody),
            Arc::new(Nobody),
            Rng::seeded(1),
        );
        let metrics = metrics::Registry::new(metrics::Shards::new(1), "test");
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("access.log");
        let options = access::Options {
            destination: access::Destination::File(log.clone()),
            include: access::Include::All,
            ..access::Options::default()
        };
        let (access, guard) =
            access::Log::open(options, metrics::Shards::new(1), metrics.access()).unwrap();
        let snapshot = compile(&services, &handlers, &metrics, None, (routes, &told)).unwrap();
        let observers = Observers { access: Some(access), ..Observers::default() };
        let current = Arc::new(ArcSwap::from_pointee(snapshot));
        let tasks = Tasks::new(Stop::new());
        let local = Rc::new(Local::with_means(0, current, None, observers, tasks, means));
        Self { local, handlers, told, services, metrics, log, guard: Some(guard), _folder: folder }
    }

    /// Puts other routes in force.
    pub(crate) fn reload(&self, routes: Vec<plan::Route>) -> Result<(), Vec<String>> {
        let before = self.local.current.load_full();
        let snapshot = compile(
            &self.services,
            &self.handlers,
            &self.metrics,
            Some(&before),
            (routes, &self.told),
        )?;
        self.local.current.store(Arc::new(snapshot));
        Ok(())
    }

    /// Posts a body.
    pub(crate) async fn post(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        self.ask(path, Body::full(body)).await
    }

    /// Sends a request, and reads the response whole.
    pub(crate) async fn ask(&self, path: &str, body: Body) -> Answer {
        let mut fields = Fields::new();
        fields.add(Known::Host, b"test");
        let head = RequestHead {
            method: Method::Post,
            target: path.into(),
            version: Version::Http11,
            fields,
            upgrade: None,
        };
        let response = self.call(head, body).await;
        let body = response.body.collect(1 << 20).await.unwrap();
        if let Some(done) = response.done {
            done.end(body.len() as u64, Ok(()));
        }
        Answer {
            status: response.head.status,
            fields: response.head.fields,
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    /// What a scrape shows.
    pub(crate) fn scraped(&self) -> String {
        self.metrics.encode()
    }

    /// Hands a request to the front of the listener.
    pub(crate) async fn call(&self, head: RequestHead, body: Body) -> Response {
        let peer = Peer {
            address: Address::Tcp("10.0.0.9:1234".parse().unwrap()),
            local: None,
            tls: None,
        };
        let front = Front::new(self.local.clone(), name("web"));
        let (timer, interim_sender) = (TaskTimer::default(), InterimSender::default());
        front.call(Request { head, body, peer: Rc::new(peer), timer, interim_sender }).await
    }

    /// Ends the access log and gives what it says.
    pub(crate) fn logged(mut self) -> String {
        self.guard.take().unwrap().close();
        std::fs::read_to_string(&self.log).unwrap()
    }
}

fn compile(
    services: &Services,
    handlers: &Handlers,
    metrics: &metrics::Registry,
    before: Option<&Snapshot>,
    (routes, told): (Vec<plan::Route>, &[plan::Service]),
) -> Result<Snapshot, Vec<String>> {
    let listener = plan::Listener {
        name: name("web"),
        protocol: plan::Protocol::Http,
        http: plan::Http::default(),
    };
    let plan = plan::Plan {
        listeners: vec![listener],
        routes: routes.into_iter().map(Arc::new).collect(),
        services: told.to_vec(),
    };
    let now = clock::now();
    let prepare = || services.prepare(told.iter().map(|told| told.discovery.clone()).collect());
    services.commit(prepare(), now);
    Snapshot::compile(&plan, &prepare(), handlers, metrics, before, now)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect())
}
