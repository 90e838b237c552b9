//! A response as every surface hands it out: whole, as a stream, or as a WebSocket.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
};

use bytes::Bytes;
use futures_util::Stream;
use tokio::io::{AsyncRead, AsyncWrite};
use weft_kernel::{Error, Reason, Result, Retry};
use weft_wire::{Fields, Known, Method, problem};

/// The media type of JSON.
pub const JSON: &str = "application/json";
/// The media type of a stream of server-sent events.
pub const EVENT_STREAM: &str = "text/event-stream";
/// The media type of one JSON value per line.
pub const LINES: &str = "application/x-ndjson";

/// A response.
#[derive(Debug)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The fields, without what frames the body.
    pub fields: Fields,
    /// What follows them.
    pub content: Content,
}

/// What follows the head of a response.
pub enum Content {
    /// All of it.
    Whole(Bytes),
    /// Piece by piece, never empty ones; dropping it ends what makes them.
    Stream(Chunks),
    /// The connection becomes a WebSocket; the head is that of a 101.
    Socket(Session),
}

/// The pieces of a body.
pub type Chunks = Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>;

/// A byte stream in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// What speaks over a connection that has become a WebSocket.
pub struct Session(Box<dyn FnOnce(Box<dyn Duplex>) -> Talk + Send>);

type Talk = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Session {
    /// A session that is this conversation.
    pub fn new<F, Fut>(talk: F) -> Self
    where
        F: FnOnce(Box<dyn Duplex>) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Self(Box::new(move |io| Box::pin(talk(io))))
    }

    /// Speaks until one of both sides ends it.
    pub async fn talk(self, io: Box<dyn Duplex>) {
        (self.0)(io).await;
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(body) => write!(f, "Whole({} bytes)", body.len()),
            Self::Stream(_) => f.write_str("Stream"),
            Self::Socket(_) => f.write_str("Socket"),
        }
    }
}

impl Response {
    /// A response without content.
    pub fn empty(status: u16) -> Self {
        Self { status, fields: Fields::new(), content: Content::Whole(Bytes::new()) }
    }

    /// A whole response of a media type.
    pub fn of(status: u16, media: &str, body: impl Into<Bytes>) -> Self {
        let mut response = Self::empty(status);
        response.fields.add(Known::ContentType, media.as_bytes());
        response.content = Content::Whole(body.into());
        response
    }

    /// A value as JSON.
    ///
    /// # Errors
    /// [`Reason::Internal`] if it cannot be written as JSON.
    pub fn json(status: u16, value: &impl serde::Serialize) -> Result<Self> {
        let body = serde_json::to_vec(value).map_err(|error| {
            Error::new(Reason::Internal, "an answer could not be written").because(error)
        })?;
        Ok(Self::of(status, JSON, body))
    }

    /// A stream of a media type that no cache and no proxy may hold back.
    pub fn stream(media: &str, chunks: Chunks) -> Self {
        let mut response = Self::empty(200);
        response.fields.add(Known::ContentType, media.as_bytes());
        response.fields.add(Known::CacheControl, b"no-store");
        response.fields.append("x-accel-buffering", b"no");
        response.content = Content::Stream(chunks);
        response
    }

    /// The same with a field more.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.fields.append(name, value.as_bytes());
        self
    }

    /// The problem of an error (RFC 9457).
    pub fn problem(error: &Error) -> Self {
        let told = problem::Problem::of(error);
        let mut body = Vec::with_capacity(256);
        told.write(&mut body);
        let response = Self::of(told.status(), problem::CONTENT_TYPE, body);
        match error.retryable() {
            Retry::After(span) => {
                let secs = span.as_secs() + u64::from(span.subsec_nanos() > 0);
                response.with("retry-after", &secs.to_string())
            }
            Retry::Safe if told.status() == 503 => response.with("retry-after", "1"),
            _ => response,
        }
    }

    /// No such method here.
    pub fn not_allowed(allow: &str) -> Self {
        let error = Error::new(Reason::MethodNotAllowed, format!("this path has {allow}"));
        Self::problem(&error).with("allow", allow)
    }

    /// The same without content, as HEAD is answered.
    #[must_use]
    pub fn headless(mut self, method: &Method) -> Self {
        if *method == Method::Head {
            if let Content::Whole(body) = &self.content {
                self.fields.set(Known::ContentLength, body.len().to_string().as_bytes());
            }
            self.content = Content::Whole(Bytes::new());
        }
        self
    }

    /// Status, fields and body of an answer that is whole; of another there is no body.
    pub fn into_whole(self) -> (u16, Fields, Bytes) {
        let body = match self.content {
            Content::Whole(body) => body,
            Content::Stream(_) | Content::Socket(_) => Bytes::new(),
        };
        (self.status, self.fields, body)
    }

    /// The whole body, if it is no stream and no socket; a stream is read to its end.
    ///
    /// # Errors
    /// What ends the stream early; [`Reason::NotSupported`] for a socket.
    pub async fn collect(self) -> Result<Bytes> {
        match self.content {
            Content::Whole(body) => Ok(body),
            Content::Stream(mut chunks) => {
                let mut all = Vec::new();
                while let Some(chunk) = poll_fn(|cx| chunks.as_mut().poll_next(cx)).await {
                    all.extend_from_slice(&chunk?);
                }
                Ok(all.into())
            }
            Content::Socket(_) => {
                Err(Error::new(Reason::NotSupported, "a WebSocket has no body to read"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_problem_says_when_to_come_again() {
        for (error, status, after) in [
            (Error::new(Reason::NoQueue, "no"), 404, None),
            (Error::new(Reason::StorageBusy, "busy"), 503, Some("1")),
            (
                Error::new(Reason::Overload, "busy")
                    .retry(Retry::After(Duration::from_millis(1500))),
                503,
                Some("2"),
            ),
            (Error::new(Reason::StoragePoisoned, "broken"), 503, None),
        ] {
            let response = Response::problem(&error);
            assert_eq!(response.status, status);
            assert_eq!(response.fields.get_str(Known::RetryAfter), after, "{error}");
            assert_eq!(
                response.fields.get_str(Known::ContentType),
                Some("application/problem+json")
            );
        }
    }
}
