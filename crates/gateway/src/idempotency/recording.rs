//! Keeps the answer of a request that has claimed its key, while it passes.
//!
//! The body goes to the client as it comes; a copy is kept of it up to a bound. Its last piece is held back
//! until the outcome is kept, so that who has the whole answer can ask for it again. A client that leaves in
//! the middle takes nothing back: the rest is read for the copy alone, within a bound of time.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use weft_kernel::Result;
use weft_net::{
    Tasks,
    body::{Body, Frame, Source},
    clock,
    timer::TaskTimer,
};
use weft_proxy::{Completion, LocalFuture, TargetFailure};
use weft_wire::{Fields, Known, Length, ResponseHead};

use super::{
    Idempotency,
    record::{Answer, kept},
    store::Claim,
};

/// Time for which the rest of an answer is read that nobody waits for.
const REST_MAX: Duration = Duration::from_secs(60);

/// What an answer says of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It is the answer, and will be the next time.
    Final,
    /// Nothing was done, or it failed: it may be tried again.
    Failed,
    /// It ended before it was known.
    Unknown,
}

/// By a status of HTTP.
const fn of_http(status: u16) -> Outcome {
    match status {
        401 | 403 | 408 | 425 | 429 | 500.. => Outcome::Failed,
        _ => Outcome::Final,
    }
}

/// By a status of gRPC (grpc/grpc `doc/statuscodes.md`).
const fn of_grpc(status: u8) -> Outcome {
    match status {
        // CANCELLED and DEADLINE_EXCEEDED: the service may go on with it.
        1 | 4 => Outcome::Unknown,
        // UNKNOWN, PERMISSION_DENIED, RESOURCE_EXHAUSTED, ABORTED, INTERNAL, UNAVAILABLE, DATA_LOSS,
        // UNAUTHENTICATED.
        2 | 7 | 8 | 10 | 13..=16 => Outcome::Failed,
        _ => Outcome::Final,
    }
}

fn grpc_status(fields: &Fields) -> Option<u8> {
    fields.get_str(Known::GrpcStatus)?.parse().ok()
}

/// Who keeps the answer of a request.
pub(super) struct Recording {
    pub(super) claim: Claim,
    pub(super) settings: Arc<Idempotency>,
    pub(super) tasks: Tasks,
}

impl Recording {
    /// What becomes of an answer, as its settings say.
    fn judge(&self, outcome: Outcome) -> Outcome {
        match outcome {
            Outcome::Failed if self.settings.keep_failures => Outcome::Final,
            outcome => outcome,
        }
    }

    /// Says what came of it.
    async fn settle(
        self,
        status: u16,
        fields: Fields,
        body: Option<Vec<u8>>,
        trailers: Option<Fields>,
    ) {
        let grpc = trailers.as_ref().and_then(grpc_status).or_else(|| grpc_status(&fields));
        match self.judge(grpc.map_or_else(|| of_http(status), of_grpc)) {
            Outcome::Final => {
                let answer =
                    body.map(|body| Answer { status, fields, body: body.into(), trailers });
                self.claim.finish(status, answer).await;
            }
            Outcome::Failed => self.claim.forget().await,
            Outcome::Unknown => drop(self.claim),
        }
    }
}

impl Completion for Recording {
    fn answered(self: Box<Self>, head: &ResponseHead, body: Body) -> LocalFuture<'static, Body> {
        let (status, fields) = (head.status, kept(&head.fields));
        let length = body.length();
        let is_stream = fields.get(Known::ContentType).is_some_and(|kind| {
            kind.len() >= 17 && kind[..17].eq_ignore_ascii_case(b"text/event-stream")
        });
        let is_long =
            matches!(length, Length::Exact(bytes) if bytes > self.settings.answer_max as u64);
        let failed = self.judge(of_http(status)) == Outcome::Failed;
        // Known now, whatever the body says: nobody shall be told that it runs who asks again.
        if failed || is_stream || is_long || length.is_none() {
            return Box::pin(async move {
                let copy = (!is_stream && !is_long).then(Vec::new);
                self.settle(status, fields, copy, None).await;
                body
            });
        }
        let recorded = Recorded(Some(Inner {
            tasks: self.tasks.clone(),
            recording: Some(*self),
            status,
            fields,
            body,
            length,
            passed: 0,
            copy: Some(Vec::new()),
            trailers: None,
            held: VecDeque::new(),
            keeping: None,
            ended: false,
        }));
        Box::pin(std::future::ready(Body::Source(Box::new(recorded))))
    }

    fn failed(self: Box<Self>, failure: TargetFailure) -> LocalFuture<'static, ()> {
        Box::pin(async move {
            if !failure.reached || failure.status.is_some() {
                self.claim.forget().await;
            }
        })
    }
}

/// A body of which a copy is kept.
struct Recorded(Option<Inner>);

