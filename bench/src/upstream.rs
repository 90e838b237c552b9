//! The server that all proxies lead to: HTTP/1.1, HTTP/2 and gRPC, with and without TLS, on one thread.
//!
//! `/N` answers N bytes, `/headers` names the fields that came, any other path answers 100 bytes, and
//! `/bench.Echo/N` is a unary call that answers a message of N bytes. Ports are chosen by the system and
//! written to standard output, one line of JSON; the process ends with its standard input.

use std::{
    convert::Infallible,
    io::{Read, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    pin::Pin,
    process::{Command, Stdio},
    sync::Arc,
    task::{Context as TaskContext, Poll},
};

use anyhow::{Context, Result};
use bytes::Bytes;
use clap::Args;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::{body::Incoming, server::conn, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    task::LocalSet,
};

use crate::{child::Child, load::Local, load::message, scenario::GRPC_PREFIX};

/// The largest body that is asked for.
const BODY_MAX: usize = 1024 * 1024;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Where `server.pem` and `server.key` are.
    #[arg(long)]
    certificates: PathBuf,
}

/// Where it listens.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Ports {
    pub(crate) http1: SocketAddr,
    pub(crate) http2: SocketAddr,
    pub(crate) tls: SocketAddr,
}

/// Starts it as a process of its own.
pub(crate) fn start(certificates: &Path) -> Result<(Child, Ports)> {
    let program = std::env::current_exe().context("find this program")?;
    let mut command = Command::new(program);
    command.arg("upstream").arg("--certificates").arg(certificates);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = Child::start("upstream", &mut command)?;
    let out = child.stdout().context("the upstream's output")?;
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line)?;
    let ports = serde_json::from_str(&line).context("the upstream did not say its ports")?;
    Ok((child, ports))
}

/// Serves until standard input ends.
pub(crate) fn run(options: &Options) -> Result<()> {
    // The parent writes nothing: what is waited for is its end. A plain thread reads, for standard
    // input may be anything.
    let (ended, end) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        let mut rest = Vec::new();
        let _ = std::io::stdin().take(1).read_to_end(&mut rest);
        drop(ended);
    });
    serve(&options.certificates, end, |ports| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", serde_json::to_string(&ports)?)?;
        Ok(out.flush()?)
    })
}

/// Serves until the end, having told the ports.
fn serve(
    certificates: &Path,
    end: tokio::sync::oneshot::Receiver<()>,
    tell: impl FnOnce(Ports) -> Result<()>,
) -> Result<()> {
    let chain = CertificateDer::pem_file_iter(certificates.join("server.pem"))?
        .collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(certificates.join("server.key"))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let bytes = Bytes::from(vec![b'x'; BODY_MAX]);
        let http1 = TcpListener::bind("127.0.0.1:0").await?;
        let http2 = TcpListener::bind("127.0.0.1:0").await?;
        let secure = TcpListener::bind("127.0.0.1:0").await?;
        let ports = Ports {
            http1: http1.local_addr()?,
            http2: http2.local_addr()?,
            tls: secure.local_addr()?,
        };
        tokio::task::spawn_local(accept(http1, Spoken::Http1, bytes.clone()));
        tokio::task::spawn_local(accept(http2, Spoken::Http2, bytes.clone()));
        tokio::task::spawn_local(accept(secure, Spoken::Tls(Arc::new(tls).into()), bytes));
        tell(ports)?;
        let _ = end.await;
        Ok(())
    })
}

/// What is spoken on a listener.
enum Spoken {
    Http1,
    Http2,
    Tls(tokio_rustls::TlsAcceptor),
}

