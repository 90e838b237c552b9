//! The API of messages on the admin API: the desk answers, here it is only put into axum's words.
//!
//! What becomes a WebSocket is left in the [`Handover`] of its connection, whose own task then speaks:
//! so it counts as a connection like any other, and ends with it.

use std::sync::Arc;

use axum::{
    body::{Body, Bytes, to_bytes},
    extract::Request,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use http_body_util::LengthLimitError;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use weft_kernel::Code;
use weft_messages::{Content, Desk, OPERATIONS, Request as Asked, Session, Surface, request::Peer};
use weft_wire::{Fields, Method};

use crate::admin::problem::Problem;

/// The largest body of any operation.
const BODY_BYTES_MAX: usize = 16 << 20;

/// What speaks over a connection once it has left HTTP.
#[derive(Clone, Default)]
pub(crate) struct Handover(Arc<Mutex<Option<(OnUpgrade, Session)>>>);

impl Handover {
    /// Whether the connection has become a WebSocket.
    pub(crate) fn is_taken(&self) -> bool {
        self.0.lock().is_some()
    }

    /// Speaks until one of both sides ends it; returns at once for a connection that stayed with HTTP.
    pub(crate) async fn talk(&self) {
        let left = self.0.lock().take();
        let Some((upgrade, session)) = left else { return };
        match upgrade.await {
            Ok(io) => session.talk(Box::new(TokioIo::new(io))).await,
            Err(error) => tracing::debug!(%error, "a WebSocket of the admin API did not begin"),
        }
    }
}

/// Whether a path is one of an operation, or looks like one of its kind.
pub(super) fn is_one(path: &str) -> bool {
    let first = path.split('/').nth(2);
    path.starts_with("/v1/")
        && OPERATIONS.iter().any(|operation| operation.path.split('/').nth(2) == first)
}

/// Has the desk answer.
pub(super) async fn answer(desk: &Desk, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let handover = parts.extensions.get::<Handover>().cloned();
    let upgrade = handover.zip(parts.extensions.remove::<OnUpgrade>());
    let upgrade =
        upgrade.filter(|_| parts.version == http::Version::HTTP_11 && upgrades(&parts.headers));
    let body = match whole(body).await {
        Ok(body) => body,
        Err(problem) => return problem.into_response(),
    };
    let mut fields = Fields::with_capacity(parts.headers.len(), 512);
    for (name, value) in &parts.headers {
        fields.append(name.as_str(), value.as_bytes());
    }
    let asked = Asked {
        method: Method::of(parts.method.as_str()),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        fields,
        body,
        upgrades: upgrade.is_some(),
        peer: Peer::default(),
    };
    let answer = desk.answer(Surface::Admin, asked).await;
    let body = match answer.content {
        Content::Whole(body) => Body::from(body),
        Content::Stream(chunks) => Body::from_stream(chunks),
        Content::Socket(session) => {
            if let Some((handover, upgrade)) = upgrade {
                *handover.0.lock() = Some((upgrade, session));
            }
            Body::empty()
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() =
        StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in answer.fields.iter() {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value))
            && name != header::CONTENT_LENGTH
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

/// The whole body of a request.
async fn whole(body: Body) -> Result<Bytes, Problem> {
    to_bytes(body, BODY_BYTES_MAX).await.map_err(|error| {
        if error.into_inner().is::<LengthLimitError>() {
            Problem::new(Code::TooLarge, format!("the body is larger than {BODY_BYTES_MAX} bytes"))
        } else {
            Problem::new(Code::Invalid, "the body broke off")
        }
    })
}

#[cfg(test)]
mod tests {
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

    #[tokio::test]
    async fn a_body_that_broke_off_is_not_one_that_is_too_large() {
        let broken = futures_util::stream::iter([
            Ok(Bytes::from_static(b"half")),
            Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof)),
        ]);
        for (body, code) in [
            (Body::from_stream(broken), Code::Invalid),
            (Body::from(vec![0; BODY_BYTES_MAX + 1]), Code::TooLarge),
        ] {
            assert_eq!(whole(body).await.unwrap_err().code, code);
        }
        assert_eq!(&whole(Body::from("all")).await.unwrap()[..], b"all");
    }
}
