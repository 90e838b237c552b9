//! One header block, held to the rules of HTTP/2 that the library does not hold it to, or holds the whole
//! connection to.

use weft_wire::{
    fields::is_token,
    hpack::{self, ENTRY_COST},
};

use super::{
    Limits, Sender,
    heads::{Fault, Part},
};

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
}

impl Look {
    pub(super) const fn new(sender: Sender, part: Part, limits: Limits) -> Self {
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
        }
    }

    pub(super) fn field(&mut self, name: &[u8], value: &[u8]) {
        if self.fault.is_some() {
            return;
        }
        self.list += name.len() + value.len() + ENTRY_COST;
        self.bytes += name.len() + value.len() + 4;
        self.count += 1;
        let too_large = match self.part {
            Part::Head | Part::Late => self.list >= self.limits.list_max,
            Part::Trailers => {
                let limits = self.limits.trailers;
                self.bytes > limits.bytes_max || self.count > limits.count_max
            }
        };
        if too_large {
            self.fault = Some(Fault::TooLarge);
        } else if let Err(say) = self.check(name, value) {
            self.fault = Some(Fault::Malformed(say));
        } else if (100..200).contains(&self.status) && name == b"content-length" {
            // An interim response has no body whose length it could tell (RFC 9110 section 8.6).
            self.differs = true;
        } else if self.keeps {
            hpack::encode_plain(name, value, &mut self.kept);
        }
        if self.fault.is_some() {
            self.kept = Vec::new();
        }
    }

    /// What must hold of a field so that the library can take it, and what it drops in silence.
    fn check(&mut self, name: &[u8], value: &[u8]) -> Result<(), &'static str> {
        if name.first() == Some(&b':') {
            return self.check_pseudo(name, value);
        }
        self.regular = true;
        if name.is_empty() || !name.iter().all(|b| is_token(*b) && !b.is_ascii_uppercase()) {
            return Err("a field name is not lower case, or no name");
        }
        if value.iter().any(|b| *b < b' ' && *b != b'\t' || *b == 0x7f) {
            return Err("a field value has a control character");
        }
        let of_connection = match name {
            b"connection" | b"transfer-encoding" | b"upgrade" | b"keep-alive"
            | b"proxy-connection" => true,
            b"te" => value != b"trailers",
            _ => false,
        };
        if of_connection { Err("a field that concerns a connection") } else { Ok(()) }
    }

    fn check_pseudo(&mut self, name: &[u8], value: &[u8]) -> Result<(), &'static str> {
        if self.part == Part::Trailers {
            return Err("a pseudo-header is among the trailers");
        }
        if self.regular {
            return Err("a pseudo-header comes after a field");
        }
        match (self.sender, &name[1..]) {
            (Sender::Client, b"method")
                if value.is_empty() || !value.iter().all(|b| is_token(*b)) =>
            {
                Err("the method is none")
            }
            (Sender::Client, b"path") if value.contains(&b'#') => Err("the path has a fragment"),
            (Sender::Client, b"method" | b"path" | b"scheme" | b"authority" | b"protocol") => {
                std::str::from_utf8(value).map(drop).map_err(|_utf8| "a pseudo-header is not text")
            }
            (Sender::Service, b"status") if self.status != 0 => Err(":status is there twice"),
            (Sender::Service, b"status") => match *value {
                [b'1', b'0', b'1'] => Err("there is no Switching Protocols in HTTP/2"),
                [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] => {
                    let digit = |digit: u8| u16::from(digit - b'0');
                    self.status = digit(a) * 100 + digit(b) * 10 + digit(c);
                    // Some of its fields may have to go.
                    self.keeps |= self.status < 200;
                    Ok(())
                }
                _ => Err(":status is not a status"),
            },
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
