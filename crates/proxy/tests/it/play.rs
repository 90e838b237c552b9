//! Requests to the services of a stage, in paused time: what came of them, and what was held at the end.

use std::{
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::{Sleep, sleep};
use weft_kernel::{Error, Reason, Result, Rng};
use weft_net::body::{Body, Frame, Source};
use weft_proxy::{
    Handlers, Means,
    plan::{self, RoutePolicies},
};
use weft_wire::{Fields, Known, Length, Method, RequestHead, Version};

use crate::{
    node::{Node, name, route},
    stage::{Act, Connector, Stage},
};

/// A request of a client.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    /// When it is sent, in milliseconds.
    pub(crate) at: u64,
    pub(crate) method: Method,
    pub(crate) fields: Vec<(&'static str, String)>,
    pub(crate) sends: Sends,
    /// When the client goes away, in milliseconds after it has asked.
    pub(crate) leaves: Option<u64>,
}

/// A request body.
#[derive(Clone, Debug)]
pub(crate) enum Sends {
    Nothing,
    /// So many bytes at once.
    Whole(usize),
    /// So many pieces, one after so many milliseconds each, of so many bytes.
    Pieces(usize, u64, usize),
    /// One piece, and then it breaks off after so many milliseconds.
    Breaks(u64),
}

impl Ask {
    pub(crate) fn get() -> Self {
        let fields = Vec::new();
        Self { at: 0, method: Method::Get, fields, sends: Sends::Nothing, leaves: None }
    }

    pub(crate) fn post() -> Self {
        Self { method: Method::Post, ..Self::get() }
    }

    pub(crate) fn put(sends: Sends) -> Self {
        Self { method: Method::Put, sends, ..Self::get() }
    }

    pub(crate) fn at(self, at: u64) -> Self {
        Self { at, ..self }
    }

    pub(crate) fn field(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    pub(crate) fn leaves(self, after: u64) -> Self {
        Self { leaves: Some(after), ..self }
    }
}

/// What a client was answered.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Told {
    pub(crate) status: u16,
    /// When the head came.
    pub(crate) at: Duration,
    /// The body, or why it broke off.
    pub(crate) body: std::result::Result<Bytes, Reason>,
}

/// All that there is to a test.
pub(crate) struct Play {
    pub(crate) first: Vec<Act>,
    pub(crate) second: Vec<Act>,
    pub(crate) services: Vec<plan::Service>,
    pub(crate) policy: RoutePolicies,
    pub(crate) asks: Vec<Ask>,
    pub(crate) tells: &'static [&'static str],
    pub(crate) seed: u64,
}

/// What came of it.
pub(crate) struct Outcome {
    pub(crate) stage: Rc<Stage>,
    /// What each client was answered; `None` for one that went away.
    pub(crate) told: Vec<Option<Told>>,
    /// The lines of the access log.
    pub(crate) log: Vec<String>,
    /// What was still held at the end.
    pub(crate) held: Vec<String>,
}

impl Play {
    /// Plays it to its end.
    pub(crate) fn run(self) -> Outcome {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, self.perform())
    }

    async fn perform(self) -> Outcome {
        let stage = Stage::new(&self.first, &self.second, self.tells);
        let means =
            Means { connector: Rc::new(Connector(stage.clone())), rng: Rng::seeded(self.seed) };
        let to = vec![plan::Weighted { service: name("first"), weight: 1 }];
        let routes = vec![route("r", plan::Target::Services(to), self.policy)];
        let node = Rc::new(Node::with(Handlers::default(), routes, self.services, means));
        let clients = self.asks.iter().cloned().enumerate().map(|(number, ask)| {
            let (stage, node) = (stage.clone(), node.clone());
            tokio::task::spawn_local(async move { ask.send(number, &stage, &node).await })
        });
        let clients: Vec<_> = clients.collect();
        let mut told = Vec::new();
        for client in clients {
            told.push(client.await.unwrap());
        }
        // What is left behind is given back at once.
        sleep(Duration::from_millis(1)).await;
        let held = held(&node);
        let node = Rc::into_inner(node).expect("all clients are gone");
        let log = node.logged().lines().map(str::to_owned).collect();
        Outcome { stage, told, log, held }
    }
}

