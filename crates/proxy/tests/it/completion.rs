//! What a policy is told of the end of a request that it has carried out, whoever waits for that.

use std::{
    rc::Rc,
    sync::{Arc, Mutex},
    time::Duration,
};

use weft_kernel::{Error, Reason, Result};
use weft_net::body::Body;
use weft_proxy::{
    Call, Completion, Flow, Handlers, Local, LocalFuture, LocalTarget, Policy, PolicyMaker, Reply,
    RequestContext, Sides, Stage, TargetFailure, TargetMaker,
    plan::{self, Binding, RoutePolicies},
};
use weft_wire::ResponseHead;

use crate::node::{Node, route};

type Told = Arc<Mutex<Vec<String>>>;

/// Has every request carried out, and notes what it is told.
#[derive(Clone)]
struct Carrier(Told);

impl PolicyMaker for Carrier {
    fn make(&self, _: &Binding) -> Result<Arc<dyn Policy>, String> {
        Ok(Arc::new(self.clone()))
    }
}

impl Policy for Carrier {
    fn stage(&self) -> Stage {
        Stage::Idempotency
    }

    fn sides(&self) -> Sides {
        Sides { request: true, ..Sides::default() }
    }

    fn request<'a>(&'a self, cx: &'a mut RequestContext<'_>) -> Flow<'a> {
        cx.carry_out(Box::new(Noted(self.0.clone())));
        cx.send_once();
        Flow::Next
    }
}

struct Noted(Told);

impl Completion for Noted {
    fn answered(self: Box<Self>, head: &ResponseHead, body: Body) -> LocalFuture<'static, Body> {
        let status = head.status;
        Box::pin(async move {
            let body = body.collect(1000).await.unwrap();
            let text = String::from_utf8_lossy(&body).into_owned();
            self.0.lock().unwrap().push(format!("{status} {text}"));
            Body::full(format!("{text}!"))
        })
    }

    fn failed(self: Box<Self>, failure: TargetFailure) -> LocalFuture<'static, ()> {
        self.0.lock().unwrap().push(format!("failed, reached: {}", failure.reached));
        Box::pin(std::future::ready(()))
    }
}

/// A policy behind it that answers or refuses.
struct Behind;

impl PolicyMaker for Behind {
    fn make(&self, binding: &Binding) -> Result<Arc<dyn Policy>, String> {
        Ok(Arc::new(Says(binding.settings::<u16>()?)))
    }
}

struct Says(u16);

impl Policy for Says {
    fn stage(&self) -> Stage {
        Stage::Deferral
    }

    fn sides(&self) -> Sides {
        Sides { request: true, ..Sides::default() }
    }

    fn request<'a>(&'a self, _: &'a mut RequestContext<'_>) -> Flow<'a> {
        match self.0 {
            0 => Flow::Refuse(Error::new(Reason::Overload, "not now")),
            status => Flow::answer(Reply::new(ResponseHead::new(status), Body::full("later"))),
        }
    }
}

/// A local target that takes a second, and counts those that it has begun and ended.
#[derive(Clone)]
struct Slow(Told);

impl TargetMaker for Slow {
    fn make(&self, _: &Binding) -> Result<Arc<dyn LocalTarget>, String> {
        Ok(Arc::new(self.clone()))
    }
}

impl LocalTarget for Slow {
    fn call<'a>(&'a self, _: &'a Rc<Local>, call: Call) -> LocalFuture<'a, Result<Reply>> {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let body = call.body.collect(1000).await?;
            self.0.lock().unwrap().push("done".to_owned());
            match &*body {
                b"unknown" => Err(Error::new(Reason::TryTimeout, "nobody answered")),
                b"unreached" => Err(Error::new(Reason::ConnectRefused, "nobody is there")),
                _ => Ok(Reply::new(ResponseHead::new(201), Body::full(body))),
            }
        })
    }
}

fn node(told: &Told) -> Node {
    let handlers = Handlers::default()
        .with_policy("carry", Carrier(told.clone()))
        .with_policy("behind", Behind)
        .with_target("slow", Slow(told.clone()));
    let policy = |more: &[u16]| {
        let mut policies = vec![Binding::new("carry", 0_u8)];
        policies.extend(more.iter().map(|says| Binding::new("behind", *says)));
        RoutePolicies { policies, ..RoutePolicies::default() }
    };
    let slow = || plan::Target::Local(Binding::new("slow", 0_u8));
    let routes = vec![
        route("slow", slow(), policy(&[])),
        route("deferred", slow(), policy(&[202])),
        route("refused", slow(), policy(&[0])),
    ];
    Node::new(handlers, routes)
}

fn on_worker(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(tokio::task::LocalSet::new().run_until(test));
}

fn taken(told: &Told) -> Vec<String> {
    std::mem::take(&mut *told.lock().unwrap())
}

#[test]
fn it_sees_the_answer_first_and_may_change_its_body() {
    on_worker(async {
        let told = Told::default();
        let node = node(&told);
        let answer = node.post("/slow", "hi").await;
        assert_eq!((answer.status, &*answer.body), (201, "hi!"));
        assert_eq!(taken(&told), ["done", "201 hi"]);
        // What a policy behind it answers is the answer.
        let answer = node.post("/deferred", "hi").await;
        assert_eq!((answer.status, &*answer.body), (202, "later!"));
        assert_eq!(taken(&told), ["202 later"]);
        let log = node.logged();
        assert_eq!(log.lines().count(), 2, "each is told once: {log}");
    });
}

#[test]
fn it_is_told_why_there_is_no_answer() {
    on_worker(async {
        let told = Told::default();
        let node = node(&told);
        for (path, body, status, what) in [
            ("/slow", "unknown", 504, &["done", "failed, reached: true"][..]),
            ("/slow", "unreached", 502, &["done", "failed, reached: false"]),
            ("/refused", "hi", 503, &["failed, reached: false"]),
        ] {
            assert_eq!(node.post(path, body).await.status, status, "{path} {body}");
            assert_eq!(taken(&told), what, "{path} {body}");
        }
    });
}

#[test]
fn a_client_that_leaves_takes_nothing_back_and_is_told_of_as_gone() {
    on_worker(async {
        let told = Told::default();
        let node = node(&told);
        {
            let asks = std::pin::pin!(node.post("/slow", "hi"));
            let soon = tokio::time::timeout(Duration::from_millis(10), asks).await;
            assert!(soon.is_err());
        }
        assert_eq!(taken(&told), [""; 0]);
        assert_eq!(node.local.tasks.count(), 2, "it goes on, beside the sweep of the pool");
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(taken(&told), ["done", "201 hi"]);
        let log = node.logged();
        assert_eq!(log.lines().count(), 1, "{log}");
        assert!(
            log.contains("\"reason\":\"caller_gone\"") && log.contains("\"route\":\"slow\""),
            "{log}"
        );
    });
}
