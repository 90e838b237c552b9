//! Requests along internal routes from a task that is on no worker.

use std::{
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::task::JoinSet;
use weft::config::Loader;
use weft_discovery::{
    Services,
    health::NetProbe,
    resolve::{Lookup, LookupFuture, Query},
};
use weft_kernel::{Name, Reason, Rng, SystemClock};
use weft_net::{Stop, Workers};
use weft_proxy::{
    Handlers, InternalClient, Local, Observers, Reading, Snapshot, internal::Options, plan::Route,
};
use weft_telemetry::metrics;
use weft_testkit::{
    Upstream,
    upstream::{ok, status},
};
use weft_wire::{Fields, Method, RequestHead, Version};

/// Nothing is looked up here.
struct Nobody;

impl Lookup for Nobody {
    fn lookup<'a>(&'a self, _: &'a Query) -> LookupFuture<'a> {
        Box::pin(std::future::pending())
    }
}

/// The request path of a node: workers that serve internal requests, and no listener.
struct Path {
    client: InternalClient,
    workers: Workers<Local>,
}

impl Path {
    async fn start(services: &str, routes: &str, options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "listeners: {{ web: {{ address: 127.0.0.1:1 }} }}\nservices:\n{services}routes:\n{routes}"
        );
        let loaded =
            Loader::default().load_text(&folder.path().join("weft.yaml"), &text, &|_| None);
        let loaded = loaded.unwrap_or_else(|refused| panic!("{:?}", refused.problems));
        let mut plan = loaded.plan.proxy;
        // As rooms of the node make their own routes.
        let internal =
            |route: &Arc<Route>| Arc::new(Route { is_internal: true, ..(**route).clone() });
        plan.routes = plan.routes.iter().map(internal).collect();
        let discovery = Services::new(
            Arc::new(SystemClock),
            Arc::new(Nobody),
            Arc::new(NetProbe),
            Rng::seeded(1),
        );
        let options_of = plan.services.iter().map(|service| service.discovery.clone()).collect();
        let (prepared, now) = (discovery.prepare(options_of), SystemClock::tick());
        let metrics = metrics::Registry::new(metrics::Shards::new(2), "test");
        let snapshot =
            Snapshot::compile(&plan, &prepared, &Handlers::default(), &metrics, None, now).unwrap();
        discovery.commit(prepared, now);
        let current = Arc::new(ArcSwap::from_pointee(snapshot));
        let client = InternalClient::new(options);
        let workers = Workers::start(2, Stop::new(), {
            let client = client.clone();
            move |worker| {
                let tasks = worker.tasks().clone();
                let observers = Observers::default();
                let local = Local::new(worker.index(), current.clone(), None, observers, tasks);
                let local = Rc::new(local);
                client.serve(&local).unwrap();
                async move { Ok(local) }
            }
        })
        .await
        .unwrap();
        Self { client, workers }
    }

    async fn end(self) {
        let cut = self.workers.drain(SystemClock::tick().plus(Duration::from_secs(10))).await;
        assert_eq!(cut, 0, "nothing is left under way");
    }
}

fn head(method: Method, target: &str) -> RequestHead {
    RequestHead {
        method,
        target: target.into(),
        version: Version::Http11,
        fields: Fields::new(),
        upgrade: None,
    }
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

const READING: Reading = Reading {
    bytes_max: 1024,
    whole_max: Some(Duration::from_secs(20)),
    body_max: Duration::from_secs(20),
};

#[tokio::test]
async fn a_request_from_any_task_goes_by_its_route_with_its_policies() {
    let tries = AtomicUsize::new(0);
    let service = Upstream::answering(move |request| match tries.fetch_add(1, Relaxed) {
        0 => status(503),
        _ => ok(request.get("x-added").unwrap_or("nothing")),
    });
    let path = Path::start(
        &format!("  orders: {{ endpoints: '{}' }}\n", service.address()),
        "  - { name: orders, match: /orders/*, to: orders, retry: { retries: 1 }, headers: { request: { set: { x-added: by-the-route } } } }\n",
        Options::default(),
    )
    .await;
    let send = |route: &str, target: &str| {
        let (client, route, target) = (path.client.clone(), name(route), target.to_owned());
        // On the runtime of the test, which is no worker's: the future must be `Send`.
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            client.send(&route, head(Method::Get, &target), Bytes::new(), READING).await
        });
        async move { tasks.join_next().await.unwrap().unwrap() }
    };
    let answered = send("orders", "/orders/1").await.unwrap();
    assert_eq!((answered.status, &answered.body[..]), (200, &b"by-the-route"[..]));
    assert_eq!(service.seen().len(), 2, "it was tried again");
    let refused = send("nobody", "/").await.unwrap_err();
    assert_eq!(refused.reason(), Reason::Misconfigured);
    let client = path.client.clone();
    path.end().await;
    let after = client.send(&name("orders"), head(Method::Get, "/"), Bytes::new(), READING).await;
    assert_eq!(after.unwrap_err().reason(), Reason::Draining);
}

