//! From an accepted socket to a stream that a protocol can use: PROXY header, then TLS.
//!
//! Everything a client may send before it is known to be one is bounded in bytes and in time. What
//! is read ahead is kept ([`Rewound`]), so that looking never loses a byte.

use std::{io, sync::Arc, time::Duration};

use bytes::BufMut;
use rustls::{PeerIncompatible, PeerMisbehaved, ServerConfig, server::ClientHello};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_rustls::LazyConfigAcceptor;
use weft_kernel::{Error, HandshakeFault, Reason, Result, format_duration};
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
/// `choose` sees the server name and the protocols that the client offers; `None` refuses it. A client whose
/// server name is an address is one without a name; one whose name is no host name at all cannot be served,
/// since the library refuses it and every byte of its hello is part of what both sides prove.
///
/// # Errors
/// Why, as it is counted, and as it is told.
pub async fn tls(
    mut stream: Rewound<Socket>,
    time: Duration,
    choose: impl FnOnce(&ClientHello<'_>) -> Option<Arc<ServerConfig>>,
) -> Result<Io, (HandshakeFault, Error)> {
    // What the client asks for is looked at beforehand, as the library does not tell of a name it refuses.
    let mut asked = Hello::Incomplete;
    let mut first = None;
    let handshake = async {
        let look = |bytes: &[u8]| {
            first = bytes.first().copied();
            match client_hello::server_name(bytes) {
                Hello::Incomplete => None,
                found => Some(found),
            }
        };
        match peek(&mut stream, client_hello::HELLO_BYTES_MAX, look).await {
            Ok(found) => asked = found.unwrap_or(Hello::Incomplete),
            Err(error) => return Err(handshake_failed(error, &asked)),
        }
        let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream)
            .await
            .map_err(|error| match handshake_failed(error, &asked) {
                (HandshakeFault::Malformed, error)
                    if first != Some(client_hello::RECORD_HANDSHAKE) =>
                {
                    (HandshakeFault::NotTls, error)
                }
                other => other,
            })?;
        let Some(config) = choose(&start.client_hello()) else {
            let name = start.client_hello().server_name().map(str::to_owned);
            let error = malformed("no certificate is configured for the server name")
                .note(name.unwrap_or_else(|| "no server name was sent".into()));
            return Err((HandshakeFault::ServerName, error));
        };
        let tls =
            start.into_stream(config).await.map_err(|error| handshake_failed(error, &asked))?;
        Ok(Io::ServerTls(Box::new(tls)))
    };
    tokio::time::timeout(time, handshake).await.map_err(|_error: tokio::time::error::Elapsed| {
        (HandshakeFault::Timeout, slow("the TLS handshake", time))
    })?
}

fn handshake_failed(error: io::Error, asked: &Hello) -> (HandshakeFault, Error) {
    let fault = fault_of(&error);
    let error = match (fault, asked) {
        (HandshakeFault::Closed, _) => gone(error),
        (HandshakeFault::ServerName, Hello::NoHost(name)) => {
            malformed("the client asks for a server name that is no host name")
                .because(error)
                .note(format!("`{name}`"))
        }
        _ => malformed("the TLS handshake failed").because(error),
    };
    (fault, error)
}

/// What a handshake failed for.
fn fault_of(error: &io::Error) -> HandshakeFault {
    match error.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => return HandshakeFault::Closed,
        _ => {}
    }
    let Some(error) = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>())
    else {
        return HandshakeFault::Other;
    };
    match error {
        rustls::Error::PeerMisbehaved(PeerMisbehaved::ServerNameMustContainOneHostName) => {
            HandshakeFault::ServerName
        }
        rustls::Error::NoCertificatesPresented => HandshakeFault::NoCertificate,
        rustls::Error::InvalidCertificate(_) => HandshakeFault::Certificate,
        rustls::Error::AlertReceived(_) => HandshakeFault::Alert,
        rustls::Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled,
        ) => HandshakeFault::Version,
        rustls::Error::PeerIncompatible(_) | rustls::Error::NoApplicationProtocol => {
            HandshakeFault::NothingInCommon
        }
        rustls::Error::InvalidMessage(_)
        | rustls::Error::InappropriateMessage { .. }
        | rustls::Error::InappropriateHandshakeMessage { .. }
        | rustls::Error::PeerMisbehaved(_)
        | rustls::Error::PeerSentOversizedRecord
        | rustls::Error::DecryptError => HandshakeFault::Malformed,
        _ => HandshakeFault::Other,
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
