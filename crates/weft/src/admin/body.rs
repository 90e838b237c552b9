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
use tokio::time::sleep;

use super::{
    handover::BoxError,
    seats::{Place, Turn},
};

/// Time for a body to arrive.
const BODY_TIME: Duration = Duration::from_secs(120);

/// Time after which a body that is not there yet makes way for requests that find no place.
const PROMPT: Duration = Duration::from_secs(5);

/// A body with its time.
pub(super) struct Timed {
    body: Incoming,
    /// Told of its end.
    turn: Arc<Turn>,
    place: Option<Arc<Place>>,
    /// Set once the body is waited for: ends when it is to be waited for no longer.
    limit: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Timed {
    pub(super) fn new(body: Incoming, turn: Arc<Turn>, place: Option<Arc<Place>>) -> Self {
        Self { body, turn, place, limit: None }
    }
}

/// Waits for as long as a body may take.
async fn limit(place: Option<Arc<Place>>) {
    let wanted = async {
        sleep(PROMPT).await;
        match place {
            Some(place) => place.wanted().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = sleep(BODY_TIME) => {}
        () = wanted => {}
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
        let place = self.place.clone();
        let limit = self.limit.get_or_insert_with(|| Box::pin(limit(place)));
        limit.as_mut().poll(cx).map(|()| Some(Err(io::Error::from(io::ErrorKind::TimedOut).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
