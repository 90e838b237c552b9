//! Deliveries over a WebSocket: the server sends them, the client settles them and gives credit.
//!
//! ```text
//! server → client   a delivery, as …/receive answers it
//!                   {"settled": […]}, as …/settle answers it
//!                   {"error": {…problem…}} before the end, when something went wrong
//! client → server   {"settle": […]}, as …/settle takes it
//!                   {"credit": n}: so many deliveries more
//! ```
//!
//! Without any credit given, by `?credit=` or by a message, deliveries are bounded by the prefetch alone.
//! What is not settled when the socket ends goes back without fault.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message,
        error::ProtocolError,
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};
use weft_broker::engine::{AnyConsumer, AnySource};
use weft_kernel::{Error, Reason, Result};
use weft_net::Stop;
use weft_wire::{Fields, Known, Method, problem::Problem};

use super::{
    receive,
    settle::{self, Settlement, Settlements},
};
use crate::{
    body::{self, Body},
    handle::Handle,
    request::Request,
    response::{Content, Duplex, Response, Session},
    schema::{Member, Object, Shape},
    sse::HEARTBEAT,
};

/// What is spoken.
const PROTOCOL: &str = "weft.messages.v1";
/// The largest message of a client.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// How many deliveries are sent at once.
const AT_ONCE: u32 = 64;
/// How long a client may take to end once it is told to.
const CLOSE_MAX: Duration = Duration::from_secs(5);
/// How long a client may take to read what it is sent.
const SEND_MAX: Duration = Duration::from_secs(30);
/// How long a client may say nothing, not even an answer to a ping, beyond its lease.
const SILENCE_MORE: Duration = Duration::from_secs(60);

/// Whether a request wants to become a WebSocket, well or badly.
pub(super) fn is_asked_for(request: &Request) -> bool {
    request.method == Method::Get
        && (request.upgrades || request.fields.has(Known::SecWebSocketKey))
}

/// What a handshake is answered with (RFC 6455 section 4.2.2).
pub(super) struct Handshake {
    accept: String,
    /// Whether the client has named subprotocols: one that named none must not be told of ours.
    is_named: bool,
}

/// Why there is no handshake.
pub(super) enum Refusal {
    /// The protocol, or its version, is another.
    Upgrade(Error),
    /// Anything else.
    Other(Error),
}

impl Refusal {
    /// The response that says so.
    pub(super) fn response(self) -> Result<Response> {
        match self {
            Self::Upgrade(error) => Ok(Response::problem(&error)
                .with("connection", "upgrade")
                .with("upgrade", "websocket")
                .with("sec-websocket-version", "13")),
            Self::Other(error) => Err(error),
        }
    }
}

/// Checks a client's handshake.
pub(super) fn handshake(request: &Request) -> Result<Handshake, Refusal> {
    let upgrade = |say: &'static str| Refusal::Upgrade(Error::new(Reason::UpgradeRequired, say));
    let other = |say: String| Refusal::Other(Error::new(Reason::MalformedRequest, say));
    if !request.upgrades {
        let say = "a WebSocket is asked for with `Upgrade: websocket` and `Connection: Upgrade`, by \
                   HTTP/1.1";
        return Err(upgrade(say));
    }
    let mut versions = request.fields.all(Known::SecWebSocketVersion);
    if (versions.next(), versions.next()) != (Some(b"13"), None) {
        return Err(upgrade("a WebSocket is of `Sec-WebSocket-Version: 13`"));
    }
    let mut keys = request.fields.all(Known::SecWebSocketKey);
    let key = match (keys.next(), keys.next()) {
        (Some(key), None) => key,
        _ => return Err(other("a WebSocket has one `Sec-WebSocket-Key`".into())),
    };
    if STANDARD.decode(key).map(|nonce| nonce.len()) != Ok(16) {
        return Err(other("`Sec-WebSocket-Key` is 16 bytes in base64".into()));
    }
    let offered: Vec<&[u8]> = request
        .fields
        .all_named("sec-websocket-protocol")
        .flat_map(|value| value.split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|name| !name.is_empty())
        .collect();
    if !offered.is_empty() && !offered.contains(&PROTOCOL.as_bytes()) {
        return Err(other(format!("the subprotocol is {PROTOCOL}")));
    }
    Ok(Handshake { accept: derive_accept_key(key), is_named: !offered.is_empty() })
}

