//! The client's part of an exchange: how far the request body has come, and what became of it.
//!
//! A service is answerable only for the time in which it had what it needs. So the time that a client
//! takes to send is told apart here from the time that the service takes to answer, and what a client
//! does wrong within its body is kept apart from what the service then makes of it.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use weft_kernel::{ByteSize, Deadline, Error, Reason, Result, Tick, format_duration};
use weft_net::{
    body::{Body, Frame, Source},
    clock,
    timer::TaskTimer,
};
use weft_wire::Length;

use crate::route::Route;

/// For how long a client must have sent nothing for it to be laid to the client that its service gives up.
const STALLED: Duration = Duration::from_secs(1);

/// How far a request body has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stage {
    /// All of it is here, or there is none.
    #[default]
    Whole,
    /// There is more, and it is not the client that keeps it back.
    Moving,
    /// The client has to send more, or waits to be asked for it.
    Waiting,
    /// The client broke it off.
    Broken,
}

/// What is known of a request body on its way, and of how its response ends.
#[derive(Default)]
pub(crate) struct Upload {
    bytes: Cell<u64>,
    /// The most bytes that may pass.
    bytes_max: Cell<Option<u64>>,
    stage: Cell<Stage>,
    /// When the client last sent what had been waited for, or the end came.
    came: Cell<Tick>,
    /// Since when the client has to send more.
    since: Cell<Tick>,
    fault: RefCell<Option<(Reason, Box<str>)>>,
    /// How a call of gRPC ended, as its response says, if that is known.
    status: Cell<Option<u8>>,
    /// Why the response was ended with a status of gRPC, if it was.
    cut: Cell<Option<Reason>>,
}

impl Upload {
    /// How many bytes have passed.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// Adds bytes that passed in another way.
    pub(crate) fn add(&self, bytes: u64) {
        self.bytes.set(self.bytes.get() + bytes);
    }

    /// Bounds the body that is here, in bytes; the least of several bounds counts.
    pub(crate) fn limit(&self, length: Length, bytes_max: u64) -> Result<()> {
        if let Length::Exact(length) = length
            && length > bytes_max
        {
            return Err(too_large(bytes_max));
        }
        let least = self.bytes_max.get().map_or(bytes_max, |max| max.min(bytes_max));
        self.bytes_max.set(Some(least));
        Ok(())
    }

    pub(crate) fn stage(&self) -> Stage {
        self.stage.get()
    }

    /// When the service had the whole request that began then; `None` while there is more to come.
    pub(crate) fn whole(&self, began: Tick) -> Option<Tick> {
        (self.stage.get() == Stage::Whole).then(|| began.max(self.came.get()))
    }

    /// The deadline of a request that began then, as far as it is known now: the caller's own, and the
    /// route's `request`. While the request is not whole, the service has all of its time still before it.
    pub(crate) fn deadline(
        &self,
        began: Tick,
        now: Tick,
        asked: Deadline,
        request: Option<Duration>,
    ) -> Deadline {
        let from = self.whole(began).unwrap_or(now);
        request.map_or(Deadline::NONE, |span| Deadline::after(from, span)).min(asked)
    }

    /// From when on a service that was asked then can be held to have worked: not before it had what
    /// the client sent.
    pub(crate) fn handed(&self, asked: Tick) -> Tick {
        asked.max(self.came.get())
    }

    /// Notes that the client broke its body off.
    pub(crate) fn break_off(&self, error: &Error) {
        self.stage.set(Stage::Broken);
        let mut fault = self.fault.borrow_mut();
        if fault.is_none() {
            *fault = Some((error.reason(), error.said().into()));
        }
    }

    /// What the client did wrong, if it did.
    pub(crate) fn fault(&self) -> Option<Error> {
        let fault = self.fault.borrow();
        fault.as_ref().map(|(reason, say)| Error::new(*reason, say.to_string()))
    }

    /// Whether the client keeps the service waiting for so long that the service may give it up.
    pub(crate) fn is_stalled(&self) -> bool {
        self.stage() == Stage::Waiting && clock::now().since(self.since.get()) >= STALLED
    }

    /// Why a response ended, by whoever is answerable for it.
    pub(crate) fn blame(&self, reason: Reason) -> Reason {
        let fault = self.fault.borrow().as_ref().map(|(fault, _)| *fault);
        match (fault, reason) {
            (Some(fault), _) => fault,
            (None, Reason::UpstreamIncomplete) if self.is_stalled() => Reason::BodyTimeout,
            // Who waits for its caller cannot speak.
            (None, Reason::StreamIdle) if self.stage() == Stage::Waiting => Reason::BodyTimeout,
            (None, reason) => reason,
        }
    }

    /// The status with which a call of gRPC ended.
    pub(crate) fn status(&self) -> Option<u8> {
        self.status.get()
    }

    /// Notes what is known of the status with which a call of gRPC ended.
    pub(crate) fn note_status(&self, status: Option<u8>) {
        self.status.set(status);
    }

    /// Notes that a gRPC response was ended by a status that Weft gave.
    pub(crate) fn cut(&self, reason: Reason) {
        self.cut.set(Some(reason));
    }

