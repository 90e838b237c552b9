//! One header block, held to the rules of HTTP/2 that the library does not hold it to, or holds the whole
//! connection to.
//!
//! What can be said of a field by itself is its [`Verdict`], which is found once and kept in HPACK's table;
//! what depends on the rest of the block is a [`Look`]'s.

use std::sync::LazyLock;

use http::uri::{Authority, PathAndQuery, Scheme};
use weft_wire::{
    Known,
    fields::is_token,
    hpack::{self, ENTRY_COST},
};

use super::{
    Limits, Sender,
    heads::{Fault, Part},
    request::Request,
};

/// What is to be said of a field by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A field that may be there, and its name if it is a known one.
    Field(Option<Known>),
    /// The length of a body.
    Length,
    /// A pseudo-header of a request.
    Request(Pseudo),
    /// The status of a response.
    Status(u16),
    /// A field that may not be there.
    BadField(&'static str),
    /// A pseudo-header that may not be there.
    BadPseudo(&'static str),
}

/// A pseudo-header of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pseudo {
    Method,
    Scheme,
    Authority,
    Path,
    Protocol,
}

/// A decoder that keeps the verdicts.
pub(super) fn decoder() -> hpack::Decoder<Verdict> {
    static VERDICTS: LazyLock<[Verdict; hpack::STATIC_LEN]> =
        LazyLock::new(|| hpack::verdicts(Verdict::of));
    hpack::Decoder::new(Verdict::of, &VERDICTS)
}

/// What may stand in a name by HTTP/2.
static OF_NAME: [bool; 256] = {
    let mut bytes = [false; 256];
    let mut at = 0_usize;
    while at < 256 {
        let byte = at as u8;
        bytes[at] = is_token(byte) && !byte.is_ascii_uppercase();
        at += 1;
    }
    bytes
};

/// Whether a value holds nothing that may not stand there; all of it is looked at, in wide steps.
fn is_value(value: &[u8]) -> bool {
    !value.iter().fold(false, |bad, byte| bad | (*byte < b' ' && *byte != b'\t') | (*byte == 0x7f))
}

impl Verdict {
    /// What must hold of a field so that the library can take it, and what it drops in silence.
    fn of(name: &[u8], value: &[u8]) -> Self {
        if let Some(pseudo) = name.strip_prefix(b":") {
            return Self::of_pseudo(pseudo, value);
        }
        if name.is_empty() || !name.iter().all(|byte| OF_NAME[usize::from(*byte)]) {
            return Self::BadField("a field name is not lower case, or no name");
        }
        if !is_value(value) {
            return Self::BadField("a field value has a control character");
        }
        let of_connection = match name {
            b"content-length" => return Self::Length,
            b"connection" | b"transfer-encoding" | b"upgrade" | b"keep-alive"
            | b"proxy-connection" => true,
            b"te" => value != b"trailers",
            _ => false,
        };
        match of_connection {
            true => Self::BadField("a field that concerns a connection"),
            false => Self::Field(Known::of(name)),
        }
    }

    fn of_pseudo(name: &[u8], value: &[u8]) -> Self {
        match name {
            b"method" if value.is_empty() || !value.iter().all(|b| is_token(*b)) => {
                Self::BadPseudo("the method is none")
            }
            b"method" => Self::Request(Pseudo::Method),
            b"path" if value.contains(&b'#') => Self::BadPseudo("the path has a fragment"),
            b"path" if value.is_empty() || PathAndQuery::try_from(value).is_err() => {
                Self::BadPseudo("the path is none")
            }
            b"path" => Self::Request(Pseudo::Path),
            b"scheme" if Scheme::try_from(value).is_err() => Self::BadPseudo("the scheme is none"),
            b"scheme" => Self::Request(Pseudo::Scheme),
            b"authority" if Authority::try_from(value).is_err() => {
                Self::BadPseudo("the authority is none")
            }
            b"authority" => Self::Request(Pseudo::Authority),
            b"protocol"
                if value.is_empty() || !value.iter().all(|b| is_token(*b) || *b == b'/') =>
            {
                Self::BadPseudo("the protocol is none")
            }
            b"protocol" => Self::Request(Pseudo::Protocol),
            b"status" => match *value {
                [b'1', b'0', b'1'] => Self::BadPseudo("there is no Switching Protocols in HTTP/2"),
                [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] => {
                    let digit = |digit: u8| u16::from(digit - b'0');
                    Self::Status(digit(a) * 100 + digit(b) * 10 + digit(c))
                }
                _ => Self::BadPseudo(":status is not a status"),
            },
            _ => Self::BadPseudo("a pseudo-header that does not belong there"),
        }
    }
}

