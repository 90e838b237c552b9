//! What a client is told when it is refused: the reply code, the text as RabbitMQ words it, and whether
//! the channel or the whole connection ends.

use std::fmt;

use weft_kernel::{Code, Error, Reason};
use weft_wire::amqp::{DecodeError, Frame, ReplyCode};

use crate::options::Resource;

/// A refusal that closes a channel or a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) code: ReplyCode,
    /// The whole text, which begins with the code's name.
    pub(crate) text: String,
    /// Whether the connection ends; otherwise the channel alone.
    pub(crate) connection: bool,
}

impl Fault {
    /// A refusal of a code, with what is behind the dash; the code says what ends.
    pub(crate) fn new(code: ReplyCode, detail: impl fmt::Display) -> Self {
        Self {
            code,
            text: format!("{} - {detail}", code.name()),
            connection: code.closes_connection(),
        }
    }

    /// The same, but the connection ends whatever the code says.
    #[must_use]
    pub(crate) fn of_connection(mut self) -> Self {
        self.connection = true;
        self
    }

    pub(crate) fn no_queue(name: &str, vhost: &str) -> Self {
        Self::new(ReplyCode::NotFound, format_args!("no queue '{name}' in vhost '{vhost}'"))
    }

    pub(crate) fn no_exchange(name: &str, vhost: &str) -> Self {
        Self::new(ReplyCode::NotFound, format_args!("no exchange '{name}' in vhost '{vhost}'"))
    }

    pub(crate) fn precondition(detail: impl fmt::Display) -> Self {
        Self::new(ReplyCode::PreconditionFailed, detail)
    }

    pub(crate) fn refused(detail: impl fmt::Display) -> Self {
        Self::new(ReplyCode::AccessRefused, detail)
    }

    pub(crate) fn no_access(of: Resource<'_>, vhost: &str, user: &str) -> Self {
        let (kind, name) = (of.kind(), of.name());
        Self::refused(format_args!(
            "access to {kind} '{name}' in vhost '{vhost}' refused for user '{user}'"
        ))
    }

    pub(crate) fn locked(queue: &str, vhost: &str) -> Self {
        Self::new(
            ReplyCode::ResourceLocked,
            format_args!(
                "cannot obtain exclusive access to locked queue '{queue}' in vhost '{vhost}'. It \
                 could be originally declared on another connection or the exclusive property \
                 value does not match that of the original declaration."
            ),
        )
    }
}

/// Octets as RabbitMQ shows them: text if it can be read, else numbers; the first of many.
pub(crate) struct Octets<'a>(pub(crate) &'a [u8]);

/// How many octets are shown.
const OCTETS_MAX: usize = 16;

impl fmt::Display for Octets<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.len().min(OCTETS_MAX)];
        if shown.is_empty() {
            return f.write_str("<<>>");
        }
        if shown.iter().all(|octet| matches!(octet, b' '..=b'~')) {
            return write!(f, "<<\"{}\">>", String::from_utf8_lossy(shown));
        }
        f.write_str("<<")?;
        for (at, octet) in shown.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{octet}")?;
        }
        f.write_str(">>")
    }
}

impl Fault {
    /// A frame that has no place where it came: of a channel while the connection is not open, or
    /// anything but methods outside of one.
    pub(crate) fn out_of_place(frame: Frame<'_>) -> Self {
        Self::new(ReplyCode::UnexpectedFrame, Self::shown(frame))
    }

    /// A frame of a type that does not exist, or with a payload that its type has not.
    pub(crate) fn unknown(frame: Frame<'_>) -> Self {
        let shown = Self::shown(frame);
        Self::new(ReplyCode::FrameError, format_args!("{shown}: unknown_frame"))
    }

    fn shown(frame: Frame<'_>) -> String {
        let which = if frame.payload.len() > OCTETS_MAX { "first 16" } else { "all" };
        format!("type {}, {which} octets = {}", frame.kind as u8, Octets(frame.payload))
    }

    /// What a method whose payload cannot be read is answered with.
    pub(crate) fn of_method(error: DecodeError, payload: &[u8]) -> Self {
        match error {
            DecodeError::Length(_) => {
                let fields = payload.get(4..).unwrap_or_default();
                let shown = Octets(fields);
                Self::new(ReplyCode::FrameError, format_args!("cannot decode {shown}"))
            }
            DecodeError::Text(_) => Self::new(ReplyCode::FrameError, "Malformed UTF-8 in shortstr"),
            other => other.into(),
        }
    }
}

impl From<DecodeError> for Fault {
    fn from(error: DecodeError) -> Self {
        Self::new(error.reply(), error).of_connection()
    }
}

impl From<Error> for Fault {
    /// By the reason where AMQP has a code of its own for it, else by the kind of failure.
    fn from(error: Error) -> Self {
        let code = match (error.reason(), error.code()) {
            (Reason::NoQueue | Reason::NoTopic, _) => ReplyCode::NotFound,
            (Reason::QueueLocked, _) => ReplyCode::ResourceLocked,
            (Reason::Draining, _) => ReplyCode::ConnectionForced,
            (_, Code::Denied | Code::Unauthenticated) => ReplyCode::AccessRefused,
            (_, Code::NotFound) => ReplyCode::NotFound,
            (_, Code::Conflict | Code::Invalid | Code::TooLarge | Code::Overloaded) => {
                ReplyCode::PreconditionFailed
            }
            (_, Code::Unimplemented | Code::MethodNotAllowed) => ReplyCode::NotImplemented,
            _ => ReplyCode::InternalError,
        };
        Self::new(code, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_are_shown_as_rabbitmq_shows_them() {
        let check = |octets: &[u8], text: &str| assert_eq!(Octets(octets).to_string(), text);
        check(b"", "<<>>");
        check(b"12", "<<\"12\">>");
        check(&[0, 20, 0, 10, 0], "<<0,20,0,10,0>>");
        check(&[1; 20], "<<1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1>>");
    }

    #[test]
    fn every_reason_has_a_code_and_only_faults_of_weft_end_the_connection() {
        for reason in Reason::ALL {
            let fault = Fault::from(Error::new(*reason, "why"));
            assert!(fault.text.ends_with(" - why"), "{fault:?}");
            if fault.code == ReplyCode::InternalError {
                assert!(fault.connection);
            }
        }
        let check = |reason, code| assert_eq!(Fault::from(Error::new(reason, "")).code, code);
        check(Reason::NoQueue, ReplyCode::NotFound);
        check(Reason::QueueFull, ReplyCode::PreconditionFailed);
        check(Reason::QueueLocked, ReplyCode::ResourceLocked);
        check(Reason::StoragePoisoned, ReplyCode::InternalError);
        check(Reason::StorageUnavailable, ReplyCode::InternalError);
        check(Reason::Draining, ReplyCode::ConnectionForced);
    }
}
