//! What policies see of a request and a response, and may do to them.
//!
//! The contexts are narrow on purpose: what the request path counts, holds and decides is not reached
//! through them. Time, chance and whatever else is of one worker is taken from them, so that a policy
//! itself can be shared by all workers.

use std::{borrow::Cow, cell::RefMut, net::IpAddr, pin::pin, rc::Rc};

use bytes::Bytes;
use weft_identity::peer::Names;
use weft_kernel::{Deadline, Error, Name, Reason, Result, Rng, Tick};
use weft_net::{body::Body, clock, message::Peer, timer::TaskTimer};
use weft_wire::{Known, Length, Method, RequestHead, ResponseHead};

use super::{Completion, Fact, Facts, KEPT_PREFIX, RequestView, dry_run::HostOf, gathered};
use crate::{
    answer::Answer,
    exchange::Exchange,
    front::{self, Walk},
    handler::Call,
    local::Local,
    outgoing,
    received::Received,
    worker_client::LISTENER,
};

/// A request before anybody is asked.
pub struct RequestContext<'a> {
    pub(crate) exchange: &'a mut Exchange,
    pub(crate) walk: &'a Walk<'a>,
    pub(crate) body: &'a mut Body,
    pub(crate) timer: &'a TaskTimer,
}

impl RequestContext<'_> {
    /// The head as it was received, checked and with a normal path. What is to be changed of it for
    /// whoever is asked is changed by [`Policy::outgoing`](super::Policy::outgoing).
    pub fn head(&self) -> &RequestHead {
        &self.exchange.received.head
    }

    /// What there is to look at.
    pub fn view(&self) -> RequestView<'_> {
        let Exchange { view, received, record, .. } = &*self.exchange;
        let Walk { route, found, captures } = self.walk;
        RequestView {
            head: &received.head,
            method: received.routed_method(),
            host: HostOf::Received(received),
            route,
            found,
            captures,
            listener: &view.listener.name,
            client: received.client,
            is_secure: received.secure,
            certificate: received.certificate.as_ref().map(|shown| (shown, &*received.peer)),
            facts: &record.facts,
        }
    }

    /// The host that is asked for, in lower case and without its port.
    pub fn host(&self) -> Cow<'_, str> {
        front::plain_host(self.exchange.received.host())
    }

    /// The target as the client sent it, before its path was made normal.
    pub fn target_as_sent(&self) -> &str {
        let received = &self.exchange.received;
        received.original.as_deref().unwrap_or(&received.head.target)
    }

    /// Whether the request has a body, be it empty in the end.
    pub const fn has_body(&self) -> bool {
        !matches!(self.body, Body::Empty)
    }

    /// The host that is asked for as it was sent, with its port if that was said.
    pub fn authority(&self) -> &str {
        self.exchange.received.host()
    }

    /// The name of the route.
    pub fn route(&self) -> &Name {
        &self.walk.route.name
    }

    /// The name of the listener.
    pub fn listener(&self) -> &Name {
        &self.exchange.view.listener.name
    }

    /// Whether the request began inside Weft: a delivery that is pushed, or an operation.
    pub fn is_internal(&self) -> bool {
        self.listener().as_str() == LISTENER
    }

    /// The connection that it came by.
    pub fn peer(&self) -> &Peer {
        &self.exchange.received.peer
    }

    /// The names in the client's certificate, which the handshake has verified; `None` if it has shown none.
    pub fn certificate(&self) -> Option<&Names> {
        let received = &self.exchange.received;
        received.certificate.as_ref()?.names(&received.peer)
    }

    /// The client's address, as far as it can be believed.
    pub fn client(&self) -> Option<IpAddr> {
        self.exchange.received.client
    }

    /// Whether the client came by TLS.
    pub fn is_secure(&self) -> bool {
        self.exchange.received.secure
    }

    /// Whether it is a call of gRPC.
    pub fn is_grpc(&self) -> bool {
        self.exchange.received.grpc.is_some()
    }

    /// The id by which the request is found in every log.
    pub fn request_id(&self) -> &str {
        self.exchange.received.request_id.as_str()
    }

    /// The deadline that the caller set itself.
    pub fn deadline(&self) -> Deadline {
        self.exchange.received.deadline
    }

    /// The clock as it was last looked at; [`wait`](Self::wait) looks at it again.
    pub fn now(&self) -> Tick {
        self.exchange.now
    }

    /// The worker.
    pub fn local(&self) -> &Rc<Local> {
        &self.exchange.local
    }

    /// The worker's chance. Not to be held over an await.
    pub fn rng(&self) -> RefMut<'_, Rng> {
        self.exchange.local.rng.borrow_mut()
    }

    /// Waits until then, and no longer than the request may take.
    ///
    /// # Errors
    /// [`Reason::RequestTimeout`] when the deadline of the caller or of the route comes before.
    pub async fn wait(&mut self, until: Tick) -> Result<()> {
        let request = self.walk.route.policy.timeout.request;
        let Exchange { received, upload, .. } = &*self.exchange;
        let deadline = upload.deadline(received.began, clock::now(), received.deadline, request);
        self.timer.until(until.min(deadline.tick())).await;
        self.exchange.now = clock::now();
        if until <= deadline.tick() {
            return Ok(());
        }
        Err(Error::new(
            Reason::RequestTimeout,
            "the deadline passed while a policy of the route waited",
        ))
    }

    /// Takes off a head what belongs to the client's connection, and writes who the client is and which way the
    /// request came, as a service will be told it.
    pub fn hand_on(&self, head: &mut RequestHead) {
        let Exchange { view, received, .. } = &*self.exchange;
        outgoing::hand_on(received, &view.listener.http.via, head);
    }

    /// Leaves a fact for those behind; one of its kind that is there already goes.
    pub fn leave(&mut self, fact: impl Fact) {
        self.exchange.record.facts.leave(fact);
    }

    /// A fact that was left before.
    pub fn fact<F: Fact>(&self) -> Option<&F> {
        self.exchange.record.facts.get()
    }

    /// Bounds the body; the least of several bounds counts.
    ///
    /// # Errors
    /// [`Reason::BodyTooLarge`] if the body says itself that it is longer.
    pub fn limit_body(&mut self, bytes_max: u64) -> Result<()> {
        self.exchange.upload.limit(self.body.length(), bytes_max)
    }

    /// Reads the body whole, and leaves it for those behind: within the time that the route gives a request, counted
    /// from when it came, and as far as the worker has room for what it gathers.
    ///
    /// # Errors
    /// [`Reason::BodyTooLarge`] if it is longer than `bytes_max`, [`Reason::BodyTimeout`], [`Reason::Overload`], and
    /// what breaks it off.
    pub async fn read_body(&mut self, bytes_max: usize) -> Result<Bytes> {
        self.gather_body(bytes_max, |_| Ok(())).await
    }

    /// How long the body says that it is.
    pub fn body_length(&self) -> Length {
        self.body.length()
    }

    /// Reads the body as [`read_body`](Self::read_body) does; `count` is told of each piece before that is kept.
    ///
    /// # Errors
    /// Those of reading, and what `count` says.
    pub async fn gather_body(
        &mut self,
        bytes_max: usize,
        mut count: impl FnMut(usize) -> Result<()>,
    ) -> Result<Bytes> {
        let mut held = self.exchange.local.gathering.begin();
        let received = &self.exchange.received;
        let span = self.walk.route.policy.timeout.request;
        let until = span.map_or(Tick::NEVER, |span| received.began.plus(span));
        let until = until.min(received.deadline.tick());
        let bytes = {
            let count = |bytes| {
                held.add(bytes)?;
                count(bytes)
            };
            let read = pin!(gathered::read(self.body, bytes_max, count));
            self.timer.within(until, read).await
        };
        self.exchange.now = clock::now();
        self.exchange.record.facts.leave(held);
        bytes.unwrap_or_else(|_late| {
            let say = "the request body was not here in full within the time for the request";
            Err(Error::new(Reason::BodyTimeout, say))
        })
    }

    /// Whether the request asks that its connection be joined to another: extended CONNECT, or a GET without a
    /// body that upgrades. A service may carry out any other request with `Upgrade` as if that were not there.
    pub fn is_tunnel(&self) -> bool {
        let head = self.head();
        let joins = match head.method {
            Method::Connect => true,
            Method::Get => self.body.is_empty(),
            _ => false,
        };
        head.upgrade.is_some() && joins
    }

    /// Puts another body in the place of what is left of the one there is.
    pub fn set_body(&mut self, body: impl Into<Bytes>) {
        *self.body = Body::full(body);
    }

    /// Puts the body into another that hands it on, at its own pace or with an eye on what passes. It has to
    /// pass on everything of [`Source`](weft_net::body::Source), and to gather nothing.
    pub fn wrap_body(&mut self, within: impl FnOnce(Body) -> Body) {
        *self.body = within(std::mem::take(self.body));
    }

    /// What comes of `work`; `None` if the instant, or the deadline of the caller or of the route, comes
    /// before. The work comes pinned.
    pub async fn wait_for<T>(
        &mut self,
        until: Tick,
        work: impl Future<Output = T> + Unpin,
    ) -> Option<T> {
        let request = self.walk.route.policy.timeout.request;
        let Exchange { received, upload, .. } = &*self.exchange;
        let deadline = upload.deadline(received.began, clock::now(), received.deadline, request);
        let done = self.timer.within(until.min(deadline.tick()), work).await;
        self.exchange.now = clock::now();
        done.ok()
    }

    /// Has the request carried out to its end, whether the client waits for that or not, and its completion
    /// told what came of it.
    pub fn carry_out(&mut self, completion: Box<dyn Completion>) {
        self.exchange.record.completion = Some(completion);
    }

    /// Has the request sent once alone: a try that may have reached a service is followed by no other, to
    /// that service or to one behind it, unless its method is idempotent or the route repeats unsafe methods.
    pub fn send_once(&mut self) {
        self.exchange.record.sending.once();
    }

    /// The request as a local handler is handed it, body and all, to be carried out later: told of the
    /// client and the way as a service would be, but not of a deadline, since nobody waits for it. Policies of
    /// the route say what of it is [kept](super::Policy::keep).
    pub fn take_call(&mut self) -> Call {
        let Exchange { view, received, record, local, .. } = &mut *self.exchange;
        let mut head = received.head.clone();
        head.fields.retain(|name, _| !name.starts_with(KEPT_PREFIX));
        for policy in &self.walk.route.policies.outgoings {
            policy.keep(&mut OutgoingContext {
                local,
                received,
                facts: &record.facts,
                head: &mut head,
                first: None,
                service: None,
            });
        }
        outgoing::hand_on(received, &view.listener.http.via, &mut head);
        const NOT_KEPT: [Known; 4] =
            [Known::Expect, Known::Via, Known::GrpcTimeout, Known::XRequestTimeout];
        NOT_KEPT.into_iter().for_each(|known| head.fields.remove(known));
        let body = std::mem::take(self.body);
        Call::of(received, head, &self.walk.route, body, self.timer)
    }
}