#[tokio::test]
async fn a_thousand_at_once_are_bounded_and_the_rest_wait_their_time() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counts = (Arc::clone(&now), Arc::clone(&most));
    let service = Upstream::answering(move |_| {
        counts.1.fetch_max(counts.0.fetch_add(1, Relaxed) + 1, Relaxed);
        std::thread::yield_now();
        counts.0.fetch_sub(1, Relaxed);
        ok("yes")
    });
    let path = Path::start(
        &format!("  orders: {{ endpoints: '{}' }}\n", service.address()),
        "  - { name: orders, match: /orders/*, to: orders }\n",
        Options { in_flight_max: 8, bytes_max: 16 * 1024 },
    )
    .await;
    let mut tasks = JoinSet::new();
    for number in 0..1000 {
        let client = path.client.clone();
        tasks.spawn(async move {
            let target = format!("/orders/{number}");
            client.send(&name("orders"), head(Method::Get, &target), Bytes::new(), READING).await
        });
    }
    while let Some(answered) = tasks.join_next().await {
        assert_eq!(answered.unwrap().unwrap().status, 200);
    }
    assert!(most.load(Relaxed) <= 8, "{}", most.load(Relaxed));
    // Each of the two workers has connections of its own.
    assert!(service.connections() <= 16, "{}", service.connections());
    let large = Bytes::from(vec![b'x'; 16 * 1024]);
    let refused = path.client.send(&name("orders"), head(Method::Post, "/"), large, READING).await;
    assert_eq!(refused.unwrap_err().reason(), Reason::BodyTooLarge);
    path.end().await;
}

#[tokio::test]
async fn what_is_dropped_is_given_up_and_what_waits_too_long_is_refused() {
    let (begun, arrived) = std::sync::mpsc::sync_channel(8);
    let (gone, left) = std::sync::mpsc::sync_channel(8);
    let service = Upstream::raw(move |mut conn| {
        conn.request().unwrap();
        begun.send(()).unwrap();
        // Until the other side has closed.
        conn.rest();
        gone.send(()).unwrap();
    });
    let path = Path::start(
        &format!("  orders: {{ endpoints: '{}' }}\n", service.address()),
        "  - { name: orders, match: /orders/*, to: orders, timeout: 60s }\n",
        Options { in_flight_max: 1, ..Options::default() },
    )
    .await;
    let client = path.client.clone();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        client.send(&name("orders"), head(Method::Get, "/orders/1"), Bytes::new(), READING).await
    });
    let patience = Duration::from_secs(20);
    let wait = |on: std::sync::mpsc::Receiver<()>| {
        tokio::task::spawn_blocking(move || on.recv_timeout(patience).unwrap())
    };
    wait(arrived).await.unwrap();
    let short = Reading { whole_max: Some(Duration::from_millis(30)), ..READING };
    let route = name("orders");
    let waits = path.client.send(&route, head(Method::Get, "/"), Bytes::new(), short);
    assert_eq!(waits.await.unwrap_err().reason(), Reason::Overload);
    tasks.abort_all();
    wait(left).await.unwrap();
    path.end().await;
}
