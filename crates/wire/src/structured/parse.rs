//! Reading structured fields, by the algorithms of RFC 8941 section 4.2.

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

use super::{
    Bare, Dictionary, INTEGER_MAX, Item, MEMBERS_MAX, Member, PARAMS_MAX, Params, is_key,
    is_key_start, is_token, is_token_start,
};

/// Padding and left-over bits may be missing or set: section 4.2.7 asks parsers not to fail on them.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Why a text is no structured field, and at which byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at}")]
pub struct ParseError {
    /// What is wrong.
    pub what: &'static str,
    /// The offset in the input.
    pub at: usize,
}

/// Parses a field that is one item.
pub fn parse_item(input: &[u8]) -> Result<Item, ParseError> {
    let mut reader = Reader::new(input);
    let item = reader.item()?;
    reader.end()?;
    Ok(item)
}

/// Parses a field that is a list; an empty field is an empty list.
pub fn parse_list(input: &[u8]) -> Result<Vec<Member>, ParseError> {
    let mut reader = Reader::new(input);
    let mut members = Vec::new();
    while !reader.is_done() {
        if members.len() == MEMBERS_MAX {
            return Err(reader.error("too many members"));
        }
        members.push(reader.member()?);
        reader.comma()?;
    }
    Ok(members)
}

/// Parses a field that is a dictionary; an empty field is an empty dictionary. A key that comes again
/// replaces what it had, in its first place.
pub fn parse_dictionary(input: &[u8]) -> Result<Dictionary, ParseError> {
    let mut reader = Reader::new(input);
    let mut members: Dictionary = Vec::new();
    while !reader.is_done() {
        let key = reader.key()?;
        let member = if reader.take(b'=') {
            reader.member()?
        } else {
            Member::Item(Item { value: Bare::Boolean(true), params: reader.params()? })
        };
        if !put(&mut members, key, member, MEMBERS_MAX) {
            return Err(reader.error("too many members"));
        }
        reader.comma()?;
    }
    Ok(members)
}

/// Puts a value under its key, in the place that the key has; `false` if there is no room for another.
fn put<T>(pairs: &mut Vec<(String, T)>, key: &str, value: T, max: usize) -> bool {
    if let Some(slot) = pairs.iter_mut().find(|(name, _)| name == key) {
        slot.1 = value;
        return true;
    }
    let fits = pairs.len() < max;
    if fits {
        pairs.push((key.to_owned(), value));
    }
    fits
}

