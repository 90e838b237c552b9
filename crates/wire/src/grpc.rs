//! What gRPC puts into HTTP/2: content types, timeouts, statuses, messages and their frames.
//!
//! By `doc/PROTOCOL-HTTP2.md`, `doc/http-grpc-status-mapping.md` and `doc/statuscodes.md` of grpc/grpc,
//! and the HTTP mapping of `google/rpc/code.proto`. Bodies are never buffered: [`Messages`] follows the
//! frames as they pass.

mod frame;
mod status;
mod timeout;

pub use frame::{
    COMPRESSED, FrameError, MESSAGE_BYTES_MAX, Messages, PREFIX_BYTES, Prefix, TRAILERS,
};
pub use status::{Status, decode_message, encode_message};
pub use timeout::{format_timeout, parse_timeout};

/// Which protocol of the family a content type names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// gRPC over HTTP/2.
    Grpc,
    /// gRPC-Web with binary bodies.
    Web,
    /// gRPC-Web with base64 bodies.
    WebText,
}

impl Kind {
    /// The content type without a message format.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Grpc => "application/grpc",
            Self::Web => "application/grpc-web",
            Self::WebText => "application/grpc-web-text",
        }
    }
}

/// A content type of the family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentType<'a> {
    /// The protocol.
    pub kind: Kind,
    /// The message format, such as `proto` or `json`; empty if it is not named, which means `proto`.
    pub format: &'a [u8],
}

impl<'a> ContentType<'a> {
    /// Reads a `Content-Type`; `None` if it is none of the family. Parameters are passed over.
    pub fn of(value: &'a [u8]) -> Option<Self> {
        let value = value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        // The longest name first, because each begins with the next.
        for kind in [Kind::WebText, Kind::Web, Kind::Grpc] {
            let name = kind.text().as_bytes();
            let Some((head, rest)) = value.split_at_checked(name.len()) else { continue };
            if !head.eq_ignore_ascii_case(name) {
                continue;
            }
            return match rest.split_first() {
                None => Some(Self { kind, format: b"" }),
                Some((b'+', format))
                    if !format.is_empty() && format.iter().all(|b| crate::fields::is_token(*b)) =>
                {
                    Some(Self { kind, format })
                }
                Some(_) => None,
            };
        }
        None
    }

    /// Appends the content type of the same message format in another protocol.
    pub fn write_as(&self, kind: Kind, out: &mut Vec<u8>) {
        out.extend_from_slice(kind.text().as_bytes());
        if !self.format.is_empty() {
            out.push(b'+');
            out.extend_from_slice(self.format);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types() {
        for (text, expect) in [
            ("application/grpc", Some((Kind::Grpc, ""))),
            ("application/grpc+proto", Some((Kind::Grpc, "proto"))),
            ("Application/GRPC+json; charset=utf-8", Some((Kind::Grpc, "json"))),
            (" application/grpc ;x", Some((Kind::Grpc, ""))),
            ("application/grpc-web", Some((Kind::Web, ""))),
            ("application/grpc-web+proto", Some((Kind::Web, "proto"))),
            ("application/grpc-web-text", Some((Kind::WebText, ""))),
            ("application/grpc-web-text+thrift", Some((Kind::WebText, "thrift"))),
            ("application/grpcx", None),
            ("application/grpc-webs", None),
            ("application/grpc-web-texts", None),
            ("application/grpc+", None),
            ("application/grpc+a b", None),
            ("application/grp", None),
            ("application/json", None),
            ("text/application/grpc", None),
            ("", None),
            ("é", None),
        ] {
            let found = ContentType::of(text.as_bytes()).map(|t| (t.kind, t.format));
            assert_eq!(found, expect.map(|(kind, format)| (kind, format.as_bytes())), "{text}");
        }
        for (text, kind, expect) in [
            ("application/grpc-web-text+proto", Kind::Grpc, "application/grpc+proto"),
            ("application/grpc", Kind::Web, "application/grpc-web"),
            ("application/grpc+json", Kind::WebText, "application/grpc-web-text+json"),
        ] {
            let mut out = Vec::new();
            ContentType::of(text.as_bytes()).unwrap().write_as(kind, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expect);
        }
    }
}