/// The response that makes a connection a WebSocket.
pub(super) fn upgrade(
    handle: Handle,
    consumer: AnyConsumer,
    lease: Duration,
    credit: Option<u64>,
    handshake: &Handshake,
) -> Response {
    let mut fields = Fields::new();
    fields.add(Known::Connection, b"upgrade");
    fields.add(Known::Upgrade, b"websocket");
    fields.add(Known::SecWebSocketAccept, handshake.accept.as_bytes());
    if handshake.is_named {
        fields.append("sec-websocket-protocol", PROTOCOL.as_bytes());
    }
    let session = Session::new(move |io| talk(handle, consumer, lease, credit, io));
    Response { status: 101, fields, content: Content::Socket(session) }
}

/// A message of a client.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    #[serde(default)]
    settle: Option<Vec<Settlement>>,
    #[serde(default)]
    credit: Option<u64>,
}

impl Body for Said {
    const SHAPE: &'static Shape = &Shape::Object(&Object::of(&[
        Member::may("settle", settle::SETTLE),
        Member::may("credit", Shape::Int(0, u64::MAX)),
    ]));
}

/// Why a socket ends.
struct End(CloseCode, String);

impl End {
    fn of(error: &Error) -> Self {
        let code = match error.reason() {
            Reason::Draining => CloseCode::Away,
            Reason::MalformedRequest => CloseCode::Policy,
            _ => CloseCode::Error,
        };
        Self(code, error.reason().word().to_owned())
    }
}

type Socket = WebSocketStream<Box<dyn Duplex>>;

async fn talk(
    handle: Handle,
    consumer: AnyConsumer,
    lease: Duration,
    credit: Option<u64>,
    io: Box<dyn Duplex>,
) {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX))
        .max_write_buffer_size(16 << 20);
    let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
    let end = exchange(&handle, consumer, lease, credit, &mut socket).await;
    let _ = tokio::time::timeout(CLOSE_MAX, close(&mut socket, end)).await;
}

/// Ends a socket: the closing handshake first, as far as the client can be read, and then the connection,
/// whose end is the server's to begin (RFC 6455 section 7.1.1).
async fn close(socket: &mut Socket, end: Option<End>) {
    let is_readable = end.as_ref().is_none_or(|End(code, _)| {
        !matches!(code, CloseCode::Size | CloseCode::Protocol | CloseCode::Invalid)
    });
    if let Some(End(code, reason)) = end {
        let frame = CloseFrame { code, reason: reason.into() };
        if socket.close(Some(frame)).await.is_err() {
            return;
        }
    }
    // Reading also sends the answer to a client that closes first.
    while is_readable && matches!(socket.next().await, Some(Ok(_))) {}
    let io = socket.get_mut();
    if io.shutdown().await.is_err() {
        return;
    }
    // Whatever the client still sends is taken, or it might never get to read why this ends.
    let mut rest = [0; 4096];
    while let Ok(1..) = io.read(&mut rest).await {}
}

