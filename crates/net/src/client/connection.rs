//! One connection of the client, over which one request goes at a time.

use std::{
    future::{Future, poll_fn},
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use weft_kernel::{Error, Reason, Result};

use super::{Answer, Longer, Version, collect};
use crate::{Alpn, ConnectTarget, Io, connect};

/// What an answer may take beside its body: its heads, and those of interim responses.
const HEADS_BYTES_MAX: usize = 64 * 1024;
/// How many bytes the framing of a body may take for each byte of it: chunks and frames may be small.
const FRAMING_FACTOR: usize = 8;

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// A request that was not answered.
pub(super) struct Failed {
    pub(super) error: Error,
    /// Nothing of it has left, so that it may be sent again whatever it is.
    pub(super) is_untouched: bool,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { error, is_untouched: false }
    }
}

/// An open connection; it moves only while one of its futures is awaited.
pub(super) struct Connection {
    sender: Sender,
    /// Reads and writes; ends with the connection.
    drive: Pin<Box<dyn Future<Output = ()> + Send>>,
    is_open: bool,
    /// The answer was read to its end, so that the next request finds the connection clean.
    is_clean: bool,
    left: Arc<AtomicUsize>,
    exceeded: Arc<AtomicBool>,
}

impl Connection {
    /// Connects and agrees on the version, within `timeout`.
    pub(super) async fn open(
        target: &ConnectTarget,
        version: Version,
        timeout: Duration,
    ) -> Result<Self> {
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
        let left = Arc::new(AtomicUsize::new(HEADS_BYTES_MAX));
        let exceeded = Arc::<AtomicBool>::default();
        let (io, of) = (connected.io, (left.clone(), exceeded.clone()));
        let io = TokioIo::new(Bounded { io, left: of.0, exceeded: of.1 });
        let (sender, drive): (_, Pin<Box<dyn Future<Output = ()> + Send>>) = match version {
            Version::Http1 => {
                let (sender, connection) = http1::handshake(io).await.map_err(broken)?;
                (Sender::Http1(sender), Box::pin(async { drop(connection.await) }))
            }
            Version::Http2 => {
                let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                    .timer(TokioTimer::new())
                    .handshake(io)
                    .await
                    .map_err(broken)?;
                (Sender::Http2(sender), Box::pin(async { drop(connection.await) }))
            }
        };
        Ok(Self { sender, drive, is_open: true, is_clean: true, left, exceeded })
    }

    /// Sends a request and reads the answer, driving the connection meanwhile.
    pub(super) async fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
        bound: (usize, Longer),
    ) -> Result<Answer, Failed> {
        self.is_clean = false;
        let left = bound.0.saturating_mul(FRAMING_FACTOR).saturating_add(HEADS_BYTES_MAX);
        self.left.store(left, Ordering::Relaxed);
        let Self { sender, drive, is_open, .. } = self;
        let answer = async {
            let untouched = |error| Failed { error: broken(error), is_untouched: true };
            let response = match sender {
                Sender::Http1(sender) => {
                    sender.ready().await.map_err(untouched)?;
                    sender.try_send_request(request).await.map_err(failed)?
                }
                Sender::Http2(sender) => {
                    sender.ready().await.map_err(untouched)?;
                    sender.try_send_request(request).await.map_err(failed)?
                }
            };
            Ok::<_, Failed>(collect(response, bound).await?)
        };
        tokio::pin!(answer);
        let answered = poll_fn(|cx| {
            // The answer is polled whatever became of the connection: its failure says more.
            if *is_open && drive.as_mut().poll(cx).is_ready() {
                *is_open = false;
            }
            answer.as_mut().poll(cx)
        })
        .await;
        match answered {
            Err(_) if self.exceeded.load(Ordering::Relaxed) => {
                let say = "the answer takes too many bytes";
                Err(Error::new(Reason::UpstreamMalformed, say).into())
            }
            Err(failed) => Err(failed),
            Ok((answer, whole)) => {
                self.is_clean = whole;
                Ok(answer)
            }
        }
    }

    /// Whether another request may follow.
    pub(super) fn is_reusable(&self) -> bool {
        self.is_open && self.is_clean
    }

    /// Completes when the other side has closed; until then answers its pings. Cancel-safe.
    pub(super) async fn closed(&mut self) {
        if self.is_open {
            self.drive.as_mut().await;
            self.is_open = false;
        }
    }
}

fn failed<T>(mut error: hyper::client::conn::TrySendError<T>) -> Failed {
    let is_untouched = error.take_message().is_some();
    Failed { error: broken(error.into_error()), is_untouched }
}

fn broken(error: hyper::Error) -> Error {
    if error.is_parse() || error.is_parse_too_large() {
        Error::new(Reason::UpstreamMalformed, "the answer breaks the protocol").because(error)
    } else {
        Error::new(Reason::UpstreamClosed, "the connection ended before an answer").because(error)
    }
}

/// A connection that gives no more than so many bytes for each request, and the rest of what one read
/// brings. The library reads interim responses, and whatever else is no part of the answer, in one go for as
/// long as they come: no time limit would end that.
struct Bounded {
    io: Io,
    left: Arc<AtomicUsize>,
    exceeded: Arc<AtomicBool>,
}

impl AsyncRead for Bounded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let left = self.left.load(Ordering::Relaxed);
        if left == 0 {
            self.exceeded.store(true, Ordering::Relaxed);
            return Poll::Ready(Err(io::ErrorKind::FileTooLarge.into()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        let read = buf.filled().len() - before;
        self.left.store(left.saturating_sub(read), Ordering::Relaxed);
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
