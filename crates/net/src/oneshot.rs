//! One HTTP request over a connection of its own: for health probes, tools and tests.
//!
//! Not the request path: it allocates, and it may run on any runtime. The connection is driven by
//! the same future as the request, so that dropping it leaves nothing behind.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, header, uri};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, timeout_at},
};
use weft_kernel::{Error, Reason, Result, format_duration};

use crate::{Address, Alpn, Io, Target, connect};

/// Which HTTP to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// What an answer may take beside its body: its heads, and those of interim responses.
const HEADS_BYTES_MAX: usize = 64 * 1024;
/// How many bytes the framing of a body may take for each byte of it: chunks and frames may be small.
const FRAMING_FACTOR: usize = 8;

/// Sends one request and reads the whole answer, all within `timeout`.
///
/// The request's URI may be a path alone: scheme and authority are then the target's. A body of more
/// than `body_bytes_max` is an error, not a shortened answer.
pub async fn request(
    target: &Target,
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
    target: &Target,
    version: Version,
    request: Request<Bytes>,
    body_bytes_max: usize,
    timeout: Duration,
) -> Result<StatusCode> {
    let answer = send(target, version, request, (body_bytes_max, Longer::Cut), timeout).await?;
    Ok(answer.status)
}

/// What becomes of a body that is longer than its bound.
#[derive(Clone, Copy)]
enum Longer {
    Refused,
    Cut,
}

async fn send(
    target: &Target,
    version: Version,
    request: Request<Bytes>,
    bound: (usize, Longer),
    timeout: Duration,
) -> Result<Answer> {
    let until = Instant::now() + timeout;
    let connected = connect(target, timeout).await?;
    let settled = connected.alpn.unwrap_or(match (version, &target.tls) {
        (Version::Http2, None) => Alpn::H2,
        _ => Alpn::H1,
    });
    if (settled == Alpn::H2) != (version == Version::Http2) {
        return Err(Error::new(
            Reason::UpstreamTls,
            format!("ALPN settled on {}", String::from_utf8_lossy(settled.id())),
        ));
    }
    let request = completed(target, version, request)?;
    let left = bound.0.saturating_mul(FRAMING_FACTOR).saturating_add(HEADS_BYTES_MAX);
    let exceeded = Arc::<AtomicBool>::default();
    let io = TokioIo::new(Bounded { io: connected.io, left, exceeded: exceeded.clone() });
    let exchange = async {
        match version {
            Version::Http1 => {
                let (mut sender, connection) = http1::handshake(io).await.map_err(broken)?;
                let answer = async {
                    let response = sender.send_request(request).await.map_err(broken)?;
                    collect(response, bound).await
                };
                driven(answer, connection).await
            }
            Version::Http2 => {
                let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
                    .timer(TokioTimer::new())
                    .handshake(io)
                    .await
                    .map_err(broken)?;
                let answer = async {
                    let response = sender.send_request(request).await.map_err(broken)?;
                    collect(response, bound).await
                };
                driven(answer, connection).await
            }
        }
    };
    match timeout_at(until, exchange).await {
        Ok(Err(_)) if exceeded.load(Ordering::Relaxed) => {
            Err(Error::new(Reason::UpstreamMalformed, "the answer takes too many bytes"))
        }
        Ok(result) => result,
        Err(_elapsed) => Err(Error::new(
            Reason::TryTimeout,
            format!("no whole answer within {}", format_duration(timeout)),
        )),
    }
}

/// A connection that gives no more than so many bytes, and the rest of what one read brings. The library reads interim responses, and whatever
/// else is no part of the answer, in one go for as long as they come: no time limit would end that.
struct Bounded {
    io: Io,
    left: usize,
    exceeded: Arc<AtomicBool>,
}

impl AsyncRead for Bounded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left == 0 {
            self.exceeded.store(true, Ordering::Relaxed);
            return Poll::Ready(Err(io::ErrorKind::FileTooLarge.into()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        self.left = self.left.saturating_sub(buf.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Waits for the answer while the connection does its work; the answer's failure says more.
async fn driven(
    answer: impl Future<Output = Result<Answer>>,
    connection: impl Future<Output = hyper::Result<()>>,
) -> Result<Answer> {
    tokio::pin!(answer, connection);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        _ = &mut connection => answer.await,
    }
}

async fn collect(
    response: Response<Incoming>,
    (body_bytes_max, longer): (usize, Longer),
) -> Result<Answer> {
    let (parts, mut incoming) = response.into_parts();
    let mut body = BytesMut::new();
    let mut trailers = None;
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|error| {
            Error::new(Reason::UpstreamIncomplete, "the answer broke off").because(error)
        })?;
        match frame.into_data() {
            Ok(data) if data.len() > body_bytes_max - body.len() => {
                if let Longer::Cut = longer {
                    body.extend_from_slice(&data[..body_bytes_max - body.len()]);
                    break;
                }
                return Err(Error::new(
                    Reason::UpstreamMalformed,
                    format!("the answer's body is longer than {body_bytes_max} bytes"),
                ));
            }
            Ok(data) => body.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().ok().or(trailers),
        }
    }
    Ok(Answer { status: parts.status, headers: parts.headers, body: body.freeze(), trailers })
}

/// Gives the request what its version wants: a path and Host, or a whole URI.
fn completed(
    target: &Target,
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
        .unwrap_or_else(|| match (&target.tls, &target.address) {
            (Some(tls), _) => tls.name.to_str().into_owned(),
            (None, Address::Tcp(address)) => address.to_string(),
            (None, Address::Unix(_)) => "localhost".into(),
        });
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
                .scheme(if target.tls.is_some() { "https" } else { "http" })
                .authority(authority)
                .path_and_query(path)
                .build()
                .map_err(invalid)?;
            parts.version = http::Version::HTTP_2;
        }
    }
    Ok(Request::from_parts(parts, Full::new(body)))
}

fn broken(error: hyper::Error) -> Error {
    if error.is_parse() || error.is_parse_too_large() {
        Error::new(Reason::UpstreamMalformed, "the answer breaks the protocol").because(error)
    } else {
        Error::new(Reason::UpstreamClosed, "the connection ended before an answer").because(error)
    }
}
