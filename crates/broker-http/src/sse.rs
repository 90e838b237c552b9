//! Server-sent events, as the HTML standard has them (section 9.2).

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream as chunks;
use weft_kernel::Result;
use weft_net::Stop;

use crate::response::{EVENT_STREAM, Response};

/// How often a stream that has nothing to say shows that it is alive.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(15);
/// What it shows.
pub(crate) const ALIVE: Bytes = Bytes::from_static(b": alive\n\n");
/// What a stream begins with: clients come again after three seconds.
pub(crate) const HELLO: Bytes = Bytes::from_static(b"retry: 3000\n\n");

/// The type of the event that stands for a message whose bytes are damaged.
pub(crate) const DAMAGED: &str = "weft.damaged";
/// The type of the event that stands for a message that cannot be shown as an event.
pub(crate) const UNREADABLE: &str = "weft.unreadable";
/// The type of the event that tells of messages that are no longer kept.
const GAP: &str = "weft.gap";

/// What tells events as they come.
pub(crate) trait Teller: Send + 'static {
    /// The next events, as they are written. Cancel-safe.
    fn next(&mut self) -> impl Future<Output = Result<Bytes>> + Send;

    /// Nothing more is asked of it, since the node drains.
    fn leave(&mut self) {}
}

/// A response that tells them until the drain, and shows in between that it is alive.
pub(crate) fn response(teller: impl Teller, stop: Stop) -> Response {
    let chunks = chunks::unfold(Some((teller, stop, false)), |state| async {
        let (mut teller, stop, has_begun) = state?;
        if !has_begun {
            return Some((Ok(HELLO), Some((teller, stop, true))));
        }
        let told = tokio::select! {
            biased;
            () = stop.draining() => {
                teller.leave();
                return None;
            }
            told = tokio::time::timeout(HEARTBEAT, teller.next()) => told,
        };
        match told.unwrap_or(Ok(ALIVE)) {
            Ok(chunk) => Some((Ok(chunk), Some((teller, stop, true)))),
            Err(error) => Some((Err(error), None)),
        }
    });
    Response::stream(EVENT_STREAM, Box::pin(chunks))
}

/// The event that tells a client which messages it will not see, in JSON.
pub(crate) fn gap(data: &str) -> Bytes {
    let mut out = Vec::with_capacity(80);
    write(&mut out, "", GAP, data.as_bytes());
    out.into()
}

/// Appends an event. `id` and `kind` lose what would end their line; `data` is split into lines.
pub(crate) fn write(out: &mut Vec<u8>, id: &str, kind: &str, data: &[u8]) {
    field(out, b"id: ", id);
    field(out, b"event: ", kind);
    for line in data.split(|byte| matches!(byte, b'\n' | b'\r')) {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    out.push(b'\n');
}

fn field(out: &mut Vec<u8>, name: &[u8], value: &str) {
    if value.is_empty() {
        return;
    }
    out.extend_from_slice(name);
    // NUL would make clients disregard the id.
    out.extend(value.bytes().filter(|byte| !matches!(byte, b'\n' | b'\r' | 0)));
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_lines_and_an_empty_line() {
        for (id, kind, data, expected) in [
            ("7", "order.placed", "{}", "id: 7\nevent: order.placed\ndata: {}\n\n"),
            ("", "", "a\nb", "data: a\ndata: b\n\n"),
            ("1\n2", "x\r\ndata: forged", "{}", "id: 12\nevent: xdata: forged\ndata: {}\n\n"),
        ] {
            let mut out = Vec::new();
            write(&mut out, id, kind, data.as_bytes());
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
