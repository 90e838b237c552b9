//! One connection to the collector: plain or TLS, HTTP/1.1 or HTTP/2, driven by whoever uses it.
//!
//! The exporter is at floor 1, beneath the room that owns sockets, and runs on the control runtime;
//! so it dials by itself, in the simplest way: one connection, one request at a time.

use std::{
    future::{Future, poll_fn},
    io,
    path::Path,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use weft_kernel::{Error, Reason};

use super::Protocol;

/// How much of what the collector says is read at once. Interim responses are read for as long as they come
/// before time limits are looked at again.
const BUFFER_MAX: usize = 16 * 1024;

/// Where the collector is, and how to get there.
pub(super) struct Route {
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    protocol: Protocol,
}

impl Route {
    pub(super) fn new(uri: &Uri, protocol: Protocol, ca: Option<&Path>) -> Result<Self, Error> {
        let wrong = |say: String| Error::new(Reason::Misconfigured, say);
        let host = uri.host().ok_or_else(|| wrong(format!("`{uri}` has no host")))?;
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong(format!("`{uri}` begins with neither http:// nor https://"))),
        };
        let port = uri.port_u16().unwrap_or(match (secure, protocol) {
            (_, Protocol::Grpc) => 4317,
            (false, Protocol::Http) => 4318,
            (true, Protocol::Http) => 443,
        });
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let tls = if secure {
            let name = ServerName::try_from(host.clone()).map_err(|error| {
                wrong(format!("`{host}` cannot be the name of a TLS server")).because(error)
            })?;
            Some((connector(protocol, ca)?, name))
        } else {
            None
        };
        Ok(Self { host, port, tls, protocol })
    }

    pub(super) async fn dial(&self) -> io::Result<Link> {
        let stream = TcpStream::connect((&*self.host, self.port)).await?;
        stream.set_nodelay(true)?;
        match &self.tls {
            Some((connector, name)) => {
                self.handshake(connector.connect(name.clone(), stream).await?).await
            }
            None => self.handshake(stream).await,
        }
    }

    async fn handshake(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> io::Result<Link> {
        let stream = TokioIo::new(stream);
        Ok(match self.protocol {
            Protocol::Http => {
                let (send, drive) = http1::Builder::new()
                    .max_buf_size(BUFFER_MAX)
                    .handshake(stream)
                    .await
                    .map_err(io::Error::other)?;
                Link { send: Sender::Http1(send), drive: Box::pin(async { drop(drive.await) }) }
            }
            Protocol::Grpc => {
                let (send, drive) = http2::handshake(TokioExecutor::new(), stream)
                    .await
                    .map_err(io::Error::other)?;
                Link { send: Sender::Http2(send), drive: Box::pin(async { drop(drive.await) }) }
            }
        })
    }
}

fn connector(protocol: Protocol, ca: Option<&Path>) -> Result<TlsConnector, Error> {
    let wrong = |say: String| Error::new(Reason::Misconfigured, say);
    let mut roots = RootCertStore::empty();
    if let Some(path) = ca {
        let show = path.display();
        let certificates = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| {
                wrong(format!("cannot read certificates from {show}")).because(error)
            })?;
        let (good, _) = roots.add_parsable_certificates(certificates);
        if good == 0 {
            return Err(wrong(format!("{show} holds no certificate")));
        }
    } else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(wrong("this machine has no root certificates; name a CA file".to_owned()));
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::new(Reason::Internal, "TLS offers no version").because(error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![match protocol {
        Protocol::Grpc => b"h2".to_vec(),
        Protocol::Http => b"http/1.1".to_vec(),
    }];
    Ok(TlsConnector::from(Arc::new(config)))
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// An open connection; it moves only while [`Link::with`] or [`Link::closed`] is awaited.
pub(super) struct Link {
    send: Sender,
    drive: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Link {
    /// Completes when the other side has closed; until then answers its pings. Cancel-safe.
    pub(super) async fn closed(&mut self) {
        self.drive.as_mut().await;
    }

    /// Sends a request and turns the response into `T` by `read`, driving the connection meanwhile.
    pub(super) async fn with<T, F>(
        &mut self,
        request: Request<Full<Bytes>>,
        read: impl FnOnce(Response<Incoming>) -> F,
    ) -> hyper::Result<T>
    where
        F: Future<Output = hyper::Result<T>>,
    {
        let Self { send, drive } = self;
        let mut work = pin!(async {
            let response = match send {
                Sender::Http1(send) => {
                    send.ready().await?;
                    send.send_request(request).await?
                }
                Sender::Http2(send) => {
                    send.ready().await?;
                    send.send_request(request).await?
                }
            };
            read(response).await
        });
        let mut open = true;
        poll_fn(|context| {
            if open && drive.as_mut().poll(context).is_ready() {
                open = false;
            }
            match work.as_mut().poll(context) {
                Poll::Ready(done) => Poll::Ready((open, done)),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
        .1
    }
}