async fn accept(listener: TcpListener, spoken: Spoken, bytes: Bytes) {
    loop {
        // An error here is that of one connection, or of too many: the next may do better.
        let Ok((socket, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        let _ = socket.set_nodelay(true);
        let bytes = bytes.clone();
        match &spoken {
            Spoken::Http1 => drop(tokio::task::spawn_local(http1(socket, bytes))),
            Spoken::Http2 => drop(tokio::task::spawn_local(http2(socket, bytes))),
            Spoken::Tls(acceptor) => {
                let accepted = acceptor.accept(socket);
                tokio::task::spawn_local(async move {
                    let Ok(stream) = accepted.await else { return };
                    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                        http2(stream, bytes).await;
                    } else {
                        http1(stream, bytes).await;
                    }
                });
            }
        }
    }
}

// How a connection ended is the client's to tell.
async fn http1(socket: impl AsyncRead + AsyncWrite + Unpin + 'static, bytes: Bytes) {
    let service = service_fn(|request| answer(bytes.clone(), request));
    let mut builder = conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).pipeline_flush(true);
    let _ = builder.serve_connection(TokioIo::new(socket), service).await;
}

async fn http2(socket: impl AsyncRead + AsyncWrite + Unpin + 'static, bytes: Bytes) {
    let service = service_fn(|request| answer(bytes.clone(), request));
    let mut builder = conn::http2::Builder::new(Local);
    builder.max_concurrent_streams(1_000).initial_connection_window_size(16 * 1024 * 1024);
    let _ = builder.serve_connection(TokioIo::new(socket), service).await;
}

async fn answer(bytes: Bytes, request: Request<Incoming>) -> Result<Response<Answer>, Infallible> {
    let path = request.uri().path();
    if let Some(length) = path.strip_prefix(GRPC_PREFIX) {
        let length = length.parse().unwrap_or(100).min(BODY_MAX);
        let mut body = request.into_body();
        while let Some(Ok(_)) = body.frame().await {}
        let mut trailers = HeaderMap::with_capacity(1);
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        let data = Some(message(length));
        let mut response = Response::new(Answer { data, trailers: Some(trailers) });
        let kind = HeaderValue::from_static("application/grpc");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        return Ok(response);
    }
    let data = if path == "/headers" {
        let mut names: Vec<&str> = request.headers().keys().map(|name| name.as_str()).collect();
        names.sort_unstable();
        Bytes::from(names.join("\n"))
    } else {
        let length = path.get(1..).and_then(|length| length.parse().ok()).unwrap_or(100);
        bytes.slice(..length.min(BODY_MAX))
    };
    let mut response = Response::new(Answer { data: Some(data), trailers: None });
    let kind = HeaderValue::from_static("text/plain");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

/// Bytes, and perhaps trailers.
struct Answer {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = self.data.take().map(Frame::data);
        Poll::Ready(data.or_else(|| self.trailers.take().map(Frame::trailers)).map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        // With a length, a message would end before its trailers.
        if self.trailers.is_some() {
            return SizeHint::default();
        }
        SizeHint::with_exact(self.data.as_ref().map_or(0, |data| data.len() as u64))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{sync::mpsc::sync_channel, thread};

    use super::*;
    use crate::certificates::Trust;

    /// A server on a thread of its own, which ends when this is dropped.
    pub(crate) struct Server {
        pub(crate) ports: Ports,
        pub(crate) trust: Trust,
        end: Option<tokio::sync::oneshot::Sender<()>>,
        thread: Option<thread::JoinHandle<Result<()>>>,
    }

    pub(crate) fn server() -> Server {
        let folder = tempfile::tempdir().expect("a folder");
        let trust = crate::certificates::write(folder.path()).expect("certificates");
        let (end, ended) = tokio::sync::oneshot::channel();
        let (tell, told) = sync_channel(1);
        let thread =
            thread::spawn(move || serve(folder.path(), ended, |ports| Ok(tell.send(ports)?)));
        let ports = told.recv().expect("ports");
        Server { ports, trust, end: Some(end), thread: Some(thread) }
    }

    impl Drop for Server {
        fn drop(&mut self) {
            drop(self.end.take());
            if let Some(thread) = self.thread.take() {
                let _ = thread.join();
            }
        }
    }
}