struct Reader<'a> {
    input: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn new(input: &'a [u8]) -> Self {
        let mut reader = Self { input, at: 0 };
        reader.skip(b" ");
        reader
    }

    const fn error(&self, what: &'static str) -> ParseError {
        ParseError { what, at: self.at }
    }

    fn peek(&self) -> Option<u8> {
        self.input.get(self.at).copied()
    }

    const fn is_done(&self) -> bool {
        self.at >= self.input.len()
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

    fn run(&mut self, fits: impl Fn(u8) -> bool) -> &'a [u8] {
        let rest = self.input.get(self.at..).unwrap_or_default();
        let len = rest.iter().position(|byte| !fits(*byte)).unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }

    fn ascii(&self, bytes: &'a [u8]) -> Result<&'a str, ParseError> {
        std::str::from_utf8(bytes).map_err(|_not_utf8| self.error("not ASCII"))
    }

    /// What stands after the last item: spaces alone.
    fn end(&mut self) -> Result<(), ParseError> {
        self.skip(b" ");
        if self.is_done() { Ok(()) } else { Err(self.error("text after the value")) }
    }

    /// What stands between members: a comma, with another member after it, or the end.
    fn comma(&mut self) -> Result<(), ParseError> {
        self.skip(b" \t");
        if self.is_done() {
            return Ok(());
        }
        if !self.take(b',') {
            return Err(self.error("expected a comma"));
        }
        self.skip(b" \t");
        if self.is_done() { Err(self.error("nothing after the comma")) } else { Ok(()) }
    }

    fn member(&mut self) -> Result<Member, ParseError> {
        if !self.take(b'(') {
            return Ok(Member::Item(self.item()?));
        }
        let mut items = Vec::new();
        loop {
            self.skip(b" ");
            if self.take(b')') {
                return Ok(Member::InnerList(items, self.params()?));
            }
            if items.len() == MEMBERS_MAX {
                return Err(self.error("too many members"));
            }
            items.push(self.item()?);
            if !matches!(self.peek(), Some(b' ' | b')')) {
                return Err(self.error("expected a space or `)`"));
            }
        }
    }

    fn item(&mut self) -> Result<Item, ParseError> {
        Ok(Item { value: self.bare()?, params: self.params()? })
    }

    fn params(&mut self) -> Result<Params, ParseError> {
        let mut params: Vec<(String, Bare)> = Vec::new();
        while self.take(b';') {
            self.skip(b" ");
            let key = self.key()?;
            let value = if self.take(b'=') { self.bare()? } else { Bare::Boolean(true) };
            if !put(&mut params, key, value, PARAMS_MAX) {
                return Err(self.error("too many parameters"));
            }
        }
        Ok(Params(params))
    }

    fn key(&mut self) -> Result<&'a str, ParseError> {
        if !self.peek().is_some_and(is_key_start) {
            return Err(self.error("expected a key"));
        }
        let key = self.run(is_key);
        self.ascii(key)
    }

    fn bare(&mut self) -> Result<Bare, ParseError> {
        match self.peek() {
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b'"') => self.string(),
            Some(b':') => self.bytes(),
            Some(b'?') => self.boolean(),
            Some(byte) if is_token_start(byte) => {
                let token = self.run(is_token);
                Ok(Bare::Token(self.ascii(token)?.to_owned()))
            }
            _ => Err(self.error("expected a value")),
        }
    }

    fn number(&mut self) -> Result<Bare, ParseError> {
        let sign = if self.take(b'-') { -1 } else { 1 };
        let whole = self.run(|byte| byte.is_ascii_digit());
        if whole.is_empty() {
            return Err(self.error("expected a digit"));
        }
        if !self.take(b'.') {
            if whole.len() > 15 {
                return Err(self.error("an integer of more than 15 digits"));
            }
            let value = digits(whole);
            debug_assert!(value <= INTEGER_MAX);
            return Ok(Bare::Integer(sign * value));
        }
        let fraction = self.run(|byte| byte.is_ascii_digit());
        if whole.len() > 12 || fraction.is_empty() || fraction.len() > 3 {
            return Err(self.error("a decimal has up to 12 digits, a point, and 1 to 3 digits"));
        }
        let scale = [100, 10, 1][fraction.len() - 1];
        Ok(Bare::Decimal(sign * (digits(whole) * 1000 + digits(fraction) * scale)))
    }

    fn string(&mut self) -> Result<Bare, ParseError> {
        self.at += 1;
        let mut text = String::new();
        loop {
            let plain =
                self.run(|byte| matches!(byte, 0x20..=0x7e) && !matches!(byte, b'"' | b'\\'));
            text.push_str(self.ascii(plain)?);
            if self.take(b'"') {
                return Ok(Bare::String(text));
            }
            if !self.take(b'\\') {
                return Err(self.error("a string that does not end, or is not printable ASCII"));
            }
            match self.peek() {
                Some(byte @ (b'"' | b'\\')) => text.push(char::from(byte)),
                _ => return Err(self.error("only `\"` and `\\` are escaped")),
            }
            self.at += 1;
        }
    }

    fn bytes(&mut self) -> Result<Bare, ParseError> {
        self.at += 1;
        let text = self.run(|byte| byte != b':');
        if !self.take(b':') {
            return Err(self.error("a byte sequence that does not end"));
        }
        let bytes = BASE64.decode(text).map_err(|_what| self.error("not base64"))?;
        Ok(Bare::Bytes(bytes))
    }

    fn boolean(&mut self) -> Result<Bare, ParseError> {
        self.at += 1;
        let value = match self.peek() {
            Some(b'1') => true,
            Some(b'0') => false,
            _ => return Err(self.error("a boolean is `?0` or `?1`")),
        };
        self.at += 1;
        Ok(Bare::Boolean(value))
    }
}

/// The number of at most fifteen digits.
fn digits(text: &[u8]) -> i64 {
    text.iter().fold(0, |value, byte| value * 10 + i64::from(byte - b'0'))
}
