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

use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use tokio::io::AsyncReadExt;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message,
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};
use weft_broker::Consumer;
use weft_kernel::{Error, Reason, Result};
use weft_wire::{Fields, Known, problem::Problem};

use super::{
    receive,
    settle::{self, Settlement, Settlements},
};
use crate::{
    desk::Desk,
    request::Request,
    response::{Content, Duplex, Response, Session},
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

/// Whether a request wants to become a WebSocket.
pub(super) fn is_asked_for(request: &Request) -> bool {
    request.fields.has(Known::SecWebSocketKey)
}

/// The answer to a client's key.
///
/// # Errors
/// [`Reason::MalformedRequest`] for another version of the protocol, or if the client offers only others.
pub(super) fn accept(request: &Request) -> Result<String> {
    if request.fields.get(Known::SecWebSocketVersion) != Some(b"13") {
        return Err(Error::new(Reason::MalformedRequest, "a WebSocket is of version 13"));
    }
    let mut offered = request.fields.all_named("sec-websocket-protocol").peekable();
    let speaks = offered.peek().is_none()
        || offered.any(|value| {
            value.split(|byte| *byte == b',').any(|name| name.trim_ascii() == PROTOCOL.as_bytes())
        });
    if !speaks {
        let say = format!("the subprotocol is {PROTOCOL}");
        return Err(Error::new(Reason::MalformedRequest, say));
    }
    let key = request.fields.get(Known::SecWebSocketKey).unwrap_or_default();
    Ok(derive_accept_key(key))
}

/// The response that makes a connection a WebSocket.
pub(super) fn upgrade(
    desk: Desk,
    consumer: Consumer,
    lease: Duration,
    credit: Option<u64>,
    accept: &str,
) -> Response {
    let mut fields = Fields::new();
    fields.add(Known::Connection, b"upgrade");
    fields.add(Known::Upgrade, b"websocket");
    fields.add(Known::SecWebSocketAccept, accept.as_bytes());
    fields.append("sec-websocket-protocol", PROTOCOL.as_bytes());
    let session = Session::new(move |io| talk(desk, consumer, lease, credit, io));
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
    desk: Desk,
    consumer: Consumer,
    lease: Duration,
    credit: Option<u64>,
    io: Box<dyn Duplex>,
) {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX))
        .max_write_buffer_size(16 << 20);
    let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
    let end = exchange(&desk, consumer, lease, credit, &mut socket).await;
    let Some(End(code, reason)) = end else { return };
    let close = CloseFrame { code, reason: reason.into() };
    let closing = async {
        if socket.close(Some(close)).await.is_ok() {
            // Whatever the client still sends is taken, or it might never get to read why this ends.
            let mut rest = [0; 4096];
            while let Ok(1..) = socket.get_mut().read(&mut rest).await {}
        }
    };
    let _ = tokio::time::timeout(CLOSE_MAX, closing).await;
}

/// Speaks until there is an end; `None` when the client has ended it.
async fn exchange(
    desk: &Desk,
    mut consumer: Consumer,
    lease: Duration,
    mut credit: Option<u64>,
    socket: &mut Socket,
) -> Option<End> {
    let stop = desk.stop().clone();
    let mut alive = tokio::time::interval(HEARTBEAT);
    alive.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let room =
            credit.map_or(AT_ONCE, |left| u32::try_from(left).unwrap_or(AT_ONCE).min(AT_ONCE));
        tokio::select! {
            biased;
            () = stop.draining() => return Some(End(CloseCode::Away, "draining".into())),
            said = socket.next() => {
                let answer = match said? {
                    Ok(Message::Text(text)) => hear(desk, &consumer, &mut credit, text.as_bytes()).await,
                    Ok(Message::Binary(bytes)) => hear(desk, &consumer, &mut credit, &bytes).await,
                    Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => Ok(None),
                    Ok(Message::Close(_)) => return None,
                    Err(tungstenite::Error::Capacity(_)) => {
                        return Some(End(CloseCode::Size, "message_too_large".into()));
                    }
                    Err(tungstenite::Error::Utf8(_)) => {
                        return Some(End(CloseCode::Invalid, "not UTF-8".into()));
                    }
                    Err(tungstenite::Error::Protocol(_)) => {
                        return Some(End(CloseCode::Protocol, "malformed".into()));
                    }
                    Err(_) => return None,
                };
                match answer {
                    Ok(Some(answer)) => send(socket, vec![answer]).await.ok()?,
                    Ok(None) => {}
                    Err(error) => return fail(socket, &error).await,
                }
            }
            taken = consumer.next_batch(room.max(1)), if room > 0 => {
                let taken = match taken {
                    Ok(taken) => taken,
                    Err(error) => return fail(socket, &error).await,
                };
                if let Some(left) = &mut credit {
                    *left = left.saturating_sub(taken.len() as u64);
                }
                let mut texts = Vec::with_capacity(taken.len());
                let until = receive::until(lease);
                for delivery in &taken {
                    let mut out = Vec::with_capacity(512);
                    if let Err(error) = receive::write(&mut out, delivery, &until) {
                        return fail(socket, &error).await;
                    }
                    texts.push(out);
                }
                send(socket, texts).await.ok()?;
            }
            _ = alive.tick() => {
                let ping = socket.send(Message::Ping(bytes::Bytes::new()));
                tokio::time::timeout(SEND_MAX, ping).await.ok()?.ok()?;
            }
        }
    }
}

/// Does what a client says; gives what is to be answered.
async fn hear(
    desk: &Desk,
    consumer: &Consumer,
    credit: &mut Option<u64>,
    text: &[u8],
) -> Result<Option<Vec<u8>>> {
    let said: Said = crate::settings::read(text)?;
    if let Some(more) = said.credit {
        *credit = Some(credit.unwrap_or(0).saturating_add(more));
    }
    let Some(settle) = said.settle else { return Ok(None) };
    let outcomes = settle::all(desk, consumer.source(), Settlements { settle }).await?;
    let told = serde_json::to_vec(&settle::told(&outcomes)).map_err(|error| {
        Error::new(Reason::Internal, "an answer could not be written").because(error)
    })?;
    Ok(Some(told))
}

/// Sends texts in one go.
async fn send(socket: &mut Socket, texts: Vec<Vec<u8>>) -> Result<(), tungstenite::Error> {
    let sending = async {
        for text in texts {
            // What is written here is JSON, and so UTF-8.
            let text = String::from_utf8(text).unwrap_or_default();
            socket.feed(Message::text(text)).await?;
        }
        socket.flush().await
    };
    tokio::time::timeout(SEND_MAX, sending)
        .await
        .unwrap_or(Err(tungstenite::Error::ConnectionClosed))
}

/// Tells what went wrong, and ends.
async fn fail(socket: &mut Socket, error: &Error) -> Option<End> {
    let mut text = b"{\"error\":".to_vec();
    Problem::of(error).write(&mut text);
    text.push(b'}');
    send(socket, vec![text]).await.ok()?;
    Some(End::of(error))
}
