//! AMQP 0-9-1 with RabbitMQ's extensions: bytes to frames, methods, tables and properties, and back.
//!
//! By the AMQP 0-9-1 specification and its errata as RabbitMQ publishes them. Everything that is read
//! borrows from the bytes it was read from, and is checked whole at that moment: a [`Table`] that exists
//! can be walked without errors. Everything that is written goes straight into the caller's buffer.
//!
//! Invariants: no input makes it panic; nothing is allocated for what a length merely claims; tables
//! nest [`TABLE_DEPTH_MAX`] deep at most; a frame is never taken beyond the size that was agreed on, but
//! for the [`FRAME_OVERHEAD`] that some clients leave out of their count and RabbitMQ tolerates.
//!
//! Reading order: [`frame`], [`Method`], [`table`], [`Properties`], [`content`], [`ReplyCode`].

pub mod content;
pub mod frame;
mod method;
mod properties;
mod reader;
mod reply;
pub mod table;

pub use content::{ContentHeader, write_content};
pub use frame::{Frame, FrameKind};
pub use method::Method;
pub use properties::Properties;
pub use reply::ReplyCode;
pub use table::{Array, Entry, Table, TableWriter, Value};

/// The port of AMQP without TLS.
pub const PORT: u16 = 5672;
/// What a client says first: the protocol's name and version 0-9-1.
pub const PROTOCOL_HEADER: &[u8; 8] = b"AMQP\0\0\x09\x01";
/// The smallest frame size that may be agreed on, and the largest frame before one was.
pub const FRAME_BYTES_MIN: u32 = 4096;
/// What a frame holds beside its payload: type, channel, length, and the end octet.
pub const FRAME_OVERHEAD: usize = 8;
/// How deep tables and arrays may nest.
pub const TABLE_DEPTH_MAX: usize = 32;
/// The longest short string.
pub const SHORT_STRING_BYTES_MAX: usize = 255;

/// What breaks the protocol, with the reply code it is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A frame of a type that does not exist.
    #[error("type {0}, all octets = <<>>: unknown_frame")]
    FrameKind(u8),
    /// A frame whose payload is longer than was agreed on, and than is tolerated.
    #[error("type {kind}, all octets = <<>>: {{frame_too_large,{bytes},{max}}}")]
    FrameSize {
        /// Its type.
        kind: u8,
        /// How long it says its payload is.
        bytes: u32,
        /// How long that may be.
        max: u32,
    },
    /// A frame that does not end with the end octet.
    #[error("type {kind}, all octets = <<>>: {{invalid_frame_end_marker,{octet}}}")]
    FrameEnd {
        /// Its type.
        kind: u8,
        /// What stands in place of the end octet.
        octet: u8,
    },
    /// A field that ends beyond its frame, or bytes after the last field.
    #[error("{0} does not fit its frame")]
    Length(&'static str),
    /// A short string that is not UTF-8.
    #[error("{0} is not UTF-8")]
    Text(&'static str),
    /// A table value of a type that does not exist.
    #[error("unknown field type {0}")]
    FieldType(u8),
    /// Tables within tables beyond [`TABLE_DEPTH_MAX`].
    #[error("tables nest deeper than 32")]
    Depth,
    /// A method that does not exist.
    #[error("unknown method {class}.{method}")]
    Method {
        /// The class's number.
        class: u16,
        /// The method's number.
        method: u16,
    },
    /// A content header of another class than basic.
    #[error("expected content header for class 60, got one for class {0} instead")]
    Class(u16),
    /// Property flags that do not exist.
    #[error("unknown property flags {0:#06x}")]
    Flags(u16),
}

impl DecodeError {
    /// The reply code the connection is closed with.
    pub const fn reply(&self) -> ReplyCode {
        match self {
            Self::FrameKind(_) | Self::FrameSize { .. } | Self::FrameEnd { .. } => {
                ReplyCode::FrameError
            }
            Self::Method { .. } => ReplyCode::NotImplemented,
            Self::Class(_) => ReplyCode::UnexpectedFrame,
            _ => ReplyCode::SyntaxError,
        }
    }
}

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// The beginning of the header; more bytes are needed.
    Incomplete,
    /// The header of 0-9-1.
    Amqp091,
    /// Something else: answer [`PROTOCOL_HEADER`] and close.
    Other,
}

/// Reads what a client says first. It takes [`PROTOCOL_HEADER`]'s length.
pub fn parse_greeting(bytes: &[u8]) -> Greeting {
    let common = bytes.len().min(PROTOCOL_HEADER.len());
    // `AMQP 1 1 0 9` is what clients of 0-9-1 said before its errata, and RabbitMQ takes it.
    let old = b"AMQP\x01\x01\x00\x09";
    let fits = [PROTOCOL_HEADER, old].iter().any(|header| bytes[..common] == header[..common]);
    match (fits, common == PROTOCOL_HEADER.len()) {
        (true, true) => Greeting::Amqp091,
        (true, false) => Greeting::Incomplete,
        (false, _) => Greeting::Other,
    }
}

#[cfg(test)]
mod tests;