/// Speaks until there is an end; `None` when the client has ended it. The consumer leaves with it, before
/// the connection is closed.
async fn exchange(
    handle: &Handle,
    mut consumer: AnyConsumer,
    lease: Duration,
    mut credit: Option<u64>,
    socket: &mut Socket,
) -> Option<End> {
    let stop = handle.stop().clone();
    let source = consumer.source().clone();
    let silence_max = lease.saturating_add(SILENCE_MORE);
    let mut heard = Instant::now();
    let mut alive = tokio::time::interval(HEARTBEAT);
    alive.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let room =
            credit.map_or(AT_ONCE, |left| u32::try_from(left).unwrap_or(AT_ONCE).min(AT_ONCE));
        tokio::select! {
            biased;
            () = stop.draining() => {
                consumer.forgive();
                return Some(End(CloseCode::Away, "draining".into()));
            }
            said = socket.next() => {
                heard = Instant::now();
                let answer = match said? {
                    Ok(Message::Text(text)) => hear(handle, &source, &mut credit, text.as_bytes()).await,
                    Ok(Message::Binary(bytes)) => hear(handle, &source, &mut credit, &bytes).await,
                    Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => Ok(None),
                    Ok(Message::Close(_)) => return None,
                    Err(tungstenite::Error::Capacity(_)) => {
                        return Some(End(CloseCode::Size, "message_too_large".into()));
                    }
                    Err(tungstenite::Error::Utf8(_)) => {
                        return Some(End(CloseCode::Invalid, "not UTF-8".into()));
                    }
                    Err(tungstenite::Error::Protocol(
                        ProtocolError::ResetWithoutClosingHandshake,
                    )) => return None,
                    Err(tungstenite::Error::Protocol(_)) => {
                        return Some(End(CloseCode::Protocol, "malformed".into()));
                    }
                    Err(_) => return None,
                };
                match answer {
                    Ok(Some(answer)) => {
                        if let Err(end) = send(socket, &stop, vec![answer]).await {
                            return end;
                        }
                    }
                    Ok(None) => {}
                    Err(error) => return fail(socket, &stop, &error).await,
                }
            }
            taken = consumer.next_batch(room.max(1)), if room > 0 => {
                let taken = match taken {
                    Ok(taken) => taken,
                    Err(error) => return fail(socket, &stop, &error).await,
                };
                if let Some(left) = &mut credit {
                    *left = left.saturating_sub(taken.len() as u64);
                }
                let mut texts = Vec::with_capacity(taken.len());
                let until = receive::until(lease);
                for delivery in &taken {
                    let mut out = Vec::with_capacity(512);
                    receive::write(&mut out, delivery, &until);
                    texts.push(out);
                }
                if let Err(end) = send(socket, &stop, texts).await {
                    return end;
                }
            }
            _ = alive.tick() => {
                if heard.elapsed() >= silence_max {
                    // Whoever answers no ping is not there, and holds what others could have.
                    return None;
                }
                let ping = socket.send(Message::Ping(bytes::Bytes::new()));
                if let Err(end) = within(&stop, ping).await {
                    return end;
                }
            }
        }
    }
}

/// Does what a client says; gives what is to be answered.
async fn hear(
    handle: &Handle,
    source: &AnySource,
    credit: &mut Option<u64>,
    text: &[u8],
) -> Result<Option<Vec<u8>>> {
    let said: Said = body::read(text)?;
    if let Some(more) = said.credit {
        *credit = Some(credit.unwrap_or(0).saturating_add(more));
    }
    let Some(settle) = said.settle else { return Ok(None) };
    let outcomes = settle::all(handle, source, Settlements { settle }).await?;
    let told = serde_json::to_vec(&settle::told(&outcomes)).map_err(|error| {
        Error::new(Reason::Internal, "an answer could not be written").because(error)
    })?;
    Ok(Some(told))
}

/// Sends texts in one go.
async fn send(socket: &mut Socket, stop: &Stop, texts: Vec<Vec<u8>>) -> Result<(), Option<End>> {
    let sending = async {
        for text in texts {
            // What is written here is JSON, and so UTF-8.
            let text = String::from_utf8(text).unwrap_or_default();
            socket.feed(Message::text(text)).await?;
        }
        socket.flush().await
    };
    within(stop, sending).await
}

/// Waits until something is sent; a client that does not read ends the socket, at a drain at once.
async fn within(
    stop: &Stop,
    sending: impl Future<Output = Result<(), tungstenite::Error>>,
) -> Result<(), Option<End>> {
    tokio::select! {
        biased;
        sent = tokio::time::timeout(SEND_MAX, sending) => match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(None),
        },
        () = stop.draining() => Err(Some(End(CloseCode::Away, "draining".into()))),
    }
}

/// Tells what went wrong, and ends.
async fn fail(socket: &mut Socket, stop: &Stop, error: &Error) -> Option<End> {
    let mut text = b"{\"error\":".to_vec();
    Problem::of(error).write(&mut text);
    text.push(b'}');
    match send(socket, stop, vec![text]).await {
        Ok(()) => Some(End::of(error)),
        Err(end) => end,
    }
}
