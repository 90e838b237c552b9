//! Request and response heads, the same for every version of HTTP.

use std::fmt;

use crate::fields::Fields;

/// A request method.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Method {
    /// GET.
    Get,
    /// HEAD.
    Head,
    /// POST.
    Post,
    /// PUT.
    Put,
    /// DELETE.
    Delete,
    /// OPTIONS.
    Options,
    /// PATCH.
    Patch,
    /// CONNECT.
    Connect,
    /// TRACE.
    Trace,
    /// Any other token.
    Other(Box<str>),
}

impl Method {
    /// The method of a token; methods are case-sensitive (RFC 9110 section 9.1).
    pub fn of(token: &str) -> Self {
        match token {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "DELETE" => Self::Delete,
            "OPTIONS" => Self::Options,
            "PATCH" => Self::Patch,
            "CONNECT" => Self::Connect,
            "TRACE" => Self::Trace,
            other => Self::Other(other.into()),
        }
    }

    /// The token.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
            Self::Patch => "PATCH",
            Self::Connect => "CONNECT",
            Self::Trace => "TRACE",
            Self::Other(token) => token,
        }
    }

    /// Whether repeating the request has the effect of sending it once (RFC 9110 section 9.2.2).
    pub const fn is_idempotent(&self) -> bool {
        matches!(
            self,
            Self::Get | Self::Head | Self::Options | Self::Trace | Self::Put | Self::Delete
        )
    }

    /// Whether the method gives a meaning to a body, or may do so.
    pub const fn may_have_body(&self) -> bool {
        matches!(self, Self::Post | Self::Put | Self::Patch | Self::Other(_))
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The version a message came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2.
    Http2,
}

impl Version {
    /// As it stands in a request line, and in the access log.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        }
    }

    /// As it stands in `Via` (RFC 9110 section 7.6.3).
    pub const fn short(self) -> &'static str {
        match self {
            Self::Http10 => "1.0",
            Self::Http11 => "1.1",
            Self::Http2 => "2",
        }
    }
}

/// How long a body will be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Length {
    /// This many bytes.
    Exact(u64),
    /// Until it ends.
    Unknown,
}

impl Length {
    /// Whether there is no body at all.
    pub const fn is_none(self) -> bool {
        matches!(self, Self::Exact(0))
    }
}

/// The head of a request. The host stands in the `Host` field for every version.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// Path and query, `*`, or for CONNECT the authority.
    pub target: String,
    /// The version it came in.
    pub version: Version,
    /// The fields.
    pub fields: Fields,
    /// The protocol that the connection is to become: the `Upgrade` field with HTTP/1.1, `:protocol`
    /// with HTTP/2 (RFC 8441).
    pub upgrade: Option<Box<str>>,
}

impl RequestHead {
    /// The head of no request.
    pub const fn none() -> Self {
        Self {
            method: Method::Get,
            target: String::new(),
            version: Version::Http11,
            fields: Fields::new(),
            upgrade: None,
        }
    }

    /// The path, without the query.
    pub fn path(&self) -> &str {
        self.target.split_once('?').map_or(&self.target, |(path, _)| path)
    }

    /// The query, without its question mark.
    pub fn query(&self) -> Option<&str> {
        self.target.split_once('?').map(|(_, query)| query)
    }
}

/// The head of a response.
#[derive(Clone, Debug, PartialEq)]
pub struct ResponseHead {
    /// The status, 100 to 999.
    pub status: u16,
    /// The fields.
    pub fields: Fields,
}

impl ResponseHead {
    /// Whether a response of this status to a request of this method may have a body, whatever its
    /// fields say (RFC 9112 section 6.3).
    pub fn may_have_body(status: u16, method: &Method) -> bool {
        !(matches!(status, 100..200 | 204 | 304)
            || *method == Method::Head
            || (*method == Method::Connect && (200..300).contains(&status)))
    }

    /// A head of a status without fields.
    pub const fn new(status: u16) -> Self {
        Self { status, fields: Fields::new() }
    }
}
