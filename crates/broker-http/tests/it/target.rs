//! The front-end on the request path: requests that become messages, the API below a path, and requests that
//! are answered later by a route.

use std::{future::Future, rc::Rc, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use serde_json::{Value, json};
use weft_api::Request;
use weft_broker_http::{
    Api, MESSAGES, PUBLISH, PublishSettings, RESPOND_ASYNC, RespondAsync, Targets, To,
};
use weft_discovery::{
    Services,
    health::{Checkup, NetProbe, Probe, ProbeFuture},
    resolve::{Lookup, LookupFuture, Query},
};
use weft_kernel::{Name, Result, Rng, SystemClock};
use weft_net::{
    Address, Tasks,
    body::Body,
    message::{self, Handler, InterimSender, Peer, Response},
    timer::TaskTimer,
};
use weft_proxy::{
    Call, Front, Handlers, Local, Observers, Reply, Snapshot,
    plan::{self, Binding},
};
use weft_telemetry::metrics;
use weft_wire::{Fields, Known, Method, RequestHead, Version};

use crate::node::Node;

/// Nothing is looked up or checked here.
struct Nobody;

impl Lookup for Nobody {
    fn lookup<'a>(&'a self, _query: &'a Query) -> LookupFuture<'a> {
        Box::pin(std::future::pending())
    }
}

impl Probe for Nobody {
    fn probe(&self, checkup: Checkup) -> ProbeFuture<'_> {
        NetProbe.probe(checkup)
    }
}

/// A worker with one route, `reports`, that answers by itself and may be asked to do so later.
fn worker(node: &Node) -> Rc<Local> {
    let policy = plan::RoutePolicies { policies: vec![later()], ..plan::RoutePolicies::default() };
    let route = plan::Route {
        name: name("reports"),
        listeners: Vec::new(),
        is_internal: false,
        matches: Vec::new(),
        policy: Arc::new(policy),
        rewrite: plan::Rewrite::default(),
        target: plan::Target::Respond(plan::Respond {
            status: 201,
            headers: vec![("content-type".into(), "text/plain".into())],
            body: b"the report"[..].into(),
        }),
    };
    let listener = plan::Listener {
        name: name("web"),
        protocol: plan::Protocol::Http,
        http: plan::Http::default(),
    };
    let plan = plan::Plan {
        listeners: vec![listener],
        routes: vec![Arc::new(route)],
        services: Vec::new(),
    };
    let services =
        Services::new(Arc::new(SystemClock), Arc::new(Nobody), Arc::new(Nobody), Rng::seeded(1));
    let metrics = metrics::Registry::new(metrics::Shards::new(1), "test");
    let now = SystemClock::tick();
    let discovered = services.prepare(Vec::new());
    let snapshot =
        Snapshot::compile(&plan, &discovered, &handlers(node), &metrics, None, now).unwrap();
    let current = Arc::new(ArcSwap::from_pointee(snapshot));
    let tasks = Tasks::new(node.stop.clone());
    Rc::new(Local::new(0, current, None, Observers::default(), tasks))
}

fn later() -> Binding {
    Binding::new(
        RESPOND_ASYNC,
        RespondAsync {
            wait_max: Duration::from_secs(60),
            keep: Duration::from_secs(60),
            callbacks: Vec::new(),
        },
    )
}

fn publish(to: To, key: Option<&str>) -> Binding {
    Binding::new(PUBLISH, PublishSettings { to, event_type: None, key: key.map(Into::into) })
}

/// What routes of a node can be bound to.
fn handlers(node: &Node) -> Handlers {
    let targets = Targets::default();
    targets.open(node.handle.clone());
    targets.register(Handlers::default())
}

/// Asks a worker as a client of its listener would.
async fn request(local: &Rc<Local>, request: Request) -> Response {
    let front = Front::new(local.clone(), name("web"));
    let address = Address::Unix(std::path::PathBuf::new());
    let Call { mut head, body, timer, .. } = call(request);
    head.fields.add(Known::Host, b"test");
    let peer = Rc::new(Peer { address, local: None, tls: None });
    front
        .call(message::Request {
            head,
            body,
            peer,
            timer,
            interim_sender: InterimSender::default(),
        })
        .await
}