    /// Why Weft ended a gRPC response by a status, if it did.
    pub(crate) fn cut_by(&self) -> Option<Reason> {
        self.cut.get()
    }

    fn wait(&self) {
        let held = self.stage.get() == Stage::Waiting && self.since.get() == Tick::NEVER;
        if held || self.stage.get() == Stage::Moving {
            self.stage.set(Stage::Waiting);
            self.since.set(clock::now());
        }
    }

    /// Notes that the client waits to be asked, which is not to be laid to it.
    fn hold(&self) {
        if self.stage.get() == Stage::Moving {
            self.stage.set(Stage::Waiting);
            self.since.set(Tick::NEVER);
        }
    }

    fn go_on(&self, bytes: u64) {
        self.add(bytes);
        if self.stage.get() == Stage::Waiting {
            self.came.set(clock::now());
        }
        self.stage.set(Stage::Moving);
    }

    fn end(&self) {
        if self.stage.get() != Stage::Whole {
            self.came.set(clock::now());
            self.stage.set(Stage::Whole);
        }
    }
}

/// How long a client may take over its body.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    /// Until when all of it must be here.
    pub(crate) until: Deadline,
    /// What `until` was made of, for people.
    pub(crate) span: Duration,
}

/// A request body as it comes from the client: counted, and held to its bounds.
pub(crate) struct Limited {
    body: Body,
    length: Length,
    bounds: Bounds,
    upload: Rc<Upload>,
    /// The route, if its policies may hold trailers to something.
    route: Option<Arc<Route>>,
    timer: Option<TaskTimer>,
}

impl Limited {
    /// The body.
    pub(crate) fn wrap(
        body: Body,
        bounds: Bounds,
        upload: &Rc<Upload>,
        route: Option<&Arc<Route>>,
    ) -> Body {
        let length = body.length();
        if length == Length::Exact(0) {
            return Body::Empty;
        }
        upload.stage.set(Stage::Moving);
        let upload = upload.clone();
        let route = route.filter(|route| !route.policies.outgoings.is_empty()).cloned();
        Body::Source(Box::new(Self { body, length, bounds, upload, route, timer: None }))
    }

    fn refuse(&mut self, error: Error) -> Poll<Option<Result<Frame>>> {
        self.body = Body::Empty;
        self.upload.break_off(&error);
        Poll::Ready(Some(Err(error)))
    }
}

fn too_large(bytes_max: u64) -> Error {
    Error::new(
        Reason::BodyTooLarge,
        format!("the request body is larger than {}", ByteSize(bytes_max)),
    )
}

impl Source for Limited {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        let Poll::Ready(mut frame) = self.body.poll_frame(cx) else {
            self.upload.wait();
            let until = self.bounds.until.tick();
            if until != Tick::NEVER && self.timer.get_or_insert_default().poll(cx, until).is_ready()
            {
                let span = format_duration(self.bounds.span);
                let say = format!("the request body took longer than {span} to arrive");
                return self.refuse(Error::new(Reason::BodyTimeout, say));
            }
            return Poll::Pending;
        };
        if let (Some(Ok(Frame::Trailers(trailers))), Some(route)) = (&mut frame, &self.route)
            && !route.policies.hold_trailers(trailers)
        {
            frame = None;
        }
        match &frame {
            Some(Ok(Frame::Data(bytes))) => {
                self.upload.go_on(bytes.len() as u64);
                let seen = self.upload.bytes();
                match self.upload.bytes_max.get() {
                    Some(max) if seen > max => return self.refuse(too_large(max)),
                    _ => {}
                }
                if self.length == Length::Exact(seen) {
                    self.upload.end();
                }
            }
            Some(Ok(Frame::Trailers(_))) | None => {
                if self.upload.stage() != Stage::Broken {
                    self.upload.end();
                }
            }
            Some(Err(error)) => self.upload.break_off(error),
        }
        Poll::Ready(frame)
    }

    fn read_ahead(&mut self, cx: &mut Context<'_>) {
        self.body.read_ahead(cx);
    }

    fn poll_begun(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let begun = self.body.poll_begun(cx);
        if begun.is_pending() {
            self.upload.hold();
        }
        begun
    }

    fn length(&self) -> Length {
        self.body.length()
    }
}

/// A response that came before the request was whole: it ends with that, if the client breaks it off.
pub(crate) struct Answering {
    body: Body,
    upload: Rc<Upload>,
}

impl Answering {
    pub(crate) fn wrap(body: Body, upload: &Rc<Upload>) -> Body {
        if upload.stage() == Stage::Whole || body.is_empty() {
            return body;
        }
        Body::Source(Box::new(Self { body, upload: upload.clone() }))
    }
}

impl Source for Answering {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        let frame = self.body.poll_frame(cx);
        // What the service has said already is passed on; what it says of a broken request is not.
        if matches!(frame, Poll::Pending | Poll::Ready(Some(Err(_))))
            && self.upload.stage() == Stage::Broken
            && let Some(fault) = self.upload.fault()
        {
            self.body = Body::Empty;
            return Poll::Ready(Some(Err(fault)));
        }
        frame
    }

    fn read_ahead(&mut self, cx: &mut Context<'_>) {
        self.body.read_ahead(cx);
    }

    fn poll_begun(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.body.poll_begun(cx)
    }

    fn length(&self) -> Length {
        self.body.length()
    }
}

