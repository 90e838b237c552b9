//! The reply codes with which a channel or a connection is closed.

macro_rules! replies {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal, $text:literal, $hard:literal;)+) => {
        /// Why a channel or a connection is closed, or a message returned.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum ReplyCode { $($(#[doc = $doc])+ $name = $number,)+ }

        impl ReplyCode {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The name as the reply text begins with it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// Whether it closes the connection; otherwise it closes the channel alone.
            pub const fn closes_connection(self) -> bool {
                match self { $(Self::$name => $hard,)+ }
            }
        }
    };
}

replies! {
    /// All is well.
    Success = 200, "OK", false;
    /// The content is larger than the server takes.
    ContentTooLarge = 311, "CONTENT_TOO_LARGE", false;
    /// The message leads to no queue.
    NoRoute = 312, "NO_ROUTE", false;
    /// No consumer was ready for an immediate message.
    NoConsumers = 313, "NO_CONSUMERS", false;
    /// An operator closed the connection.
    ConnectionForced = 320, "CONNECTION_FORCED", true;
    /// No virtual host has this name.
    InvalidPath = 402, "INVALID_PATH", true;
    /// The user may not do this.
    AccessRefused = 403, "ACCESS_REFUSED", false;
    /// Nothing has this name.
    NotFound = 404, "NOT_FOUND", false;
    /// It belongs to another connection.
    ResourceLocked = 405, "RESOURCE_LOCKED", false;
    /// A condition of the request does not hold.
    PreconditionFailed = 406, "PRECONDITION_FAILED", false;
    /// A frame that cannot be decoded.
    FrameError = 501, "FRAME_ERROR", true;
    /// A field with a value that cannot be.
    SyntaxError = 502, "SYNTAX_ERROR", true;
    /// A method out of turn.
    CommandInvalid = 503, "COMMAND_INVALID", true;
    /// A channel that is not open, or open already.
    ChannelError = 504, "CHANNEL_ERROR", true;
    /// A frame out of turn.
    UnexpectedFrame = 505, "UNEXPECTED_FRAME", true;
    /// The server lacks what it needs.
    ResourceError = 506, "RESOURCE_ERROR", true;
    /// It is not allowed, whoever asks.
    NotAllowed = 530, "NOT_ALLOWED", true;
    /// It is not offered.
    NotImplemented = 540, "NOT_IMPLEMENTED", true;
    /// A fault in the server.
    InternalError = 541, "INTERNAL_ERROR", true;
}

impl ReplyCode {
    /// The number on the wire.
    pub const fn number(self) -> u16 {
        self as u16
    }
}
