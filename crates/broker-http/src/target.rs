//! Messages on routes: as targets, requests that become messages, and the API below a path; as a policy,
//! requests that are answered later.

use std::{
    fmt,
    marker::PhantomData,
    rc::Rc,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tokio::io::duplex;
use weft_broker::{Key, engine::AnyTarget};
use weft_kernel::{Error, Reason, Result};
use weft_net::{
    Io,
    body::{Body, Frame, Source},
    message::Tunnel,
};
use weft_proxy::{
    Call, DryRun, Flow, Foreseen, Handlers, Local, LocalFuture, LocalTarget, Policy, PolicyMaker,
    PolicyOutcome, Reply, RequestContext, Sides, Stage, TargetMaker, plan::Binding,
};
use weft_wire::{Length, ResponseHead};

use crate::{
    api::{self, Surface, publish},
    deferred,
    event::Origin,
    handle::Handle,
    request,
    request::Request,
    response::{Chunks, Content, Response},
};

/// How much a WebSocket holds that the client has not taken.
const SOCKET_BYTES: usize = 64 * 1024;
/// The longest silence of a WebSocket; pings go more often.
const SOCKET_SILENCE: Duration = Duration::from_secs(60);

/// The handler of routes whose requests become messages; its settings are a [`PublishSettings`].
pub const PUBLISH: &str = "publish";
/// The handler of routes that offer the API; its settings are an [`Api`].
pub const MESSAGES: &str = "messages";
/// The policy of requests that are answered later; its settings are a [`RespondAsync`].
pub const RESPOND_ASYNC: &str = "respond_async";

/// How a request becomes a message, which is answered once it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishSettings {
    /// Where it goes.
    pub to: To,
    /// The `type` of messages that do not say theirs.
    pub event_type: Option<String>,
    /// The field whose value is the message's key; what does not have it has none.
    pub key: Option<String>,
}

/// Where messages go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// To a topic.
    Topic(String),
    /// To a queue.
    Queue(String),
}

/// Where the API of topics, queues and subscriptions stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Api {
    /// What stands before `/v1` in the path; empty for nothing.
    pub prefix: String,
}

/// How a request is answered later (RFC 7240 `respond-async`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RespondAsync {
    /// The longest time that a client may ask to wait for the answer itself.
    pub wait_max: Duration,
    /// How long the answer is kept for the client.
    pub keep: Duration,
    /// Where outside Weft a finished operation may be told, as prefixes of URLs; without any, nowhere.
    pub callbacks: Vec<String>,
}

impl fmt::Display for PublishSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.to {
            To::Topic(name) => write!(f, "topic {name}"),
            To::Queue(name) => write!(f, "queue {name}"),
        }
    }
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "messages below {}/v1", self.prefix)
    }
}

impl fmt::Display for RespondAsync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an operation that is answered later")
    }
}

/// The local handlers of messages. Routes can be bound to them before the ledger is open.
#[derive(Clone, Default)]
pub struct Targets(Arc<OnceLock<Handle>>);

impl Targets {
    /// Gives the front-end that answers from now on; the first one stays.
    pub fn open(&self, handle: Handle) {
        let _ = self.0.set(handle);
    }

    /// Adds them to the handlers of a node.
    pub fn register(&self, handlers: Handlers) -> Handlers {
        handlers
            .with_target(PUBLISH, Bind::<PublishSettings>::of(self))
            .with_target(MESSAGES, Bind::<Api>::of(self))
            .with_policy(RESPOND_ASYNC, Bind::<RespondAsync>::of(self))
    }

    fn handle(&self) -> Result<&Handle> {
        let nobody = || Error::new(Reason::Misconfigured, "the broker is not open on this node");
        self.0.get().ok_or_else(nobody)
    }
}

/// A handler of one kind of settings.
struct Bind<S>(Targets, PhantomData<fn(S)>);

impl<S> Bind<S> {
    fn of(targets: &Targets) -> Self {
        Self(targets.clone(), PhantomData)
    }
}

impl<S: Clone + Send + Sync + 'static> TargetMaker for Bind<S>
where
    Bound<S>: LocalTarget,
{
    fn make(&self, binding: &Binding) -> Result<Arc<dyn LocalTarget>, String> {
        Ok(Arc::new(Bound { targets: self.0.clone(), settings: binding.settings::<S>()? }))
    }
}

/// A target of a route.
struct Bound<S> {
    targets: Targets,
    settings: S,
}

impl LocalTarget for Bound<PublishSettings> {
    fn call<'a>(&'a self, _local: &'a Rc<Local>, call: Call) -> LocalFuture<'a, Result<Reply>> {
        Box::pin(async move { self.targets.handle()?.publish(&self.settings, call).await })
    }
}

impl LocalTarget for Bound<Api> {
    fn call<'a>(&'a self, local: &'a Rc<Local>, call: Call) -> LocalFuture<'a, Result<Reply>> {
        Box::pin(
            async move { self.targets.handle()?.api(local, &self.settings.prefix, call).await },
        )
    }

    fn upgrades(&self) -> bool {
        true
    }
}

impl PolicyMaker for Bind<RespondAsync> {
    fn make(&self, binding: &Binding) -> Result<Arc<dyn Policy>, String> {
        Ok(Arc::new(Bound { targets: self.0.clone(), settings: binding.settings()? }))
    }
}

