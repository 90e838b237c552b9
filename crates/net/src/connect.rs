//! Opens a connection to an address, with TLS and a PROXY header where asked for.
//!
//! The timeout covers all of it: the TCP handshake, the header and the TLS handshake. Each way to
//! fail has its own reason, because retries, breakers and people treat them differently; all of
//! them are safe to retry, since no byte of a request was sent.

use std::{future::Future, io, pin::Pin, sync::Arc, time::Duration};

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use socket2::SockRef;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpStream, UnixStream},
};
use tokio_rustls::TlsConnector;
use weft_kernel::{Error, Reason, Result, format_duration};
use weft_wire::proxy_protocol;

use crate::{Address, Alpn, Io, Socket, descriptors, listen::probe_when_silent};

/// How long a server may be silent before the kernel asks whether it is still there.
const SILENCE: Duration = Duration::from_secs(30);

/// How to speak TLS to a server.
#[derive(Clone, Debug)]
pub struct ClientTls {
    /// Roots, client certificate, versions and the ALPN identifiers to offer.
    pub config: Arc<ClientConfig>,
    /// The name the server's certificate must carry; sent as SNI unless it is an IP address.
    pub name: ServerName<'static>,
}

/// What to connect to, and how.
#[derive(Clone, Debug)]
pub struct ConnectTarget {
    /// Where it listens.
    pub address: Address,
    /// TLS to it; `None` for plain text.
    pub tls: Option<ClientTls>,
    /// A PROXY header to send before anything else, also before TLS.
    pub proxy_header: Option<proxy_protocol::Header>,
}

impl ConnectTarget {
    /// Plain text to an address.
    pub fn plain(address: Address) -> Self {
        Self { address, tls: None, proxy_header: None }
    }
}

/// A connection that is ready for its protocol.
#[derive(Debug)]
pub struct Connected {
    /// The stream.
    pub io: Io,
    /// The protocol that was settled on; `None` without TLS or without an agreement.
    pub alpn: Option<Alpn>,
}

/// How connections are opened: [`Network`]'s way, or one that a test scripts.
pub trait Connect {
    /// Opens a connection within `timeout`; dropping the future gives the attempt up.
    fn connect<'a>(&'a self, target: &'a ConnectTarget, timeout: Duration) -> Connecting<'a>;
}

/// A connection that is being opened.
pub type Connecting<'a> = Pin<Box<dyn Future<Output = Result<Connected>> + 'a>>;

/// Connections over sockets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Network;

impl Connect for Network {
    fn connect<'a>(&'a self, target: &'a ConnectTarget, timeout: Duration) -> Connecting<'a> {
        Box::pin(connect(target, timeout))
    }
}

/// Connects within `timeout`; dropping the future gives the attempt up.
pub async fn connect(target: &ConnectTarget, timeout: Duration) -> Result<Connected> {
    // Which phase was reached tells a silent host from a server that never finishes its handshake.
    let mut phase = "connect";
    match tokio::time::timeout(timeout, open(target, &mut phase)).await {
        Ok(result) => result,
        Err(_elapsed) => Err(Error::new(
            Reason::ConnectTimeout,
            format!("{phase} timed out after {}", format_duration(timeout)),
        )),
    }
}

async fn open(target: &ConnectTarget, phase: &mut &'static str) -> Result<Connected> {
    let mut socket = match &target.address {
        Address::Tcp(address) => {
            let tcp = TcpStream::connect(address).await.map_err(refused)?;
            tcp.set_nodelay(true).map_err(refused)?;
            probe_when_silent(&SockRef::from(&tcp), SILENCE).map_err(refused)?;
            Socket::Tcp(tcp)
        }
        Address::Unix(path) => Socket::Unix(UnixStream::connect(path).await.map_err(refused)?),
    };
    if let Some(header) = &target.proxy_header {
        let mut bytes = Vec::with_capacity(proxy_protocol::V1_BYTES_MAX);
        proxy_protocol::encode(header, &mut bytes);
        socket.write_all(&bytes).await.map_err(|error| {
            Error::new(Reason::ConnectFailed, "the PROXY header could not be sent").because(error)
        })?;
    }
    let Some(tls) = &target.tls else {
        return Ok(Connected { io: socket.into(), alpn: None });
    };
    *phase = "TLS handshake";
    let stream = TlsConnector::from(Arc::clone(&tls.config))
        .connect(tls.name.clone(), socket)
        .await
        .map_err(|error| {
            Error::new(Reason::UpstreamTls, "TLS handshake failed")
                .note(format!("as {}", tls.name.to_str()))
                .because(error)
        })?;
    let io = Io::ClientTls(Box::new(stream));
    let alpn = io.alpn();
    Ok(Connected { io, alpn })
}

fn refused(error: io::Error) -> Error {
    let (reason, say) = match error.kind() {
        io::ErrorKind::ConnectionRefused => (Reason::ConnectRefused, "connection refused"),
        io::ErrorKind::TimedOut => (Reason::ConnectTimeout, "connect timed out in the network"),
        io::ErrorKind::HostUnreachable => (Reason::ConnectFailed, "host unreachable"),
        io::ErrorKind::NetworkUnreachable => (Reason::ConnectFailed, "network unreachable"),
        io::ErrorKind::ConnectionReset => (Reason::ConnectFailed, "connection reset at once"),
        io::ErrorKind::NotFound => (Reason::ConnectFailed, "the Unix socket does not exist"),
        io::ErrorKind::PermissionDenied => (Reason::ConnectFailed, "permission to connect denied"),
        io::ErrorKind::AddrNotAvailable => {
            (Reason::PoolExhausted, "no local port is free to connect from")
        }
        _ if descriptors::lack(&error) => {
            (Reason::PoolExhausted, "no file descriptor is free to connect with")
        }
        _ => (Reason::ConnectFailed, "connect failed"),
    };
    Error::new(reason, say).because(error)
}
