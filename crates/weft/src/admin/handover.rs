//! The bodies and connections of the admin API: requests of hyper in the words of the table, its answers
//! in those of hyper.
//!
//! What becomes a WebSocket is left in the [`Handover`] of its connection, whose own task then speaks:
//! so it counts as a connection like any other, and ends with it.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::{
    body::{Body, Frame, SizeHint},
    upgrade::OnUpgrade,
};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use weft_api::{Caller, Chunks, Content, Operation, Request, Response, Session};
use weft_kernel::{Error, Reason, Result};
use weft_wire::{Fields, Method};

/// Why a body breaks off.
pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What speaks over a connection once it has left HTTP.
#[derive(Clone, Default)]
pub(super) struct Handover(Arc<Mutex<Option<(OnUpgrade, Session)>>>);

impl Handover {
    /// Whether the connection has become a WebSocket.
    pub(super) fn is_taken(&self) -> bool {
        self.0.lock().is_some()
    }

    /// Speaks until one of both sides ends it; returns at once for a connection that stayed with HTTP.
    pub(super) async fn talk(&self) {
        let left = self.0.lock().take();
        let Some((upgrade, session)) = left else { return };
        match upgrade.await {
            Ok(io) => session.talk(Box::new(TokioIo::new(io))).await,
            Err(error) => tracing::debug!(%error, "a WebSocket of the admin API did not begin"),
        }
    }
}

/// The body of an answer.
pub(super) enum Payload {
    /// What is left of one that is whole.
    Whole(Bytes),
    /// Piece by piece.
    Stream(Chunks),
}

impl Body for Payload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut *self {
            Self::Whole(body) if body.is_empty() => Poll::Ready(None),
            Self::Whole(body) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(body))))),
            Self::Stream(chunks) => {
                let chunk = ready!(chunks.as_mut().poll_next(cx));
                Poll::Ready(chunk.map(|chunk| chunk.map(Frame::data).map_err(Into::into)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(body) if body.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => SizeHint::with_exact(body.len() as u64),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}

/// A request of hyper, and what it takes to make a WebSocket of its connection.
pub(super) fn request(
    parts: &mut http::request::Parts,
    method: Method,
    body: Bytes,
) -> (Request, Option<OnUpgrade>) {
    let upgrade = parts
        .extensions
        .remove::<OnUpgrade>()
        .filter(|_| parts.version == http::Version::HTTP_11 && upgrades(&parts.headers));
    let mut fields = Fields::with_capacity(parts.headers.len(), 512);
    for (name, value) in &parts.headers {
        fields.append(name.as_str(), value.as_bytes());
    }
    let request = Request {
        method,
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        fields,
        body,
        upgrades: upgrade.is_some(),
        peer: Caller::default(),
    };
    (request, upgrade)
}

/// An answer for hyper.
pub(super) fn response(
    answer: Response,
    is_head: bool,
    upgrade: Option<(OnUpgrade, &Handover)>,
) -> http::Response<Payload> {
    let body = match answer.content {
        Content::Whole(body) => Payload::Whole(body),
        Content::Stream(chunks) => Payload::Stream(chunks),
        Content::Socket(session) => {
            if let Some((upgrade, handover)) = upgrade {
                *handover.0.lock() = Some((upgrade, session));
            }
            Payload::Whole(Bytes::new())
        }
    };
    let mut response = http::Response::new(body);
    *response.status_mut() =
        StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in answer.fields.iter() {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value))
            && (is_head || name != header::CONTENT_LENGTH)
        {
            response.headers_mut().append(name, value);
        }
    }
    response
}

/// Whether a request asks for a WebSocket.
fn upgrades(headers: &HeaderMap) -> bool {
    let lists =
        |name, wanted: &str| {
            headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).any(|value| {
                value.split(',').any(|option| option.trim().eq_ignore_ascii_case(wanted))
            })
        };
    lists(header::CONNECTION, "upgrade") && lists(header::UPGRADE, "websocket")
}

/// The whole body of a request for an operation.
///
/// # Errors
/// [`Reason::BodyTooLarge`] and [`Reason::MalformedRequest`].
pub(super) async fn whole<B>(operation: &Operation, body: B) -> Result<Bytes>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let most = operation.body_bytes_max;
    match Limited::new(body, most).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            operation.check_body(most.saturating_add(1)).map(|()| Bytes::new())
        }
        Err(error) => {
            Err(Error::new(Reason::MalformedRequest, "the body broke off").because(error))
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{Full, StreamBody};
    use weft_api::{Permission, Row, put};

    use super::*;

    #[test]
    fn an_upgrade_is_asked_for_in_two_fields() {
        for (connection, upgrade, asks) in [
            ("Upgrade", "websocket", true),
            ("keep-alive, upgrade", "WebSocket", true),
            ("keep-alive", "websocket", false),
            ("upgrade", "h2c", false),
            ("upgrade", "", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONNECTION, HeaderValue::from_static(connection));
            headers.insert(header::UPGRADE, HeaderValue::from_static(upgrade));
            assert_eq!(upgrades(&headers), asks, "{connection} {upgrade}");
        }
        assert!(!upgrades(&HeaderMap::new()));
    }

    const MOST: usize = 1 << 10;

    static ROW: Row<()> =
        put("a", "/a", "A.", Permission::Manage, |_| Box::pin(async { Ok(Response::empty(204)) }))
            .takes_media(&[], MOST);

    #[tokio::test]
    async fn a_body_that_broke_off_is_not_one_that_is_too_large() {
        let broken = StreamBody::new(futures_util::stream::iter([
            Ok(Frame::data(Bytes::from_static(b"half"))),
            Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof)),
        ]));
        let whole_of = |bytes: Vec<u8>| whole(&ROW.operation, Full::new(Bytes::from(bytes)));
        let broken = whole(&ROW.operation, broken).await.unwrap_err();
        assert_eq!(broken.reason(), Reason::MalformedRequest);
        let large = whole_of(vec![0; MOST + 1]).await.unwrap_err();
        assert_eq!(large.reason(), Reason::BodyTooLarge);
        assert_eq!(&whole_of(b"all".to_vec()).await.unwrap()[..], b"all");
    }
}
