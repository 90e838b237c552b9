//! Keeps the answer of a request that has claimed its key, while it passes.
//!
//! What is kept is read at the pace of the service, in a task of its own (`recorder`); the client is given it at
//! its own pace, and takes nothing back if it leaves in the middle.

mod recorder;

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use weft_kernel::Result;
use weft_net::{
    Tasks,
    body::{Body, Frame, Source},
};
use weft_proxy::{Completion, LocalFuture, TargetFailure};
use weft_wire::{Fields, Known, Length, ResponseHead};

use super::{
    Idempotency,
    places::Place,
    record::{Answer, kept},
    store::Claim,
};

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
    /// Its place, until the client has the answer.
    pub(super) place: Option<Place>,
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
            Outcome::Unknown => self.claim.leave().await,
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
        let body = recorder::record(*self, status, fields, body);
        Box::pin(std::future::ready(body))
    }

    fn failed(self: Box<Self>, failure: TargetFailure) -> LocalFuture<'static, ()> {
        Box::pin(async move {
            if !failure.reached || failure.status.is_some() {
                self.claim.forget().await;
            } else {
                self.claim.leave().await;
            }
        })
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