/// Asks what a route would be bound to.
async fn ask(node: &Node, local: &Rc<Local>, binding: &Binding, call: Call) -> Result<Reply> {
    handlers(node).target(binding).unwrap().call(local, call).await
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn call(request: Request) -> Call {
    let target = match &*request.query {
        "" => request.path.clone(),
        query => format!("{}?{query}", request.path),
    };
    Call {
        route: name("reports"),
        head: RequestHead {
            method: request.method,
            target,
            version: Version::Http11,
            fields: request.fields,
            upgrade: request.upgrades.then(|| "websocket".into()),
        },
        body: Body::full(request.body),
        client: None,
        secure: false,
        traceparent: *b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        request_id: "id".into(),
        timer: TaskTimer::default(),
    }
}

async fn run<F: Future>(future: F) -> F::Output {
    tokio::task::LocalSet::new().run_until(future).await
}

/// Status, fields and JSON of a reply.
async fn read(reply: Result<Reply>) -> (u16, Fields, Value) {
    let reply = reply.unwrap();
    let body = reply.body.collect(1 << 20).await.unwrap();
    (reply.head.status, reply.head.fields, serde_json::from_slice(&body).unwrap_or_default())
}

#[tokio::test]
async fn requests_become_messages() {
    let node = Node::new().await;
    node.put("/v1/topics/orders", "{}").await.expect(201);
    run(async {
        let local = worker(&node);
        let target = publish(To::Topic("orders".into()), Some("x-customer"));
        let request = Request::new(Method::Post, "/incoming/orders?a=1")
            .with_field("x-customer", "42")
            .with_field("content-type", "application/json")
            .with_body("{\"total\":1}");
        let (status, _, told) = read(ask(&node, &local, &target, call(request)).await).await;
        assert_eq!((status, &told["durability"]), (200, &json!("fsync")));
        let seen = node.get("/v1/topics/orders/last").await.expect(200);
        assert_eq!(seen["key"], "42");
        let event = &seen["event"];
        assert_eq!(
            (&event["source"], &event["type"]),
            (&json!("/incoming/orders"), &json!("reports"))
        );
        assert_eq!(event["data"], json!({"total": 1}));
        assert!(event["traceparent"].as_str().unwrap().starts_with("00-0af7651916cd43dd"));
        let target = publish(To::Queue("missing".into()), None);
        let refused = ask(&node, &local, &target, call(Request::new(Method::Post, "/"))).await;
        assert_eq!(refused.err().unwrap().reason().word(), "no_queue");
    })
    .await;
}

#[tokio::test]
async fn the_api_stands_below_a_path() {
    let node = Node::new().await;
    run(async {
        let local = worker(&node);
        for (prefix, path, status) in [
            ("/messages", "/messages/v1/topics", 200),
            ("/messages/", "/messages/v1/topics", 200),
            ("", "/v1/topics", 200),
            ("/messages", "/messages/v1/ledger", 404),
            ("/messages", "/other/v1/topics", 404),
        ] {
            let target = Binding::new(MESSAGES, Api { prefix: prefix.into() });
            let asked = call(Request::new(Method::Get, path));
            let (found, ..) = read(ask(&node, &local, &target, asked).await).await;
            assert_eq!(found, status, "{prefix} {path}");
        }
        node.put("/v1/topics/t", "{}").await.expect(201);
        node.publish("/v1/topics/t", 0..3).await;
        let target = Binding::new(MESSAGES, Api { prefix: String::new() });
        let request = Request::new(Method::Get, "/v1/topics/t/messages")
            .with_field("accept", "application/x-ndjson");
        let reply = ask(&node, &local, &target, call(request)).await.unwrap();
        let lines = reply.body.collect(1 << 20).await.unwrap();
        assert_eq!(lines.iter().filter(|byte| **byte == b'\n').count(), 3);
        node.put("/v1/queues/q", "{}").await.expect(201);
        let request = Request::new(Method::Get, "/v1/queues/q/stream")
            .with_field("sec-websocket-version", "13")
            .with_field("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .upgrading();
        let reply = ask(&node, &local, &target, call(request)).await.unwrap();
        assert_eq!(reply.head.status, 101);
        assert!(reply.tunnel.is_some());
    })
    .await;
}

#[tokio::test]
async fn a_route_answers_later() {
    let node = Node::new().await;
    run(async {
        let local = worker(&node);
        let asked = |prefer: &str| {
            Request::new(Method::Post, "/reports").with_field("prefer", prefer).with_body("x")
        };
        let reply = request(&local, asked("respond-async, wait=60")).await;
        assert_eq!(reply.head.status, 201);
        let applied = reply.head.fields.named("preference-applied");
        assert_eq!(applied, Some(&b"respond-async, wait=60"[..]));
        assert_eq!(&reply.body.collect(100).await.unwrap()[..], b"the report");

        let reply = request(&local, asked("respond-async")).await;
        assert_eq!(reply.head.status, 202);
        let location = reply.head.fields.get_str(Known::Location).unwrap().to_owned();
        let told = node.get(&format!("{location}?wait=60s")).await.expect(200);
        assert_eq!(
            (&told["state"], &told["status"], &told["body"]),
            (&json!("done"), &json!(201), &json!("the report"))
        );
        let result = node.get(&format!("{location}/result")).await;
        assert_eq!((result.status, &result.body[..]), (201, &b"the report"[..]));
        let tail = Request::new(Method::Get, &location).with_field("accept", "text/event-stream");
        let events = node.send(tail).await.collect().await.unwrap();
        let events = std::str::from_utf8(&events).unwrap();
        assert!(events.contains("event: done\ndata: {\"state\":\"done\""), "{events}");
        node.delete(&location).await.refused(409, "version_conflict");
        node.get("/v1/operations/nonsense").await.refused(404, "no_message");

        let told = asked("respond-async").with_field("weft-callback", "https://a.example");
        let refused = request(&local, told).await;
        assert_eq!(refused.head.status, 400);
        let problem = refused.body.collect(1000).await.unwrap();
        let problem: Value = serde_json::from_slice(&problem).unwrap();
        assert_eq!(problem["type"], "urn:weft:problem:malformed_request");
    })
    .await;
}
