//! One error for all rooms: what happened, whose side it was on, whether a retry helps, and where.
//!
//! The set of [`Code`]s is small and closed, and each is mapped once to every protocol. The text for
//! the caller ([`Error::said`]) and the note for the operator ([`Error::note`]) are two strings, and a
//! cause is kept as a source, never flattened into text.

use std::{borrow::Cow, error::Error as StdError, fmt, time::Duration};

use crate::reason::Reason;

/// A result with Weft's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure it is; closed, and mapped once to each protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The caller sent something malformed.
    Invalid,
    /// Who the caller is could not be established.
    Unauthenticated,
    /// The caller is known and may not do this.
    Denied,
    /// Nothing is there.
    NotFound,
    /// The method is not offered on this resource.
    MethodNotAllowed,
    /// It collides with what is there.
    Conflict,
    /// Larger than a named limit.
    TooLarge,
    /// The caller took too long to send it.
    Slow,
    /// The caller sends too much.
    RateLimited,
    /// Weft or the service has no room now.
    Overloaded,
    /// Nobody can answer now.
    Unavailable,
    /// The answer of the other side broke its protocol or the connection.
    BadGateway,
    /// Time ran out.
    Deadline,
    /// The caller went away.
    Cancelled,
    /// Not offered at all.
    Unimplemented,
    /// A fault in Weft itself.
    Internal,
}

impl Code {
    /// Every code, for tables and tests that must miss none.
    pub const ALL: [Self; 16] = [
        Self::Invalid,
        Self::Unauthenticated,
        Self::Denied,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::Conflict,
        Self::TooLarge,
        Self::Slow,
        Self::RateLimited,
        Self::Overloaded,
        Self::Unavailable,
        Self::BadGateway,
        Self::Deadline,
        Self::Cancelled,
        Self::Unimplemented,
        Self::Internal,
    ];

    /// The HTTP status (RFC 9110; 499 as nginx uses it for a caller that went away).
    pub const fn http(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::Unauthenticated => 401,
            Self::Denied => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::Conflict => 409,
            Self::TooLarge => 413,
            Self::Slow => 408,
            Self::RateLimited => 429,
            Self::Overloaded | Self::Unavailable => 503,
            Self::BadGateway => 502,
            Self::Deadline => 504,
            Self::Cancelled => 499,
            Self::Unimplemented => 501,
            Self::Internal => 500,
        }
    }

    /// The gRPC status number (grpc/grpc `doc/statuscodes.md`).
    pub const fn grpc(self) -> u8 {
        match self {
            Self::Cancelled => 1,
            Self::Invalid => 3,
            Self::Deadline | Self::Slow => 4,
            Self::NotFound => 5,
            Self::Conflict => 6,
            Self::Denied => 7,
            Self::TooLarge | Self::RateLimited | Self::Overloaded => 8,
            Self::MethodNotAllowed | Self::Unimplemented => 12,
            Self::Internal => 13,
            Self::Unavailable | Self::BadGateway => 14,
            Self::Unauthenticated => 16,
        }
    }

    /// The stable word for logs, metrics and JSON.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Unauthenticated => "unauthenticated",
            Self::Denied => "denied",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::Conflict => "conflict",
            Self::TooLarge => "too_large",
            Self::Slow => "slow",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::Unavailable => "unavailable",
            Self::BadGateway => "bad_gateway",
            Self::Deadline => "deadline",
            Self::Cancelled => "cancelled",
            Self::Unimplemented => "unimplemented",
            Self::Internal => "internal",
        }
    }
}

/// Whose fault a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Who sent the request.
    Caller,
    /// Weft, or how it is configured.
    Weft,
    /// Whom the request was for.
    Upstream,
}

impl Side {
    /// The stable word for logs and JSON.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Weft => "weft",
            Self::Upstream => "upstream",
        }
    }
}

/// Whether doing it again helps, and is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Retry {
    /// It will fail again, or may already have taken effect.
    No,
    /// Nothing has taken effect: any request may be sent again.
    Safe,
    /// It may have taken effect: only what is idempotent may be sent again.
    Idempotent,
    /// Not before this much time has passed.
    After(Duration),
}

/// A failure: what, whose side, whether a retry helps, and where.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    code: Code,
    reason: Reason,
    retry: Retry,
    say: Cow<'static, str>,
    note: Option<String>,
    place: Vec<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// A failure for `reason`, with its usual code, side and retry, and a text for the caller.
    pub fn new(reason: Reason, say: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            code: reason.code(),
            reason,
            retry: reason.retry(),
            say: say.into(),
            note: None,
            place: Vec::new(),
            source: None,
        }))
    }

    /// Adds what the operator should know and the caller need not.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.0.note = Some(note.into());
        self
    }

    /// Adds where it happened; called by each layer from the inside out.
    #[must_use]
    pub fn at(mut self, place: impl Into<String>) -> Self {
        self.0.place.push(place.into());
        self
    }

    /// Keeps the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Overrides whether a retry helps.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.0.retry = retry;
        self
    }

    /// What kind of failure it is.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The enumerated reason.
    pub fn reason(&self) -> Reason {
        self.0.reason
    }

    /// Whose fault it is.
    pub fn side(&self) -> Side {
        self.0.reason.side()
    }

    /// Whether a retry helps.
    pub fn retryable(&self) -> Retry {
        self.0.retry
    }

    /// The text for the caller.
    pub fn said(&self) -> &str {
        &self.0.say
    }

    /// The whole detail for the operator: where, what, the note, and the chain of causes.
    pub fn detail(&self) -> String {
        let mut text = self.to_string();
        if let Some(note) = &self.0.note {
            text.push_str(" (");
            text.push_str(note);
            text.push(')');
        }
        let mut cause = StdError::source(self);
        while let Some(inner) = cause {
            text.push_str(": ");
            text.push_str(&inner.to_string());
            cause = inner.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for place in self.0.place.iter().rev() {
            write!(f, "{place}: ")?;
        }
        f.write_str(&self.0.say)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_layer_adds_where_and_the_detail_keeps_the_cause() {
        let error = Error::new(Reason::ConnectTimeout, "connect timed out after 1s")
            .at("endpoint 10.0.0.7:80")
            .at("service orders")
            .because(std::io::Error::other("no route"));
        assert_eq!(
            error.to_string(),
            "service orders: endpoint 10.0.0.7:80: connect timed out after 1s"
        );
        assert!(error.detail().ends_with(": no route"));
        assert_eq!(error.code(), Code::Deadline);
        assert_eq!(error.side(), Side::Upstream);
        assert_eq!(error.retryable(), Retry::Safe);
    }

    #[test]
    fn codes_map_to_real_statuses_and_distinct_words() {
        let mut words: Vec<_> = Code::ALL.iter().map(|code| code.word()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Code::ALL.len());
        for code in Code::ALL {
            assert!((400..600).contains(&code.http()), "{code:?}");
            assert!((1..=16).contains(&code.grpc()), "{code:?}");
        }
    }
}