/// The times of one request: the caller's count from its beginning, the route's from when the service
/// has the request.
#[derive(Clone)]
pub(crate) struct Times {
    pub(crate) began: Tick,
    /// The deadline that the caller set itself.
    pub(crate) asked: Deadline,
    /// For all tries together.
    pub(crate) request: Option<Duration>,
    /// For one try.
    pub(crate) per_try: Option<Duration>,
    pub(crate) upload: Rc<Upload>,
    pub(crate) queued: Queued,
}

/// How long a request stood in queues of Weft's own, of which the service knows nothing.
#[derive(Clone, Default)]
pub(crate) struct Queued {
    /// When it was admitted to its service: an injected delay, and the queue of a bulkhead, lie before.
    admitted: Cell<Tick>,
    /// The waits of all tries for a place among the connections.
    pooled: Cell<Duration>,
}

impl Queued {
    /// Notes that it was admitted to its service.
    pub(crate) fn admit(&self, now: Tick) {
        self.admitted.set(now);
    }

    /// How long all tries together have waited for a place among the connections.
    pub(crate) fn pooled(&self) -> Duration {
        self.pooled.get()
    }
}

/// The wait of one try for a place among the connections.
#[derive(Default)]
pub(crate) struct Place {
    since: Cell<Option<Tick>>,
    until: Cell<Tick>,
    waited: Cell<Duration>,
}

impl Place {
    /// Notes that it waits from now on.
    pub(crate) fn begin(&self, now: Tick) {
        self.since.set(Some(now));
    }

    /// Notes that it has its place, or does without.
    pub(crate) fn end(&self, queued: &Queued, now: Tick) {
        if let Some(since) = self.since.take() {
            let waited = now.since(since);
            self.until.set(now);
            self.waited.set(self.waited.get() + waited);
            queued.pooled.set(queued.pooled.get() + waited);
        }
    }

    /// Whether it waits still.
    pub(crate) fn is_waiting(&self) -> bool {
        self.since.get().is_some()
    }

    /// When a try that began then could turn to the service.
    pub(crate) fn left(&self, began: Tick) -> Tick {
        began.max(self.until.get())
    }
}

/// When a try is given up, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(crate) at: Tick,
    /// From when on it was counted.
    pub(crate) from: Tick,
    pub(crate) of: LimitOf,
}

/// Whose limit it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LimitOf {
    Caller,
    Request,
    Try,
}

/// How far a body had come when it was last looked at.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    bytes: u64,
    since: Tick,
}

impl Pace {
    pub(crate) const fn new(now: Tick) -> Self {
        Self { bytes: 0, since: now }
    }
}

impl Times {
    /// The deadline of all tries as far as it is known now.
    pub(crate) fn deadline(&self, now: Tick) -> Deadline {
        self.upload.deadline(self.began, now, self.asked, self.request)
    }

    /// The limit of a try that began then. While the client has to send more only its own deadline
    /// counts; while the service does not take what is there, the time since it last took something.
    pub(crate) fn limit(&self, began: Tick, pace: &mut Pace) -> Limit {
        let asked = Limit { at: self.asked.tick(), from: self.began, of: LimitOf::Caller };
        let (request_from, try_from) = match self.upload.stage() {
            Stage::Whole => (self.upload.handed(self.began), self.upload.handed(began)),
            Stage::Moving => {
                let bytes = self.upload.bytes();
                if bytes != pace.bytes {
                    *pace = Pace { bytes, since: clock::now() };
                }
                (pace.since, pace.since)
            }
            Stage::Waiting | Stage::Broken => return asked,
        };
        let limit = |span: Option<Duration>, from: Tick, of| Limit {
            at: span.map_or(Tick::NEVER, |span| from.plus(span)),
            from,
            of,
        };
        let request = limit(self.request, request_from, LimitOf::Request);
        let per_try = limit(self.per_try, try_from, LimitOf::Try);
        let mut least = asked;
        if request.at < least.at {
            least = request;
        }
        if per_try.at < least.at {
            least = per_try;
        }
        least
    }

    /// Whether a limit that is over says something of the service: it does when at least half of its time
    /// was spent there, and not in Weft's own queues.
    pub(crate) fn is_telling(&self, limit: Limit, place: &Place) -> bool {
        if place.is_waiting() {
            return false;
        }
        let before = match limit.of {
            LimitOf::Caller => return false,
            LimitOf::Request if self.upload.stage() == Stage::Whole => {
                self.queued.admitted.get().since(limit.from)
            }
            LimitOf::Request | LimitOf::Try => Duration::ZERO,
        };
        let pooled = place.waited.get().min(place.until.get().since(limit.from));
        before.saturating_add(pooled) <= limit.at.since(limit.from) / 2
    }
}

#[cfg(test)]
mod tests;
