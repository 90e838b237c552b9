//! The elements of `Forwarded` (RFC 7239 section 4), one a hop.

use std::{borrow::Cow, net::IpAddr};

use super::node::{self, Node};
use crate::fields::is_token;

/// What one hop says. Parameters that are not known are checked and passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Element<'a> {
    /// Who called the hop; named so because `for` is a keyword. `None` if it is absent.
    pub for_: Option<Node<'a>>,
    /// Where the hop was called. `None` if it is absent.
    pub by: Option<Node<'a>>,
    /// The host that it was called with.
    pub host: Option<Cow<'a, str>>,
    /// The scheme that it was called with, as it stands.
    pub proto: Option<Cow<'a, str>>,
}

/// A line that breaks the grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the Forwarded field is malformed at byte {at}")]
pub struct Malformed {
    /// The offset in the line.
    pub at: usize,
}

/// The elements of one line, in order. After an error nothing more comes.
pub fn elements(line: &[u8]) -> impl Iterator<Item = Result<Element<'_>, Malformed>> {
    let mut reader = Reader { line, at: 0 };
    let mut broken = false;
    std::iter::from_fn(move || {
        if broken {
            return None;
        }
        let next = reader.element().transpose();
        broken = matches!(next, Some(Err(_)));
        next
    })
}

struct Reader<'a> {
    line: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.line.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn skip(&mut self, what: &[u8]) {
        while self.peek().is_some_and(|byte| what.contains(&byte)) {
            self.at += 1;
        }
    }

    const fn malformed(&self) -> Malformed {
        Malformed { at: self.at }
    }

    /// The next element; empty ones are passed over, as in every list (RFC 9110 section 5.6.1).
    fn element(&mut self) -> Result<Option<Element<'a>>, Malformed> {
        self.skip(b" \t,");
        if self.peek().is_none() {
            return Ok(None);
        }
        let mut element = Element::default();
        let mut seen = 0u8;
        loop {
            // No space stands around `=` and `;` by the grammar; around `;` senders put it all the same.
            if !matches!(self.peek(), Some(b';' | b',') | None) {
                let at = self.at;
                let bit = self.pair(&mut element)?;
                if seen & bit != 0 {
                    return Err(Malformed { at });
                }
                seen |= bit;
            }
            self.skip(b" \t");
            if self.take(b';') {
                self.skip(b" \t");
                continue;
            }
            if self.peek().is_none() || self.take(b',') {
                return Ok(Some(element));
            }
            return Err(self.malformed());
        }
    }

    /// One `name=value`; answers a bit for a name that may stand once.
    fn pair(&mut self, element: &mut Element<'a>) -> Result<u8, Malformed> {
        let name = self.token()?;
        if !self.take(b'=') {
            return Err(self.malformed());
        }
        let at = self.at;
        let value =
            if self.peek() == Some(b'"') { self.quoted()? } else { Cow::Borrowed(self.token()?) };
        if name.eq_ignore_ascii_case("for") {
            element.for_ = Some(node_of(value).ok_or(Malformed { at })?);
            return Ok(1);
        }
        if name.eq_ignore_ascii_case("by") {
            element.by = Some(node_of(value).ok_or(Malformed { at })?);
            return Ok(2);
        }
        if name.eq_ignore_ascii_case("host") {
            if !node::is_host(&value) {
                return Err(Malformed { at });
            }
            element.host = Some(value);
            return Ok(4);
        }
        if name.eq_ignore_ascii_case("proto") {
            element.proto = Some(value);
            return Ok(8);
        }
        Ok(0)
    }

    fn token(&mut self) -> Result<&'a str, Malformed> {
        let rest = self.line.get(self.at..).unwrap_or_default();
        let len = rest.iter().position(|byte| !is_token(*byte)).unwrap_or(rest.len());
        if len == 0 {
            return Err(self.malformed());
        }
        let token = std::str::from_utf8(&rest[..len]).map_err(|_not_utf8| self.malformed())?;
        self.at += len;
        Ok(token)
    }

    /// A quoted string of printable ASCII; borrowed as long as nothing in it is escaped.
    fn quoted(&mut self) -> Result<Cow<'a, str>, Malformed> {
        self.at += 1;
        let start = self.at;
        let mut owned: Option<String> = None;
        while let Some(byte) = self.peek() {
            let byte = match byte {
                b'"' => {
                    let text = &self.line[start..self.at];
                    self.at += 1;
                    return match owned {
                        Some(text) => Ok(Cow::Owned(text)),
                        None => std::str::from_utf8(text)
                            .map(Cow::Borrowed)
                            .map_err(|_not_utf8| self.malformed()),
                    };
                }
                b'\\' => {
                    if owned.is_none() {
                        let text = String::from_utf8_lossy(&self.line[start..self.at]);
                        owned = Some(text.into_owned());
                    }
                    self.at += 1;
                    self.peek().ok_or(self.malformed())?
                }
                byte => byte,
            };
            if !matches!(byte, b'\t' | 0x20..=0x7e) {
                break;
            }
            if let Some(text) = &mut owned {
                text.push(char::from(byte));
            }
            self.at += 1;
        }
        Err(self.malformed())
    }
}

/// The node of a value. An escape in a node has no use, so that only a borrowed value is one.
fn node_of(value: Cow<'_, str>) -> Option<Node<'_>> {
    match value {
        Cow::Borrowed(text) => Node::parse(text.as_bytes()),
        Cow::Owned(_) => None,
    }
}

/// Appends Weft's own element: who called, with which host and scheme. A host that is none is left out.
pub fn write_element(peer: IpAddr, host: Option<&str>, is_secure: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(b"for=");
    match peer.to_canonical() {
        address @ IpAddr::V4(_) => node::write_address(address, out),
        address @ IpAddr::V6(_) => {
            out.extend_from_slice(b"\"[");
            node::write_address(address, out);
            out.extend_from_slice(b"]\"");
        }
    }
    if let Some(host) = host.filter(|host| node::is_host(host)) {
        out.extend_from_slice(b";host=");
        let quoted = !host.bytes().all(is_token);
        out.extend_from_slice(if quoted { b"\"" } else { b"" });
        out.extend_from_slice(host.as_bytes());
        out.extend_from_slice(if quoted { b"\"" } else { b"" });
    }
    out.extend_from_slice(if is_secure { b";proto=https" as &[u8] } else { b";proto=http" });
}