/// A request as a service or a local handler is about to be asked it.
pub struct OutgoingContext<'a> {
    pub(crate) local: &'a Rc<Local>,
    pub(crate) received: &'a Received,
    pub(crate) facts: &'a Facts,
    pub(crate) head: &'a mut RequestHead,
    /// The body, and what is done with the first try, when a service is asked first.
    pub(crate) first: Option<First<'a>>,
    pub(crate) service: Option<&'a Name>,
}

/// What there is of a request to a service that is asked first, and not as a fallback.
pub(crate) struct First<'a> {
    pub(crate) body: &'a mut Body,
    pub(crate) on_try: &'a mut Option<Box<dyn FnOnce()>>,
}

impl OutgoingContext<'_> {
    /// The head as it is so far.
    pub fn head(&self) -> &RequestHead {
        self.head
    }

    /// The head, to be changed.
    pub fn head_mut(&mut self) -> &mut RequestHead {
        self.head
    }

    /// The service that is asked; `None` for a local handler.
    pub fn service(&self) -> Option<&Name> {
        self.service
    }

    /// Whether that service is one that the route leads to, and no fallback.
    pub const fn is_first(&self) -> bool {
        self.first.is_some()
    }

    /// The client's address, as far as it can be believed.
    pub fn client(&self) -> Option<IpAddr> {
        self.received.client
    }

    /// Whether it is a call of gRPC.
    pub fn is_grpc(&self) -> bool {
        self.received.grpc.is_some()
    }

    /// A fact that was left before.
    pub fn fact<F: Fact>(&self) -> Option<&F> {
        self.facts.get()
    }

    /// The worker.
    pub fn local(&self) -> &Rc<Local> {
        self.local
    }

    /// The worker's chance.
    pub fn rng(&self) -> RefMut<'_, Rng> {
        self.local.rng.borrow_mut()
    }
}