impl Policy for Bound<RespondAsync> {
    fn stage(&self) -> Stage {
        Stage::Deferral
    }

    fn sides(&self) -> Sides {
        Sides { request: true, ..Sides::default() }
    }

    fn request<'a>(&'a self, cx: &'a mut RequestContext<'_>) -> Flow<'a> {
        // What is carried out is not put off again.
        if cx.is_internal() || !deferred::is_wanted(&cx.head().fields) {
            return Flow::Next;
        }
        Flow::wait(async move {
            let handle = self.targets.handle()?;
            let call = cx.take_call();
            deferred::defer(handle, cx.local(), &self.settings, call).await.map(Some)
        })
    }

    fn begins_requests(&self) -> bool {
        true
    }

    fn foresee(&self, cx: &mut DryRun<'_>) -> Foreseen {
        match deferred::is_wanted(&cx.view().head().fields) {
            true => Foreseen::new(PolicyOutcome::Answers(202), "it asks to be answered later"),
            false => Foreseen::new(PolicyOutcome::Passes, "it does not ask to be answered later"),
        }
    }
}

impl Handle {
    /// Makes a message of a request, or several, and answers once they are kept.
    async fn publish(&self, how: &PublishSettings, call: Call) -> Result<Reply> {
        let target: AnyTarget = match &how.to {
            To::Topic(name) => self.engines().topic(&Key::plain(name)?)?.into(),
            To::Queue(name) => self.engines().queue(&Key::plain(name)?)?.into(),
        };
        let Call { route, head, body, traceparent, .. } = call;
        let key = how.key.as_ref().and_then(|field| head.fields.named(&field.to_ascii_lowercase()));
        let key = key.map(Bytes::copy_from_slice).unwrap_or_default();
        let body = body.collect(publish::BODY_BYTES_MAX).await?;
        let intake = publish::Intake {
            fields: &head.fields,
            body: &body,
            source: head.path(),
            event_type: how.event_type.as_deref().unwrap_or(route.as_str()),
            origin: Origin::of(&head.fields, std::str::from_utf8(&traceparent).ok()),
        };
        let wish = publish::Wish { key, ..publish::Wish::default() };
        let response = publish::publish(self, &target, &intake, &wish).await?;
        let (status, fields, body) = response.into_whole();
        Ok(Reply::new(ResponseHead { status, fields }, Body::full(body)))
    }

    /// Answers a request of the API below a path.
    async fn api(&self, local: &Rc<Local>, prefix: &str, call: Call) -> Result<Reply> {
        let (mut request, body) = request_below(prefix, call);
        let path = request.path.clone();
        let response = match api::find(Surface::Route, &request.method, &path) {
            Ok(found) => {
                request.body = body.collect(found.row.operation.body_bytes_max).await?;
                self.answer_found(found, &request).await
            }
            Err(refusal) => *refusal,
        };
        Ok(reply(local, response))
    }
}

/// A request of an API that stands below a path, without its body.
pub(crate) fn request_below(prefix: &str, call: Call) -> (Request, Body) {
    let Call { head, body, client, traceparent, .. } = call;
    let path =
        head.path().strip_prefix(prefix.trim_end_matches('/')).unwrap_or_default().to_owned();
    let upgrades = head.upgrade.as_deref().is_some_and(|to| {
        to.split(',').any(|protocol| protocol.trim().eq_ignore_ascii_case("websocket"))
    });
    let request = Request {
        query: head.query().unwrap_or_default().to_owned(),
        method: head.method,
        path,
        fields: head.fields,
        body: Bytes::new(),
        upgrades,
        peer: request::Caller { client, traceparent: Some(traceparent) },
    };
    (request, body)
}

/// The response of an API, as a route answers it.
pub(crate) fn reply(local: &Rc<Local>, response: Response) -> Reply {
    let head = ResponseHead { status: response.status, fields: response.fields };
    match response.content {
        Content::Whole(body) => Reply::new(head, Body::full(body)),
        Content::Stream(chunks) => {
            Reply::new(head, Body::Source(Box::new(Streamed { chunks, over: false })))
        }
        Content::Socket(session) => {
            let (ours, theirs) = duplex(SOCKET_BYTES);
            local.tasks.spawn_part(session.talk(Box::new(ours)));
            let tunnel = Tunnel {
                io: Io::Memory(theirs),
                early: Bytes::new(),
                idle_timeout: SOCKET_SILENCE,
            };
            Reply { head, body: Body::Empty, tunnel: Some(Box::new(tunnel)) }
        }
    }
}

/// A stream as a body.
struct Streamed {
    chunks: Chunks,
    over: bool,
}

impl Source for Streamed {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        while !self.over {
            match std::task::ready!(self.chunks.as_mut().poll_next(cx)) {
                Some(Ok(chunk)) if chunk.is_empty() => {}
                Some(Ok(chunk)) => return Poll::Ready(Some(Ok(Frame::Data(chunk)))),
                Some(Err(error)) => {
                    self.over = true;
                    return Poll::Ready(Some(Err(error)));
                }
                None => self.over = true,
            }
        }
        Poll::Ready(None)
    }

    fn length(&self) -> Length {
        Length::Unknown
    }
}