/// Whatever is still counted as being in flight.
fn held(node: &Node) -> Vec<String> {
    let mut held = Vec::new();
    let snapshot = node.local.current.load();
    for upstream in snapshot.services.values() {
        for member in upstream.discovered.set().members() {
            let (label, active) = (member.endpoint.label(), member.endpoint.active());
            if active > 0 {
                held.push(format!("{active} at {label}"));
            }
        }
        let places = upstream.bulkhead.as_ref().map(|bulkhead| bulkhead.snapshot());
        if let Some(places) = places.filter(|places| places.in_flight + places.queued > 0) {
            held.push(format!("{places:?}"));
        }
    }
    held
}

impl Ask {
    async fn send(self, number: usize, stage: &Stage, node: &Node) -> Option<Told> {
        sleep(Duration::from_millis(self.at)).await;
        let mut fields = Fields::new();
        fields.add(Known::Host, b"test");
        fields.add(Known::XRequestId, format!("request-{number}").as_bytes());
        for (name, value) in &self.fields {
            assert!(fields.append(name, value.as_bytes()), "{name}");
        }
        let head = RequestHead {
            method: self.method,
            target: "/r".into(),
            version: Version::Http11,
            fields,
            upgrade: None,
        };
        let answered = async {
            let response = node.call(head, self.sends.body()).await;
            let status = response.head.status;
            let at = stage.at();
            stage.tell(&format!("-> {status}"));
            let mut body = response.body;
            let mut all = Vec::new();
            let end = loop {
                match body.frame().await {
                    Some(Ok(Frame::Data(bytes))) => all.extend_from_slice(&bytes),
                    Some(Ok(Frame::Trailers(_))) => {}
                    Some(Err(error)) => break Err(error.reason()),
                    None => break Ok(()),
                }
            };
            if let Err(reason) = end {
                stage.tell(reason.word());
            }
            if let Some(done) = response.done {
                done.end(all.len() as u64, end);
            }
            Told { status, at, body: end.map(|()| all.into()) }
        };
        let Some(leaves) = self.leaves else { return Some(answered.await) };
        let told = tokio::time::timeout(Duration::from_millis(leaves), answered).await.ok();
        if told.is_none() {
            stage.tell("the client leaves");
        }
        told
    }
}

/// The byte at a place of a body, so that what is sent again can be told from what is not.
pub(crate) fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| b'a' + u8::try_from(at % 23).unwrap()).collect()
}

impl Sends {
    /// How many bytes they are, if all are sent.
    pub(crate) const fn len(&self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Whole(len) => *len,
            Self::Pieces(number, _, len) => *number * *len,
            Self::Breaks(_) => 2,
        }
    }

    fn body(&self) -> Body {
        match self {
            Self::Nothing => Body::Empty,
            Self::Whole(len) => Body::full(bytes(*len)),
            Self::Pieces(number, after, len) => {
                let all = Bytes::from(bytes(self.len()));
                let pieces = (0..*number).map(|at| all.slice(at * len..(at + 1) * len));
                Body::Source(Box::new(Slow {
                    left: pieces.rev().collect(),
                    length: all.len(),
                    after: Duration::from_millis(*after),
                    breaks: false,
                    wait: None,
                }))
            }
            Self::Breaks(after) => Body::Source(Box::new(Slow {
                left: vec![Bytes::from_static(b"a")],
                length: 2,
                after: Duration::from_millis(*after),
                breaks: true,
                wait: None,
            })),
        }
    }
}

/// A body that comes in pieces.
struct Slow {
    /// The next is the last of them.
    left: Vec<Bytes>,
    length: usize,
    after: Duration,
    breaks: bool,
    wait: Option<Pin<Box<Sleep>>>,
}

impl Source for Slow {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        if self.left.is_empty() && !self.breaks {
            return Poll::Ready(None);
        }
        let wait = self.wait.get_or_insert_with(|| Box::pin(sleep(self.after)));
        std::task::ready!(wait.as_mut().poll(cx));
        self.wait = None;
        Poll::Ready(Some(match self.left.pop() {
            Some(piece) => Ok(Frame::Data(piece)),
            None => Err(Error::new(Reason::CallerGone, "the client broke its body off")),
        }))
    }

    fn length(&self) -> Length {
        Length::Exact(self.length as u64)
    }
}
