//! The body of a request, which has to end in time: one that does not would hold its connection, of
//! which there are few, for as long as its client likes.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Sleep;

use super::{handover::BoxError, seats::Turn};

/// Time for a body to arrive.
const BODY_TIME: Duration = Duration::from_secs(120);

/// A body with its time.
pub(super) struct Timed {
    body: Incoming,
    /// Told of its end.
    turn: Arc<Turn>,
    /// Set once the body is waited for.
    limit: Option<Pin<Box<Sleep>>>,
}

impl Timed {
    pub(super) fn new(body: Incoming, turn: Arc<Turn>) -> Self {
        Self { body, turn, limit: None }
    }
}

impl Body for Timed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            if frame.is_none() || self.body.is_end_stream() {
                self.turn.begin();
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let limit = self.limit.get_or_insert_with(|| Box::pin(tokio::time::sleep(BODY_TIME)));
        limit.as_mut().poll(cx).map(|()| Some(Err(io::Error::from(io::ErrorKind::TimedOut).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
