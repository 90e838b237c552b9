//! What a client is told when it is refused: the reply code, the text as RabbitMQ words it, and whether
//! the channel or the whole connection ends.

use std::fmt;

use weft_kernel::{Code, Error, Reason};
use weft_wire::amqp::{DecodeError, ReplyCode};

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
    }
}
