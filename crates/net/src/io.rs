//! What a connection is: a byte stream over TCP or a Unix socket, perhaps under TLS.
//!
//! One enum instead of a trait object, so that reads and writes are direct calls, and so that the
//! relay can see when both ends are bare sockets. Vectored writes pass through to the kernel.

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use bytes::{Buf, BytesMut};
use rustls::{CommonState, ProtocolVersion};
use rustls_pki_types::CertificateDer;
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, Interest, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::{client, server};

use crate::Address;

/// The protocol that both ends settled on by ALPN (RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Alpn {
    /// `http/1.1`.
    H1,
    /// `h2`.
    H2,
}

impl Alpn {
    /// The protocol's identifier on the wire.
    pub const fn id(self) -> &'static [u8] {
        match self {
            Self::H1 => b"http/1.1",
            Self::H2 => b"h2",
        }
    }

    /// The protocol of an identifier; `None` for any other.
    pub fn from_id(id: &[u8]) -> Option<Self> {
        [Self::H1, Self::H2].into_iter().find(|alpn| alpn.id() == id)
    }
}

/// What a TLS handshake found out.
#[derive(Clone, Debug)]
pub struct TlsInfo {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// The protocol that was settled on, if it is one of HTTP's.
    pub alpn: Option<Alpn>,
    /// The server name the client asked for; known on the server's side alone.
    pub sni: Option<String>,
    /// The peer's certificates, its own first; empty if it showed none.
    pub peer_certificates: Vec<CertificateDer<'static>>,
}

impl TlsInfo {
    fn new(state: &CommonState, sni: Option<&str>) -> Self {
        Self {
            version: match state.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
                Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
                _ => "unknown",
            },
            alpn: state.alpn_protocol().and_then(Alpn::from_id),
            sni: sni.map(str::to_owned),
            peer_certificates: state.peer_certificates().map(<[_]>::to_vec).unwrap_or_default(),
        }
    }
}

/// A connection without TLS.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
    /// A pipe in memory, for tests and for calls within the process.
    Memory(DuplexStream),
}

/// A connection as protocols use it.
#[derive(Debug)]
pub enum Io {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
    /// A pipe in memory, for tests and for calls within the process.
    Memory(DuplexStream),
    /// A socket of which some bytes were read ahead.
    Rewound(Box<Rewound<Socket>>),
    /// TLS, this end being the server.
    ServerTls(Box<server::TlsStream<Rewound<Socket>>>),
    /// TLS, this end being the client.
    ClientTls(Box<client::TlsStream<Socket>>),
}

impl Socket {
    /// The address of the other end, if it has one.
    pub fn peer(&self) -> Option<Address> {
        match self {
            Self::Tcp(tcp) => tcp.peer_addr().ok().map(Address::from),
            Self::Unix(unix) => unix.peer_addr().ok().map(|address| Address::unix(&address)),
            Self::Memory(_) => None,
        }
    }

    /// The address of this end, if it has one.
    pub fn local(&self) -> Option<Address> {
        match self {
            Self::Tcp(tcp) => tcp.local_addr().ok().map(Address::from),
            Self::Unix(unix) => unix.local_addr().ok().map(|address| Address::unix(&address)),
            Self::Memory(_) => None,
        }
    }
}