/// One look at a block.
pub(super) struct Look {
    sender: Sender,
    pub(super) part: Part,
    limits: Limits,
    /// The size of the list, as HTTP/2 counts it, and of the lines, as HTTP/1.1 does.
    list: usize,
    bytes: usize,
    count: usize,
    pub(super) status: u16,
    /// A field that is no pseudo-header was there.
    regular: bool,
    pub(super) fault: Option<Fault>,
    /// Whether the fields are kept, and those that are.
    pub(super) keeps: bool,
    pub(super) kept: Vec<u8>,
    /// What is kept is not all that came.
    pub(super) differs: bool,
    /// The request that comes of it, if it is the head of one.
    pub(super) request: Option<Request>,
}

impl Look {
    pub(super) fn new(sender: Sender, part: Part, limits: Limits) -> Self {
        let is_request = (sender, part) == (Sender::Client, Part::Head);
        Self {
            sender,
            part,
            limits,
            list: 0,
            bytes: 0,
            count: 0,
            status: 0,
            regular: false,
            fault: None,
            keeps: false,
            kept: Vec::new(),
            differs: false,
            request: is_request.then(|| Request::new(limits.fields)),
        }
    }

    pub(super) fn field(&mut self, name: &[u8], value: &[u8], verdict: Verdict) {
        if self.fault.is_some() {
            return;
        }
        self.list += name.len() + value.len() + ENTRY_COST;
        self.bytes += name.len() + value.len() + 4;
        self.count += 1;
        let too_large = match self.part {
            Part::Head | Part::Late => self.list >= self.limits.list_max,
            Part::Trailers => {
                let limits = self.limits.fields;
                self.bytes > limits.bytes_max || self.count > limits.count_max
            }
        };
        if too_large {
            self.fault = Some(Fault::TooLarge);
        } else if let Err(say) = self.check(verdict) {
            self.fault = Some(Fault::Malformed(say));
        } else if verdict == Verdict::Length && (100..200).contains(&self.status) {
            // An interim response has no body whose length it could tell (RFC 9110 section 8.6).
            self.differs = true;
        } else if let Some(request) = &mut self.request {
            self.fault = request.field(name, value, verdict).err().map(Fault::Malformed);
        } else if self.keeps {
            hpack::encode_plain(name, value, &mut self.kept);
        }
        if self.fault.is_some() {
            self.kept = Vec::new();
        }
    }

    /// What must hold of a field beside those before it.
    fn check(&mut self, verdict: Verdict) -> Result<(), &'static str> {
        match verdict {
            Verdict::Field(_) | Verdict::Length => {
                self.regular = true;
                return Ok(());
            }
            Verdict::BadField(say) => return Err(say),
            _ if self.part == Part::Trailers => {
                return Err("a pseudo-header is among the trailers");
            }
            _ if self.regular => return Err("a pseudo-header comes after a field"),
            _ => {}
        }
        match (self.sender, verdict) {
            (Sender::Client, Verdict::Request(_)) => Ok(()),
            (Sender::Service, Verdict::Status(_)) if self.status != 0 => {
                Err(":status is there twice")
            }
            (Sender::Service, Verdict::Status(status)) => {
                self.status = status;
                // Some of its fields may have to go.
                self.keeps |= status < 200;
                Ok(())
            }
            (_, Verdict::BadPseudo(say)) => Err(say),
            _ => Err("a pseudo-header that does not belong there"),
        }
    }

    /// What can be said once all fields were there.
    pub(super) fn end(&mut self, ends: bool) {
        let interim = (100..200).contains(&self.status);
        if self.fault.is_none() && self.part == Part::Head && self.sender == Sender::Service {
            if self.status == 0 {
                self.fault = Some(Fault::Malformed("the head has no :status"));
            } else if interim && ends {
                self.fault = Some(Fault::Malformed("an interim response ends its stream"));
            }
        }
    }
}
