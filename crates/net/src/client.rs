//! The HTTP client for whatever is no request of a client: health checks, callbacks, exports, tools.
//!
//! Not the request path: it allocates, and it may run on any runtime. [`request`] and [`status`] send one
//! request over a connection of its own; a [`Client`] keeps connections to where it sends more. Either way
//! the connection is driven by the same future as the request, so that dropping it leaves nothing behind.
//! Redirects are not followed.

mod connection;
mod pool;
mod resolver;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, header, uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use weft_kernel::{Error, Reason, Result, format_duration};

use crate::{Address, ConnectTarget};
use connection::Connection;

pub use pool::{Client, Options, Tls};
pub use resolver::{Resolver, Resolving, System, addresses};

/// Which HTTP to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, by ALPN under TLS and with prior knowledge without.
    Http2,
}

/// A whole response.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The header section.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The trailer section, if one came.
    pub trailers: Option<HeaderMap>,
}

/// Sends one request and reads the whole answer, all within `timeout`.
///
/// The request's URI may be a path alone: scheme and authority are then the target's. A body of more
/// than `body_bytes_max` is an error, not a shortened answer.
pub async fn request(
    target: &ConnectTarget,
    version: Version,
    request: Request<Bytes>,
    body_bytes_max: usize,
    timeout: Duration,
) -> Result<Answer> {
    send(target, version, request, (body_bytes_max, Longer::Refused), timeout).await
}

/// Sends one request for the sake of its status, all within `timeout`. The body of the answer is read to
/// its end, so that the peer is known to have done its work, but no further than `body_bytes_max`.
///
/// # Errors
/// As [`request`], but not for a long body.
pub async fn status(
    target: &ConnectTarget,
    version: Version,
    request: Request<Bytes>,
    body_bytes_max: usize,
    timeout: Duration,
) -> Result<StatusCode> {
    let answer = send(target, version, request, (body_bytes_max, Longer::Cut), timeout).await?;
    Ok(answer.status)
}

/// What becomes of a body that is longer than its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Longer {
    Refused,
    Cut,
    /// The answer has no body then, nor if the body breaks off.
    Dropped,
}

async fn send(
    target: &ConnectTarget,
    version: Version,
    request: Request<Bytes>,
    bound: (usize, Longer),
    timeout: Duration,
) -> Result<Answer> {
    let named = || authority(target);
    let request = completed(target.tls.is_some(), named, version, request)?;
    let exchange = async {
        let mut connection = Connection::open(target, version, timeout).await?;
        connection.exchange(request, bound).await.map_err(|failed| failed.error)
    };
    tokio::time::timeout(timeout, exchange).await.unwrap_or_else(|_elapsed| Err(late(timeout)))
}

fn late(timeout: Duration) -> Error {
    let within = format_duration(timeout);
    Error::new(Reason::TryTimeout, format!("no whole answer within {within}"))
}

/// Reads a response; whether it was read to its end.
async fn collect(
    response: Response<Incoming>,
    (body_bytes_max, longer): (usize, Longer),
) -> Result<(Answer, bool)> {
    let (parts, incoming) = response.into_parts();
    let (body, trailers, whole) = match body(incoming, body_bytes_max, longer).await {
        Err(_) if longer == Longer::Dropped => (Bytes::new(), None, false),
        read => read?,
    };
    Ok((Answer { status: parts.status, headers: parts.headers, body, trailers }, whole))
}

async fn body(
    mut incoming: Incoming,
    bytes_max: usize,
    longer: Longer,
) -> Result<(Bytes, Option<HeaderMap>, bool)> {
    let mut body = BytesMut::new();
    let mut trailers = None;
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|error| {
            Error::new(Reason::UpstreamIncomplete, "the answer broke off").because(error)
        })?;
        match frame.into_data() {
            Ok(data) if data.len() > bytes_max - body.len() => {
                if longer == Longer::Cut {
                    body.extend_from_slice(&data[..bytes_max - body.len()]);
                    return Ok((body.freeze(), None, false));
                }
                return Err(Error::new(
                    Reason::UpstreamMalformed,
                    format!("the answer's body is longer than {bytes_max} bytes"),
                ));
            }
            Ok(data) => body.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().ok().or(trailers),
        }
    }
    Ok((body.freeze(), trailers, true))
}

/// The authority of a target that nobody has named otherwise.
fn authority(target: &ConnectTarget) -> String {
    match (&target.tls, &target.address) {
        (Some(tls), _) => tls.name.to_str().into_owned(),
        (None, Address::Tcp(address)) => address.to_string(),
        (None, Address::Unix(_)) => "localhost".into(),
    }
}

/// Gives the request what its version wants: a path and Host, or a whole URI.
///
/// What its URI does not say is said by `is_secure`, and last of all by `named`.
fn completed(
    is_secure: bool,
    named: impl FnOnce() -> String,
    version: Version,
    request: Request<Bytes>,
) -> Result<Request<Full<Bytes>>> {
    let invalid = |error: http::Error| {
        Error::new(Reason::Misconfigured, "the request cannot be written").because(error)
    };
    let (mut parts, body) = request.into_parts();
    let authority = parts
        .uri
        .authority()
        .map(|authority| authority.as_str().to_owned())
        .or_else(|| {
            parts.headers.get(header::HOST).and_then(|host| Some(host.to_str().ok()?.to_owned()))
        })
        .unwrap_or_else(named);
    let path = parts.uri.path_and_query().cloned().unwrap_or(uri::PathAndQuery::from_static("/"));
    match version {
        Version::Http1 => {
            if !parts.headers.contains_key(header::HOST) {
                let host = HeaderValue::try_from(authority)
                    .map_err(|error| invalid(http::Error::from(error)))?;
                parts.headers.insert(header::HOST, host);
            }
            parts.uri = Uri::from(path);
            parts.version = http::Version::HTTP_11;
        }
        Version::Http2 => {
            parts.headers.remove(header::HOST);
            parts.uri = Uri::builder()
                .scheme(if is_secure { "https" } else { "http" })
                .authority(authority)
                .path_and_query(path)
                .build()
                .map_err(invalid)?;
            parts.version = http::Version::HTTP_2;
        }
    }
    Ok(Request::from_parts(parts, Full::new(body)))
}