/// A socket by reference, wherever it is kept.
enum Beneath<'a> {
    Tcp(&'a TcpStream),
    Unix(&'a UnixStream),
    Memory,
}

impl<'a> Beneath<'a> {
    fn of(socket: &'a Socket) -> Self {
        match socket {
            Socket::Tcp(tcp) => Self::Tcp(tcp),
            Socket::Unix(unix) => Self::Unix(unix),
            Socket::Memory(_) => Self::Memory,
        }
    }
}

/// A socket that belongs to no runtime, on its way from one to another.
#[derive(Debug)]
pub(crate) enum Detached {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

impl Detached {
    /// Takes a socket from the runtime it is on.
    pub(crate) fn new(socket: Socket) -> io::Result<Self> {
        match socket {
            Socket::Tcp(tcp) => tcp.into_std().map(Self::Tcp),
            Socket::Unix(unix) => unix.into_std().map(Self::Unix),
            Socket::Memory(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Puts it on the runtime this is called in.
    pub(crate) fn attach(self) -> io::Result<Socket> {
        match self {
            Self::Tcp(tcp) => TcpStream::from_std(tcp).map(Socket::Tcp),
            Self::Unix(unix) => UnixStream::from_std(unix).map(Socket::Unix),
        }
    }
}

impl Io {
    /// The address of the socket's other end: a system call, so ask once for a connection.
    pub fn peer(&self) -> Option<Address> {
        match self {
            Self::Tcp(tcp) => tcp.peer_addr().ok().map(Address::from),
            Self::Unix(unix) => unix.peer_addr().ok().map(|address| Address::unix(&address)),
            Self::Memory(_) => None,
            Self::Rewound(rewound) => rewound.get_ref().peer(),
            Self::ServerTls(tls) => tls.get_ref().0.get_ref().peer(),
            Self::ClientTls(tls) => tls.get_ref().0.peer(),
        }
    }

    /// The address of the socket's own end: a system call, so ask once for a connection.
    pub fn local(&self) -> Option<Address> {
        match self {
            Self::Tcp(tcp) => tcp.local_addr().ok().map(Address::from),
            Self::Unix(unix) => unix.local_addr().ok().map(|address| Address::unix(&address)),
            Self::Memory(_) => None,
            Self::Rewound(rewound) => rewound.get_ref().local(),
            Self::ServerTls(tls) => tls.get_ref().0.get_ref().local(),
            Self::ClientTls(tls) => tls.get_ref().0.local(),
        }
    }

    /// The socket beneath.
    fn beneath(&self) -> Beneath<'_> {
        match self {
            Self::Tcp(tcp) => Beneath::Tcp(tcp),
            Self::Unix(unix) => Beneath::Unix(unix),
            Self::Memory(_) => Beneath::Memory,
            Self::Rewound(rewound) => Beneath::of(rewound.get_ref()),
            Self::ServerTls(tls) => Beneath::of(tls.get_ref().0.get_ref()),
            Self::ClientTls(tls) => Beneath::of(tls.get_ref().0),
        }
    }

    /// Whether the other end has closed or reset the connection, as far as is known without reading or
    /// writing; what it sent before may not have been read.
    pub(crate) fn has_left(&self) -> bool {
        // The runtime has been told what becomes of the socket: nothing is waited for.
        let mut cx = Context::from_waker(Waker::noop());
        let (error, ready) = match self.beneath() {
            Beneath::Tcp(tcp) => {
                (tcp.take_error(), pin!(tcp.ready(Interest::READABLE)).poll(&mut cx))
            }
            Beneath::Unix(unix) => {
                (unix.take_error(), pin!(unix.ready(Interest::READABLE)).poll(&mut cx))
            }
            Beneath::Memory => return false,
        };
        !matches!(error, Ok(None))
            || matches!(ready, Poll::Ready(Ok(ready)) if ready.is_read_closed())
    }

    /// Has the connection end with a reset, so that the other end cannot take its end for a regular one.
    pub(crate) fn reset_on_drop(&self) {
        if let Beneath::Tcp(tcp) = self.beneath() {
            // If that cannot be, it ends as every connection does.
            let _ = socket2::SockRef::from(tcp).set_linger(Some(std::time::Duration::ZERO));
        }
    }

    /// What the TLS handshake found out; `None` without TLS. It copies: ask once for a connection.
    pub fn tls_info(&self) -> Option<TlsInfo> {
        match self {
            Self::ServerTls(tls) => {
                let state = tls.get_ref().1;
                Some(TlsInfo::new(state, state.server_name()))
            }
            Self::ClientTls(tls) => Some(TlsInfo::new(tls.get_ref().1, None)),
            _ => None,
        }
    }

    /// Whether a client may have come back to a session that it had before, so that its certificates were
    /// not looked at again.
    pub fn may_be_resumed(&self) -> bool {
        let Self::ServerTls(tls) = self else { return false };
        // A handshake with a second hello does not say which of the two it was.
        tls.get_ref().1.handshake_kind() != Some(rustls::HandshakeKind::Full)
    }

    /// The protocol that was settled on by ALPN; `None` without TLS or without an agreement.
    pub fn alpn(&self) -> Option<Alpn> {
        match self {
            Self::ServerTls(tls) => tls.get_ref().1.alpn_protocol().and_then(Alpn::from_id),
            Self::ClientTls(tls) => tls.get_ref().1.alpn_protocol().and_then(Alpn::from_id),
            _ => None,
        }
    }
}

impl From<Socket> for Io {
    fn from(socket: Socket) -> Self {
        match socket {
            Socket::Tcp(tcp) => Self::Tcp(tcp),
            Socket::Unix(unix) => Self::Unix(unix),
            Socket::Memory(pipe) => Self::Memory(pipe),
        }
    }
}

impl From<Rewound<Socket>> for Io {
    fn from(rewound: Rewound<Socket>) -> Self {
        if rewound.ahead.is_empty() {
            rewound.inner.into()
        } else {
            Self::Rewound(Box::new(rewound))
        }
    }
}

/// A stream of which some bytes were read ahead: they come first, then the rest.
#[derive(Debug)]
pub struct Rewound<T> {
    ahead: BytesMut,
    inner: T,
}

impl<T> Rewound<T> {
    /// `inner`, with nothing read ahead.
    pub fn new(inner: T) -> Self {
        Self { ahead: BytesMut::new(), inner }
    }

    /// `inner`, whose reader sees `ahead` first.
    pub fn with(ahead: BytesMut, inner: T) -> Self {
        Self { ahead, inner }
    }

    /// The bytes that were read ahead and not taken since.
    pub fn ahead(&self) -> &[u8] {
        &self.ahead
    }

    /// The stream beneath.
    pub fn get_ref(&self) -> &T {
        &self.inner
    }

    /// Forgets the first `count` bytes that were read ahead (at most all of them).
    pub(crate) fn consume(&mut self, count: usize) {
        self.ahead.advance(count.min(self.ahead.len()));
    }

    /// What was read ahead to append to, and the stream to read from.
    pub(crate) fn parts(&mut self) -> (&mut BytesMut, &mut T) {
        (&mut self.ahead, &mut self.inner)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Rewound<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.inner).poll_read(cx, buf);
        }
        let count = self.ahead.len().min(buf.remaining());
        buf.put_slice(&self.ahead[..count]);
        self.ahead.advance(count);
        if self.ahead.is_empty() {
            // Gives the allocation back: the connection may live for days.
            self.ahead = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Rewound<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// Calls the same method on whichever stream `$self` is.
macro_rules! each {
    ($self:ident, [$($variant:ident),+], $inner:ident => $call:expr) => {
        match $self { $(Self::$variant($inner) => $call,)+ }
    };
}

/// Reads and writes of an enum whose every variant is a stream.
macro_rules! stream {
    ($type:ident, $variants:tt) => {
        impl AsyncRead for $type {
            #[inline]
            fn poll_read(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                let this = self.get_mut();
                each!(this, $variants, inner => Pin::new(inner).poll_read(cx, buf))
            }
        }

        impl AsyncWrite for $type {
            #[inline]
            fn poll_write(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &[u8],
            ) -> Poll<io::Result<usize>> {
                let this = self.get_mut();
                each!(this, $variants, inner => Pin::new(inner).poll_write(cx, buf))
            }

            #[inline]
            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                let this = self.get_mut();
                each!(this, $variants, inner => Pin::new(inner).poll_write_vectored(cx, bufs))
            }

            fn is_write_vectored(&self) -> bool {
                each!(self, $variants, inner => inner.is_write_vectored())
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                let this = self.get_mut();
                each!(this, $variants, inner => Pin::new(inner).poll_flush(cx))
            }

            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                let this = self.get_mut();
                each!(this, $variants, inner => Pin::new(inner).poll_shutdown(cx))
            }
        }
    };
}

stream!(Socket, [Tcp, Unix, Memory]);
stream!(Io, [Tcp, Unix, Memory, Rewound, ServerTls, ClientTls]);
