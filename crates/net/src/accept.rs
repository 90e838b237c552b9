//! From an accepted socket to a stream that a protocol can use: PROXY header, then TLS.
//!
//! Everything a client may send before it is known to be one is bounded in bytes and in time. What
//! is read ahead is kept ([`Rewound`]), so that looking never loses a byte.

use std::{io, sync::Arc, time::Duration};

use bytes::BufMut;
use rustls::{ServerConfig, server::ClientHello};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_rustls::LazyConfigAcceptor;
use weft_kernel::{Error, Reason, Result, format_duration};
use weft_wire::{
    client_hello::{self, Hello},
    proxy_protocol::{self, Header, Parsed},
};

use crate::{Io, Rewound, Socket};

/// The time a client has for its TLS handshake unless configured otherwise.
pub const TLS_HANDSHAKE_TIME: Duration = Duration::from_secs(5);
/// The time a load balancer has to send its PROXY header unless configured otherwise.
pub const PROXY_HEADER_TIME: Duration = Duration::from_secs(5);

/// Reads ahead until `look` has made up its mind about the first bytes; they stay unread.
///
/// `None` if it has not by `bytes_max`, or by the end of the stream.
pub async fn peek<S: AsyncRead + Unpin, T>(
    stream: &mut Rewound<S>,
    bytes_max: usize,
    mut look: impl FnMut(&[u8]) -> Option<T>,
) -> io::Result<Option<T>> {
    loop {
        if let Some(found) = look(stream.ahead()) {
            return Ok(Some(found));
        }
        let (ahead, inner) = stream.parts();
        let room = bytes_max.saturating_sub(ahead.len());
        if room == 0 {
            return Ok(None);
        }
        let count = inner.read_buf(&mut ahead.limit(room)).await?;
        if count == 0 {
            return Ok(None);
        }
    }
}

/// Reads the PROXY header that must begin the connection, and leaves what follows it unread.
///
/// Call it only for a peer that configuration trusts: whoever sends the header chooses the client
/// address. A connection without one is refused, so that it can never be forgotten unawares.
pub async fn proxy_header<S: AsyncRead + Unpin>(
    stream: &mut Rewound<S>,
    time: Duration,
) -> Result<Header> {
    let look = |bytes: &[u8]| match proxy_protocol::parse(bytes) {
        Ok(Parsed::Incomplete) => None,
        Ok(Parsed::Absent) => {
            Some(Err(malformed("the connection does not begin with a PROXY header")))
        }
        Ok(Parsed::Complete(header, length)) => Some(Ok((header, length))),
        Err(error) => Some(Err(malformed("the PROXY header is malformed").because(error))),
    };
    let peeked = tokio::time::timeout(time, peek(stream, proxy_protocol::BYTES_MAX, look))
        .await
        .map_err(|_error: tokio::time::error::Elapsed| slow("the PROXY header", time))?
        .map_err(gone)?;
    let (header, length) = peeked.ok_or_else(|| {
        Error::new(Reason::CallerGone, "the connection ended within its PROXY header")
    })??;
    stream.consume(length);
    Ok(header)
}

/// The server name that a TLS client asks for, of which everything stays unread: for pass-through.
///
/// A client that ends or falls silent within its hello is an error; what is not TLS is not, since
/// its bytes may still be for a route without a name.
pub async fn server_name<S: AsyncRead + Unpin>(
    stream: &mut Rewound<S>,
    time: Duration,
) -> Result<Hello> {
    let look = |bytes: &[u8]| match client_hello::server_name(bytes) {
        Hello::Incomplete => None,
        found => Some(found),
    };
    tokio::time::timeout(time, peek(stream, client_hello::HELLO_BYTES_MAX, look))
        .await
        .map_err(|_error: tokio::time::error::Elapsed| slow("the TLS client hello", time))?
        .map_err(gone)?
        .ok_or_else(|| {
            Error::new(Reason::CallerGone, "the connection ended within its TLS client hello")
        })
}

/// Speaks TLS as the server, with the configuration that `choose` picks for the client's hello.
///
/// `choose` sees the server name and the protocols that the client offers; `None` refuses it.
pub async fn tls(
    stream: Rewound<Socket>,
    time: Duration,
    choose: impl FnOnce(&ClientHello<'_>) -> Option<Arc<ServerConfig>>,
) -> Result<Io> {
    let handshake = async {
        let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream)
            .await
            .map_err(handshake_failed)?;
        let Some(config) = choose(&start.client_hello()) else {
            let name = start.client_hello().server_name().map(str::to_owned);
            return Err(malformed("no certificate is configured for the server name")
                .note(name.unwrap_or_else(|| "no server name was sent".into())));
        };
        let tls = start.into_stream(config).await.map_err(handshake_failed)?;
        Ok(Io::ServerTls(Box::new(tls)))
    };
    tokio::time::timeout(time, handshake)
        .await
        .map_err(|_error: tokio::time::error::Elapsed| slow("the TLS handshake", time))?
}

fn handshake_failed(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe => gone(error),
        _ => malformed("the TLS handshake failed").because(error),
    }
}

fn malformed(say: &'static str) -> Error {
    Error::new(Reason::MalformedRequest, say)
}

fn slow(what: &str, time: Duration) -> Error {
    Error::new(
        Reason::HeadersTimeout,
        format!("{what} did not arrive within {}", format_duration(time)),
    )
}

fn gone(error: io::Error) -> Error {
    Error::new(Reason::CallerGone, "the caller closed the connection").because(error)
}
