//! A request as every surface hands it in: the request path, the admin API and tests.

use std::{fmt, net::IpAddr};

use bytes::Bytes;
use weft_wire::{Fields, Known, Method};

/// A request whose body has been read.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The path as it was sent, escapes included; it begins with `/v1`.
    pub path: String,
    /// The query, without its question mark.
    pub query: String,
    /// The fields.
    pub fields: Fields,
    /// The body.
    pub body: Bytes,
    /// Whether its connection is asked to become a WebSocket, and can: `Upgrade` of HTTP/1.1, or extended
    /// CONNECT of HTTP/2.
    pub upgrades: bool,
    /// Who sent it.
    pub peer: Caller,
}

/// Who sent a request, and what it belongs to.
#[derive(Clone, Copy, Default)]
pub struct Caller {
    /// The client, as far as it can be believed.
    pub client: Option<IpAddr>,
    /// The trace that messages of this request belong to, as `traceparent`; `None` for what the request
    /// itself says.
    pub traceparent: Option<[u8; 55]>,
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller").field("client", &self.client).finish_non_exhaustive()
    }
}

impl Request {
    /// A request without fields and body; for tests and for callers within the process.
    pub fn new(method: Method, target: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Self {
            method,
            path: path.to_owned(),
            query: query.to_owned(),
            fields: Fields::new(),
            body: Bytes::new(),
            upgrades: false,
            peer: Caller::default(),
        }
    }

    /// The same with a body.
    #[must_use]
    pub fn with_body(self, body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..self }
    }

    /// The same with a field; one that is no field is left out.
    #[must_use]
    pub fn with_field(mut self, name: &str, value: &str) -> Self {
        self.fields.append(name, value.as_bytes());
        self
    }

    /// The same over a connection that is asked to become a WebSocket.
    #[must_use]
    pub fn upgrading(self) -> Self {
        Self { upgrades: true, ..self }
    }

    /// A field as text, if it is there and is text.
    pub fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.fields.named(name)?).ok().map(str::trim)
    }

    /// Whether the client asks for a media type by its name; a range such as `*/*` asks for none.
    pub fn accepts(&self, media: &str) -> bool {
        self.fields.all(Known::Accept).any(|value| {
            value.split(|byte| *byte == b',').any(|range| {
                let name = range.split(|byte| *byte == b';').next().unwrap_or_default();
                name.trim_ascii().eq_ignore_ascii_case(media.as_bytes())
            })
        })
    }

    /// The trace that messages of this request belong to.
    pub fn traceparent(&self) -> Option<&str> {
        let given = match &self.peer.traceparent {
            Some(given) => given.as_slice(),
            None => self.fields.get(Known::Traceparent)?,
        };
        let shape = given.len() == 55
            && given.iter().enumerate().all(|(at, byte)| match at {
                2 | 35 | 52 => *byte == b'-',
                _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
            });
        if shape { std::str::from_utf8(given).ok() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_type_is_asked_for_by_its_name() {
        for (accept, asks) in [
            ("text/event-stream", true),
            ("application/json, Text/Event-Stream;q=0.5", true),
            ("text/*", false),
            ("*/*", false),
            ("", false),
        ] {
            let request = Request::new(Method::Get, "/v1/x").with_field("accept", accept);
            assert_eq!(request.accepts("text/event-stream"), asks, "{accept}");
        }
    }

    #[test]
    fn a_trace_is_one_or_none() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        for (field, trace) in [(good, Some(good)), ("00-0af7", None), (&good.to_uppercase(), None)]
        {
            let request = Request::new(Method::Get, "/v1/x").with_field("traceparent", field);
            assert_eq!(request.traceparent(), trace, "{field}");
        }
    }
}
