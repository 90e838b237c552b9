//! What a policy of another crate may do, whoever answers the requests of its route.

use std::{
    borrow::Cow,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use weft_kernel::{Error, Reason, Result};
use weft_net::{
    body::{Body, Frame, Source},
    clock,
};
use weft_proxy::{
    Fact, Flow, Handlers, OutgoingContext, Policy, PolicyMaker, Reading, Reply, RequestContext,
    ResponseContext, Sides, Stage, WorkerClient,
    plan::{self, Binding, BodyLimit},
};
use weft_wire::{Fields, Length, Method, RequestHead, ResponseHead, Version};

use crate::node::{Node, echo, fixed, name, route};

/// What a [`Trial`] does.
#[derive(Clone, Debug, PartialEq)]
enum Does {
    /// Answers itself.
    Answer(u16),
    /// Refuses.
    Refuse,
    /// Waits, then lets go on.
    Wait(Duration),
    /// Reads so many bytes of the body.
    Read(usize),
    /// Puts what it read in capitals, within so many bytes.
    Capitals(usize),
    /// Finds out who asks.
    Identify(&'static str),
    /// Tells who asks on.
    Tell,
    /// Adds a field to every response.
    Paint,
    /// Puts a response in capitals, within so many bytes.
    Shout(usize),
    /// Answers with how many requests it has seen.
    Count,
    /// The same, of requests that have a body.
    CountBodies,
}

impl fmt::Display for Does {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

struct Trial {
    does: Does,
    seen: AtomicU32,
}

/// Who asks.
struct Consumer(&'static str);

impl Fact for Consumer {
    fn told(&self) -> Option<(&'static str, Cow<'_, str>)> {
        Some(("consumer", self.0.into()))
    }

    fn is_counted(&self) -> bool {
        true
    }
}

impl Policy for Trial {
    fn stage(&self) -> Stage {
        match self.does {
            Does::Paint => Stage::Cors,
            Does::Identify(_) => Stage::Authentication,
            Does::Refuse | Does::Answer(_) => Stage::Authorization,
            Does::Count | Does::CountBodies => Stage::RateLimit,
            Does::Read(_) | Does::Wait(_) => Stage::Validation,
            Does::Capitals(_) | Does::Tell | Does::Shout(_) => Stage::Transform,
        }
    }

    fn sides(&self) -> Sides {
        match self.does {
            Does::CountBodies => Sides { body: true, ..Sides::default() },
            Does::Tell => Sides { outgoing: true, ..Sides::default() },
            Does::Paint | Does::Shout(_) => Sides { response: true, ..Sides::default() },
            _ => Sides { request: true, ..Sides::default() },
        }
    }

    fn request<'a>(&'a self, cx: &'a mut RequestContext<'_>) -> Flow<'a> {
        match self.does {
            Does::Answer(status) => {
                Flow::answer(Reply::new(ResponseHead::new(status), Body::Empty))
            }
            Does::Refuse => Flow::Refuse(Error::new(Reason::Overload, "not now")),
            Does::Wait(span) => Flow::wait(async move {
                let until = cx.now().plus(span);
                cx.wait(until).await?;
                assert!(cx.now() >= until);
                Ok(None)
            }),
            Does::Read(bytes_max) => Flow::wait(async move {
                let read = cx.read_body(bytes_max).await?;
                assert!(read.len() <= bytes_max);
                Ok(None)
            }),
            Does::Capitals(bytes_max) => Flow::wait(async move {
                let read = cx.read_body(bytes_max).await?;
                cx.set_body(read.to_ascii_uppercase());
                Ok(None)
            }),
            Does::Identify(who) => {
                assert_eq!((cx.route().as_str(), cx.is_secure()), ("who", false));
                cx.leave(Consumer("nobody"));
                cx.leave(Consumer(who));
                assert_eq!(cx.fact::<Consumer>().map(|consumer| consumer.0), Some(who));
                Flow::Next
            }
            Does::Count | Does::CountBodies => {
                let seen = self.seen.fetch_add(1, Ordering::Relaxed) + 1;
                let head = ResponseHead::new(200);
                Flow::answer(Reply::new(head, Body::full(seen.to_string())))
            }
            Does::Tell | Does::Paint | Does::Shout(_) => Flow::Next,
        }
    }

    fn outgoing(&self, cx: &mut OutgoingContext<'_>) {
        let who = cx.fact::<Consumer>().map_or("nobody", |consumer| consumer.0);
        cx.head_mut().fields.append("x-consumer", who.as_bytes());
    }

    fn response<'a>(&'a self, cx: &'a mut ResponseContext<'_>) -> Flow<'a> {
        if let Does::Shout(bytes_max) = self.does {
            return Flow::wait(async move {
                let read = cx.read_body(bytes_max).await?;
                cx.set_body(read.to_ascii_uppercase());
                Ok(None)
            });
        }
        let why = cx.reason().map_or("none", Reason::word);
        cx.head_mut().fields.append("x-painted", why.as_bytes());
        Flow::Next
    }
}

struct Trials;