struct Inner {
    tasks: Tasks,
    /// Until what came of the request has been said.
    recording: Option<Recording>,
    status: u16,
    fields: Fields,
    body: Body,
    /// As it was said to be: a body may tell how much is left.
    length: Length,
    passed: u64,
    /// `None` once there is more than is kept.
    copy: Option<Vec<u8>>,
    trailers: Option<Fields>,
    /// What is passed on once the outcome is kept.
    held: VecDeque<Frame>,
    keeping: Option<LocalFuture<'static, ()>>,
    ended: bool,
}

impl Inner {
    /// Begins to keep the outcome.
    fn keep(&mut self) {
        let Some(recording) = self.recording.take() else { return };
        let (fields, copy) = (std::mem::take(&mut self.fields), self.copy.take());
        let settled = recording.settle(self.status, fields, copy, self.trailers.take());
        self.keeping = Some(Box::pin(settled));
    }

    fn copy(&mut self, bytes: &[u8]) {
        self.passed += bytes.len() as u64;
        let Some(recording) = &self.recording else { return };
        let answer_max = recording.settings.answer_max;
        if let Some(copy) = &mut self.copy {
            if copy.len() + bytes.len() > answer_max {
                self.copy = None;
            } else {
                copy.extend_from_slice(bytes);
            }
        }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        loop {
            if let Some(keeping) = &mut self.keeping {
                ready!(keeping.as_mut().poll(cx));
                self.keeping = None;
            }
            if let Some(frame) = self.held.pop_front() {
                return Poll::Ready(Some(Ok(frame)));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            match ready!(self.body.poll_frame(cx)) {
                Some(Ok(Frame::Data(bytes))) => {
                    self.copy(&bytes);
                    // Who knows the length does not ask for the end.
                    let is_last = self.length == Length::Exact(self.passed);
                    if self.recording.is_none() || !(is_last || self.copy.is_none()) {
                        return Poll::Ready(Some(Ok(Frame::Data(bytes))));
                    }
                    self.held.push_back(Frame::Data(bytes));
                    self.keep();
                }
                Some(Ok(Frame::Trailers(trailers))) => {
                    self.ended = true;
                    self.trailers = Some(trailers.clone());
                    self.held.push_back(Frame::Trailers(trailers));
                    self.keep();
                }
                None => {
                    self.ended = true;
                    self.keep();
                }
                Some(Err(error)) => {
                    // It broke off: nobody knows what came of it.
                    self.recording = None;
                    self.ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }

    /// Whether something is still to be read or written so that the outcome is kept.
    const fn is_open(&self) -> bool {
        self.recording.is_some() || self.keeping.is_some()
    }

    /// Reads on for the copy alone.
    async fn read_rest(mut self) {
        let timer = TaskTimer::default();
        let until = clock::now().plus(REST_MAX);
        let rest = std::pin::pin!(async {
            while self.is_open() {
                let frame = std::future::poll_fn(|cx| self.poll_frame(cx)).await;
                if !matches!(frame, Some(Ok(_))) {
                    break;
                }
            }
        });
        let _ = timer.within(until, rest).await;
    }
}

impl Source for Recorded {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        self.0.as_mut().map_or(Poll::Ready(None), |inner| inner.poll_frame(cx))
    }

    fn read_ahead(&mut self, cx: &mut Context<'_>) {
        if let Some(inner) = &mut self.0 {
            inner.body.read_ahead(cx);
        }
    }

    fn poll_begun(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().map_or(Poll::Ready(()), |inner| inner.body.poll_begun(cx))
    }

    fn length(&self) -> Length {
        self.0.as_ref().map_or(Length::Exact(0), |inner| inner.length)
    }
}

/// The client has left: the answer is kept for when it asks again.
impl Drop for Recorded {
    fn drop(&mut self) {
        let Some(inner) = self.0.take().filter(Inner::is_open) else { return };
        let tasks = inner.tasks.clone();
        if !tasks.stop().is_closed() {
            tasks.spawn_part(inner.read_rest());
        }
    }
}

/// A body that was kept, with its trailers.
pub(super) struct Replayed {
    data: Option<bytes::Bytes>,
    trailers: Option<Fields>,
}

impl Replayed {
    /// The body of an answer.
    pub(super) fn body(data: bytes::Bytes, trailers: Option<Fields>) -> Body {
        match trailers {
            None => Body::full(data),
            Some(trailers) => {
                Body::Source(Box::new(Self { data: Some(data), trailers: Some(trailers) }))
            }
        }
    }
}

impl Source for Replayed {
    fn poll_frame(&mut self, _cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        let data = self.data.take().filter(|data| !data.is_empty()).map(Frame::Data);
        Poll::Ready(data.or_else(|| self.trailers.take().map(Frame::Trailers)).map(Ok))
    }

    fn length(&self) -> Length {
        Length::Unknown
    }
}

#[cfg(test)]
mod tests;