/// A response on its way to the client, whoever has given it.
pub struct ResponseContext<'a> {
    pub(crate) exchange: &'a mut Exchange,
    pub(crate) answer: &'a mut Answer,
}

impl ResponseContext<'_> {
    /// The head of the request: as it was received, or as the service was told it.
    pub fn request(&self) -> &RequestHead {
        self.exchange.head()
    }

    /// The head of the response.
    pub fn head(&self) -> &ResponseHead {
        &self.answer.head
    }

    /// The head of the response, to be changed.
    pub fn head_mut(&mut self) -> &mut ResponseHead {
        &mut self.answer.head
    }

    /// Why Weft itself answers, if it does so because it could not or would not do what was asked.
    pub fn reason(&self) -> Option<Reason> {
        self.exchange.record.reason
    }

    /// Whether a service has answered.
    pub fn is_from_service(&self) -> bool {
        self.exchange.record.answered.is_some() && self.exchange.record.reason.is_none()
    }

    /// Whether the client came by TLS.
    pub fn is_secure(&self) -> bool {
        self.exchange.received.secure
    }

    /// Whether the connection is joined to another after this response.
    pub fn is_tunnel(&self) -> bool {
        self.answer.tunnel.is_some()
    }

    /// The time since the request came.
    pub fn took(&self) -> std::time::Duration {
        clock::now().since(self.exchange.received.began)
    }

    /// The worker.
    pub fn local(&self) -> &Rc<Local> {
        &self.exchange.local
    }

    /// The worker's chance. Not to be held over an await.
    pub fn rng(&self) -> RefMut<'_, Rng> {
        self.exchange.local.rng.borrow_mut()
    }

    /// Leaves a fact for those that see the response after this one, and for what is told.
    pub fn leave(&mut self, fact: impl Fact) {
        self.exchange.record.facts.leave(fact);
    }

    /// A fact that was left before.
    pub fn fact<F: Fact>(&self) -> Option<&F> {
        self.exchange.record.facts.get()
    }

    /// Reads the body whole, and leaves it for those behind.
    ///
    /// # Errors
    /// [`Reason::UpstreamIncomplete`] if it is longer than `bytes_max`, and what breaks it off.
    pub async fn read_body(&mut self, bytes_max: usize) -> Result<Bytes> {
        gathered::read(&mut self.answer.body, bytes_max, |_| Ok(())).await.map_err(|error| {
            match error.reason() {
                // The client has sent nothing that is too large.
                Reason::BodyTooLarge => Error::new(
                    Reason::UpstreamIncomplete,
                    format!(
                        "the response is longer than the {bytes_max} bytes that a policy reads"
                    ),
                ),
                _ => error,
            }
        })
    }

    /// Puts another body in the place of the one there is.
    pub fn set_body(&mut self, body: impl Into<Bytes>) {
        self.answer.head.fields.remove(Known::ContentLength);
        self.answer.body = Body::full(body);
    }

    /// Puts the body into another that hands it on, at its own pace or with an eye on what passes. It has to
    /// pass on everything of [`Source`](weft_net::body::Source), and to gather nothing.
    pub fn wrap_body(&mut self, within: impl FnOnce(Body) -> Body) {
        self.answer.body = within(std::mem::take(&mut self.answer.body));
    }
}