impl PolicyMaker for Trials {
    fn make(&self, binding: &Binding) -> Result<Arc<dyn Policy>, String> {
        Ok(Arc::new(Trial { does: binding.settings()?, seen: AtomicU32::new(0) }))
    }
}

fn handlers() -> Handlers {
    Handlers::default().with_policy("trial", Trials)
}

fn policies(all: impl IntoIterator<Item = Does>) -> plan::RoutePolicies {
    let policies = all.into_iter().map(|does| Binding::new("trial", does)).collect();
    plan::RoutePolicies { policies, ..plan::RoutePolicies::default() }
}

async fn run(work: impl Future<Output = ()>) {
    tokio::task::LocalSet::new().run_until(work).await;
}

#[tokio::test]
async fn a_policy_answers_itself_or_refuses() {
    run(async {
        let refused = policies([Does::Refuse, Does::Paint]);
        let node = Node::new(
            handlers(),
            vec![
                route("tea", echo(), policies([Does::Answer(418)])),
                route("busy", echo(), refused.clone()),
                route("fixed", fixed(200, "never"), refused),
            ],
        );
        assert_eq!(node.post("/tea", "x").await.status, 418);
        for path in ["/busy", "/fixed"] {
            let busy = node.post(path, "x").await;
            assert_eq!((busy.status, busy.get("x-painted")), (503, Some("overload")), "{busy:?}");
            assert!(busy.body.contains("not now"), "{busy:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_policy_waits() {
    run(async {
        let waits = policies([Does::Wait(Duration::from_millis(5))]);
        let node = Node::new(handlers(), vec![route("late", echo(), waits)]);
        assert_eq!(node.post("/late", "x").await.body, "x");
    })
    .await;
}

#[tokio::test]
async fn a_body_is_read_within_a_bound_and_replaced() {
    run(async {
        let short =
            plan::RoutePolicies { body_bytes_max: BodyLimit(Some(3)), ..policies([Does::Read(9)]) };
        let node = Node::new(
            handlers(),
            vec![
                route("read", echo(), policies([Does::Read(5)])),
                route("loud", echo(), policies([Does::Capitals(5), Does::Read(5)])),
                route("short", echo(), short),
            ],
        );
        assert_eq!(node.post("/read", "whole").await.body, "whole", "whoever is behind has it too");
        assert_eq!(node.post("/loud", "whole").await.body, "WHOLE");
        for path in ["/read", "/loud"] {
            let long = node.post(path, "longer").await;
            assert_eq!(long.status, 413, "{long:?}");
            assert!(long.get("proxy-status").unwrap().contains("weft"), "{long:?}");
        }
        assert_eq!(node.post("/short", "four").await.status, 413, "the limit of the route holds");
        assert_eq!(node.ask("/read", Body::Empty).await.body, "");
    })
    .await;
}

/// A body of which nothing comes.
struct Silent;

impl Source for Silent {
    fn poll_frame(&mut self, _cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        Poll::Pending
    }

    fn length(&self) -> Length {
        Length::Exact(5)
    }
}

/// The clock of the runtime is paused: time passes only where somebody waits for it.
#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_waited_for_no_longer_than_the_request_may_take() {
    run(async {
        let node = Node::new(handlers(), vec![route("read", echo(), policies([Does::Read(9)]))]);
        let began = clock::now();
        let answer = node.ask("/read", Body::Source(Box::new(Silent))).await;
        assert_eq!(answer.status, 408, "{answer:?}");
        let took = clock::now().since(began);
        assert!(took <= Duration::from_secs(16), "{took:?}");
    })
    .await;
}

#[tokio::test]
async fn a_fact_is_known_to_those_behind_counted_and_told_in_the_access_log() {
    run(async {
        // The order is that of the stages, whatever the configuration says.
        let who = policies([Does::Tell, Does::Identify("alice")]);
        let node = Node::new(handlers(), vec![route("who", echo(), who)]);
        let answer = node.post("/who", "x").await;
        assert_eq!(answer.get("told-x-consumer"), Some("alice"), "{answer:?}");
        let counted = "weft_route_fact_requests_total{http_route=\"who\",fact=\"consumer\",\
                       value=\"alice\",status_class=\"2xx\"} 1";
        let scraped = node.scraped();
        assert!(scraped.contains(counted), "{scraped}");
        let log = node.logged();
        assert!(
            log.contains("\"route\":\"who\"") && log.contains("\"consumer\":\"alice\""),
            "{log}"
        );
    })
    .await;
}

#[tokio::test]
async fn every_response_of_a_route_is_seen_whoever_gives_it() {
    run(async {
        let paints = || policies([Does::Paint]);
        let fault = plan::Fault {
            delay: None,
            abort: Some((418, plan::Share { share: 1.0, header: None })),
        };
        let redirect = plan::Redirect {
            scheme: None,
            host: Some("elsewhere".into()),
            port: None,
            path: None,
            status: 307,
            strip_query: false,
        };
        let node = Node::new(
            handlers(),
            vec![
                route("echo", echo(), paints()),
                route("fixed", fixed(201, "made"), paints()),
                route("moved", plan::Target::Redirect(redirect), paints()),
                route("broken", echo(), plan::RoutePolicies { fault: Some(fault), ..paints() }),
                route(
                    "large",
                    echo(),
                    plan::RoutePolicies { body_bytes_max: BodyLimit(Some(0)), ..paints() },
                ),
            ],
        );
        for (path, status, why) in [
            ("/echo", 200, "none"),
            ("/fixed", 201, "none"),
            ("/moved", 307, "none"),
            ("/broken", 418, "fault_injected"),
            ("/large", 413, "body_too_large"),
        ] {
            let answer = node.post(path, "x").await;
            assert_eq!((answer.status, answer.get("x-painted")), (status, Some(why)), "{path}");
        }
        assert_eq!(node.post("/nowhere", "x").await.get("x-painted"), None, "it is on no route");
    })
    .await;
}

#[tokio::test]
async fn the_body_of_a_response_is_read_within_a_bound_and_replaced() {
    run(async {
        let shouts = policies([Does::Shout(5), Does::Paint]);
        let node = Node::new(handlers(), vec![route("loud", echo(), shouts)]);
        assert_eq!(node.post("/loud", "whole").await.body, "WHOLE");
        let long = node.post("/loud", "longer").await;
        assert_eq!((long.status, long.get("x-painted")), (502, Some("upstream_incomplete")));
    })
    .await;
}

#[tokio::test]
async fn requests_that_begin_inside_pass_the_policies_too() {
    run(async {
        let inner = plan::Route {
            is_internal: true,
            ..route("inner", echo(), policies([Does::Capitals(9), Does::Tell, Does::Paint]))
        };
        let node = Node::new(handlers(), vec![inner]);
        let client = WorkerClient::new(node.local.clone()).unwrap();
        let head = RequestHead {
            method: Method::Post,
            target: "/".into(),
            version: Version::Http11,
            fields: Fields::new(),
            upgrade: None,
        };
        let reading = Reading { bytes_max: 9, whole_max: None, body_max: Duration::from_secs(9) };
        let answered = client.send(&name("inner"), head, "x".into(), reading).await.unwrap();
        assert_eq!((answered.status, &answered.body[..]), (200, &b"X"[..]));
        assert_eq!(answered.fields.named("told-x-consumer"), Some(&b"nobody"[..]));
        assert_eq!(answered.fields.named("x-painted"), Some(&b"none"[..]));
    })
    .await;
}

#[tokio::test]
async fn a_policy_for_bodies_is_asked_where_there_is_one() {
    run(async {
        let counts = policies([Does::CountBodies, Does::Paint]);
        let node = Node::new(handlers(), vec![route("n", fixed(201, "as it is"), counts)]);
        assert_eq!(node.post("/n", "").await.body, "as it is");
        assert_eq!(node.post("/n", "x").await.body, "1");
        assert_eq!(node.post("/n", "").await.status, 201);
        assert_eq!(node.post("/n", "y").await.body, "2");
    })
    .await;
}

#[tokio::test]
async fn a_policy_lives_as_long_as_its_settings_stay() {
    run(async {
        let counted = |more: Option<Does>| {
            vec![route("n", echo(), policies([Does::Count].into_iter().chain(more)))]
        };
        let node = Node::new(handlers(), counted(None));
        assert_eq!(node.post("/n", "").await.body, "1");
        node.reload(counted(None)).unwrap();
        assert_eq!(node.post("/n", "").await.body, "2", "the route is still the same");
        node.reload(counted(Some(Does::Paint))).unwrap();
        assert_eq!(node.post("/n", "").await.body, "3", "the route is another, the policy is not");
        node.reload(vec![route("n", echo(), policies([Does::Answer(204)]))]).unwrap();
        node.reload(counted(None)).unwrap();
        assert_eq!(node.post("/n", "").await.body, "1", "it had gone");
    })
    .await;
}

#[tokio::test]
async fn a_name_that_the_node_does_not_have_is_an_error_of_the_plan() {
    run(async {
        let node = Node::new(handlers(), vec![route("a", echo(), plan::RoutePolicies::default())]);
        let lost = plan::Target::Local(Binding::new("lost", 0_u8));
        let unknown = plan::RoutePolicies {
            policies: vec![Binding::new("none", 0_u8)],
            ..plan::RoutePolicies::default()
        };
        let odd = plan::RoutePolicies {
            policies: vec![Binding::new("trial", 0_u8)],
            ..plan::RoutePolicies::default()
        };
        let refused = node.reload(vec![
            route("one", lost, plan::RoutePolicies::default()),
            route("two", echo(), unknown),
            route("three", echo(), odd),
        ]);
        let errors = refused.unwrap_err();
        let told = [
            "route one: this node has no handler `lost`",
            "route two: this node has no policy `none`",
            "route three: `trial` is told what is meant for another",
        ];
        assert_eq!(errors, told);
        assert_eq!(node.post("/a", "x").await.status, 200, "what was in force stays");
    })
    .await;
}
