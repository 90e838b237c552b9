//! Why a connection, or what was asked on it, has failed.

use std::{fmt, io};

use fallible_iterator::FallibleIterator as _;
use postgres_protocol::message::backend::ErrorResponseBody;

/// Classes of errors that a server names by a code, as far as something is made of them.
pub(crate) mod state {
    /// Somebody else has what is asked for.
    pub(crate) const OBJECT_IN_USE: &str = "55006";
    /// What is asked for is not in the state for it, such as a slot whose log is gone.
    pub(crate) const NOT_IN_STATE: &str = "55000";
    /// What is asked for is not there.
    pub(crate) const UNDEFINED_OBJECT: &str = "42704";
    /// What is to be made is there already.
    pub(crate) const DUPLICATE_OBJECT: &str = "42710";
    /// The role may not do it.
    pub(crate) const NOT_PRIVILEGED: &str = "42501";
}

/// Why something failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The server cannot be reached, or the connection is gone.
    Away(String),
    /// The server has refused something.
    Server(ServerError),
    /// What the server sends cannot be understood.
    Protocol(String),
}

impl Failure {
    /// Whether the server has refused something with a code.
    pub(crate) fn is(&self, state: &str) -> bool {
        matches!(self, Self::Server(error) if error.state == state)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Away(why) | Self::Protocol(why) => f.write_str(why),
            Self::Server(error) => error.fmt(f),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
                Self::Protocol(error.to_string())
            }
            _ => Self::Away(error.to_string()),
        }
    }
}

/// An error as a server tells it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ServerError {
    /// The code of its class.
    pub(crate) state: String,
    /// What it says.
    pub(crate) message: String,
}

impl ServerError {
    pub(super) fn of(body: &ErrorResponseBody) -> Self {
        const TEXT_MAX: usize = 500;
        let (mut state, mut message) = (String::new(), String::new());
        let mut fields = body.fields();
        while let Ok(Some(field)) = fields.next() {
            let text =
                || String::from_utf8_lossy(field.value_bytes()).chars().take(TEXT_MAX).collect();
            match field.type_() {
                b'C' => state = text(),
                b'M' => message = text(),
                _ => {}
            }
        }
        Self { state, message }
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.state)
    }
}
