//! gRPC as far as tests need it: messages in their frames, and the requests and answers around them.

use bytes::Bytes;
use h2::{RecvStream, SendStream, server::SendResponse};
use http::{HeaderMap, Request, Response};

use crate::http2;

/// The content type of gRPC.
pub const CONTENT_TYPE: &str = "application/grpc";

/// A message in its frame.
pub fn message(payload: impl AsRef<[u8]>) -> Bytes {
    let payload = payload.as_ref();
    let mut out = vec![0];
    out.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes());
    out.extend_from_slice(payload);
    out.into()
}

/// The messages of a body; panics if the last one is cut off.
pub fn messages(mut body: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    while !body.is_empty() {
        let (head, rest) = body.split_at(5);
        let length = u32::from_be_bytes(head[1..].try_into().unwrap()) as usize;
        let (payload, rest) = rest.split_at(length);
        found.push(payload.to_vec());
        body = rest;
    }
    found
}

/// A call of a method, named by its path.
pub fn call(path: &str) -> http::request::Builder {
    http2::request("POST", path).header("content-type", CONTENT_TYPE).header("te", "trailers")
}

/// The trailers of a status.
pub fn status(number: u16, text: &str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", number.into());
    if !text.is_empty() {
        trailers.insert("grpc-message", text.parse().unwrap());
    }
    trailers
}

/// Messages as they come, one after the other.
#[derive(Debug)]
pub struct Inbox {
    body: RecvStream,
    ahead: Vec<u8>,
}

impl Inbox {
    /// The messages of a body.
    pub const fn of(body: RecvStream) -> Self {
        Self { body, ahead: Vec::new() }
    }

    /// The next one; `None` at the end.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(length) = self.ahead.get(1..5) {
                let end = 5 + u32::from_be_bytes(length.try_into().unwrap()) as usize;
                if self.ahead.len() >= end {
                    return Some(self.ahead.drain(..end).skip(5).collect());
                }
            }
            let data = self.body.data().await?.ok()?;
            let _ = self.body.flow_control().release_capacity(data.len());
            self.ahead.extend_from_slice(&data);
        }
    }

    /// The trailers, after the last message.
    pub async fn trailers(&mut self) -> Option<HeaderMap> {
        self.body.trailers().await.ok().flatten()
    }
}

/// Begins an answer.
pub fn begin(respond: &mut SendResponse<Bytes>) -> Result<SendStream<Bytes>, h2::Error> {
    let head = Response::builder().header("content-type", CONTENT_TYPE).body(()).unwrap();
    respond.send_response(head, false)
}

/// Answers with trailers alone.
pub fn refuse(respond: &mut SendResponse<Bytes>, trailers: HeaderMap) -> Result<(), h2::Error> {
    let mut head = Response::builder().header("content-type", CONTENT_TYPE).body(()).unwrap();
    head.headers_mut().extend(trailers);
    respond.send_response(head, true).map(drop)
}

/// A service with a method of each kind: `/One/Unary` answers with the message backwards,
/// `/One/Server` with one message for each byte, `/One/Client` with all messages joined, `/One/Bidi`
/// with each message at once; `/One/Fail` with status 9 and nothing else. What it got in `grpc-timeout`
/// comes back in the trailer `x-timeout`.
pub async fn serve(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) -> Result<(), h2::Error> {
    let (head, body) = request.into_parts();
    let mut inbox = Inbox::of(body);
    let mut trailers = status(0, "");
    if let Some(timeout) = head.headers.get("grpc-timeout") {
        trailers.insert("x-timeout", timeout.clone());
    }
    if head.uri.path() == "/One/Fail" {
        return refuse(&mut respond, status(9, "not like that"));
    }
    let mut out = begin(&mut respond)?;
    match head.uri.path() {
        "/One/Unary" => {
            let mut asked = inbox.next().await.unwrap_or_default();
            asked.reverse();
            http2::send(&mut out, message(asked)).await?;
        }
        "/One/Server" => {
            for byte in inbox.next().await.unwrap_or_default() {
                http2::send(&mut out, message([byte])).await?;
            }
        }
        "/One/Client" => {
            let mut all = Vec::new();
            while let Some(asked) = inbox.next().await {
                all.extend(asked);
            }
            http2::send(&mut out, message(all)).await?;
        }
        "/One/Bidi" => {
            while let Some(asked) = inbox.next().await {
                http2::send(&mut out, message(asked)).await?;
            }
        }
        _ => trailers = status(12, "no such method"),
    }
    out.send_trailers(trailers)
}
