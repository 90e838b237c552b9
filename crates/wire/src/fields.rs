//! Header fields as an ordered list of lines in one buffer.
//!
//! A line is held as it travels in HTTP/1.1 (`name: value` CRLF, the name in lower case), so that a
//! head which is passed on costs one copy a line. Order and repetition are kept, names are compared by
//! a small known-name table first, and a bit per known name answers "is it there" without a search.
//! Invariant: no name holds anything but token characters, no value holds CR, LF or NUL.

mod alike;
mod hops;
mod known;

use std::{fmt, ops::Range};

pub use alike::{begins_alike, is_alike, is_odd};
pub use known::{Known, KnownNames};
use known::{Names, UNKNOWN};

#[derive(Clone, Copy)]
struct Line {
    start: u32,
    value_len: u32,
    name_len: u16,
    known: u8,
}

/// Header or trailer fields, in order.
#[derive(Clone, Default)]
pub struct Fields {
    text: Vec<u8>,
    lines: Vec<Line>,
    present: Names,
}

impl Fields {
    /// No fields.
    pub const fn new() -> Self {
        Self { text: Vec::new(), lines: Vec::new(), present: Names::none() }
    }

    /// No fields, with room for `lines` of them in `bytes`.
    pub fn with_capacity(lines: usize, bytes: usize) -> Self {
        Self {
            text: Vec::with_capacity(bytes),
            lines: Vec::with_capacity(lines),
            present: Names::none(),
        }
    }

    /// A copy with room for what is usually added.
    pub fn roomy(&self) -> Self {
        let mut copy = Self::with_capacity(self.lines.len() + 8, self.text.len() + 512);
        copy.text.extend_from_slice(&self.text);
        copy.lines.extend_from_slice(&self.lines);
        copy.present = self.present;
        copy
    }

    /// How many lines there are.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Their size on the wire in HTTP/1.1, in bytes.
    pub fn wire_len(&self) -> usize {
        self.lines.iter().map(|line| line.name_len as usize + line.value_len as usize + 4).sum()
    }

    /// Whether a known name is there.
    pub const fn has(&self, known: Known) -> bool {
        self.present.has(known as u8)
    }

    fn name_of(&self, line: &Line) -> &[u8] {
        let start = line.start as usize;
        &self.text[start..start + line.name_len as usize]
    }

    fn value_of(&self, line: &Line) -> &[u8] {
        let start = line.start as usize + line.name_len as usize + 2;
        &self.text[start..start + line.value_len as usize]
    }

    fn is(&self, line: &Line, name: &[u8], known: u8) -> bool {
        if known != UNKNOWN || line.known != UNKNOWN {
            return line.known == known;
        }
        self.name_of(line) == name
    }

    /// The first value of a known name.
    pub fn get(&self, known: Known) -> Option<&[u8]> {
        if !self.has(known) {
            return None;
        }
        self.lines.iter().find(|line| line.known == known as u8).map(|line| self.value_of(line))
    }

    /// The first value of a known name, if it is text.
    pub fn get_str(&self, known: Known) -> Option<&str> {
        std::str::from_utf8(self.get(known)?).ok()
    }

    /// Every value of a known name, in order.
    pub fn all(&self, known: Known) -> impl Iterator<Item = &[u8]> {
        let there = self.has(known);
        self.lines
            .iter()
            .take_while(move |_| there)
            .filter(move |line| line.known == known as u8)
            .map(|line| self.value_of(line))
    }

    /// The first value of a name in lower case.
    pub fn named(&self, name: &str) -> Option<&[u8]> {
        let known = Known::of(name.as_bytes()).map_or(UNKNOWN, |known| known as u8);
        let line = self.lines.iter().find(|line| self.is(line, name.as_bytes(), known))?;
        Some(self.value_of(line))
    }

    /// The value of a name in lower case, if there is one field of it alone.
    pub fn only_named(&self, name: &str) -> Option<&[u8]> {
        let known = Known::of(name.as_bytes()).map_or(UNKNOWN, |known| known as u8);
        let mut lines = self.lines.iter().filter(|line| self.is(line, name.as_bytes(), known));
        let line = lines.next()?;
        if lines.next().is_some() { None } else { Some(self.value_of(line)) }
    }

    /// Every value of a name in lower case, in order.
    pub fn all_named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let known = Known::of(name.as_bytes()).map_or(UNKNOWN, |known| known as u8);
        self.lines
            .iter()
            .filter(move |line| self.is(line, name.as_bytes(), known))
            .map(|line| self.value_of(line))
    }

    /// Every field, in order; names in lower case.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.lines.iter().map(|line| {
            // Names hold token characters alone, which are ASCII.
            (std::str::from_utf8(self.name_of(line)).unwrap_or(""), self.value_of(line))
        })
    }

    /// The buffer that [`Fields::places`] points into.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// Where the name and the value of each line are in [`Fields::text`], for who copies that as a whole.
    pub fn places(&self) -> impl Iterator<Item = (Option<Known>, Range<usize>, Range<usize>)> {
        self.lines.iter().map(|line| {
            let name = line.start as usize..line.start as usize + line.name_len as usize;
            let value = name.end + 2..name.end + 2 + line.value_len as usize;
            (Known::ALL.get(usize::from(line.known)).copied(), name, value)
        })
    }

    /// Adds a field that another parser has held to what a name, in lower case, and a value may be.
    pub fn append_lower(&mut self, name: &str, value: &[u8]) -> bool {
        self.append_told(name.as_bytes(), Known::of(name.as_bytes()), value)
    }

    /// The same of a name of which is told whether it is a known one.
    pub fn append_told(&mut self, name: &[u8], known: Option<Known>, value: &[u8]) -> bool {
        debug_assert!(name.iter().all(|byte| is_token(*byte) && !byte.is_ascii_uppercase()));
        debug_assert!(known == Known::of(name) && is_value(value));
        if name.len() > u16::MAX as usize {
            return false;
        }
        self.push_line(name, value, known.map_or(UNKNOWN, |known| known as u8), false);
        true
    }

    /// Adds a field after the others. A name that is no token, or a value with CR, LF or NUL, is not
    /// taken: the answer tells.
    pub fn append(&mut self, name: &str, value: &[u8]) -> bool {
        if name.is_empty()
            || name.len() > u16::MAX as usize
            || !name.bytes().all(is_token)
            || !is_value(value)
        {
            return false;
        }
        self.push_checked(name.as_bytes(), value);
        true
    }

    /// Adds a field of a known name; like [`Fields::append`].
    pub fn add(&mut self, known: Known, value: &[u8]) -> bool {
        if !is_value(value) {
            return false;
        }
        self.push_line(known.text().as_bytes(), value, known as u8, false);
        true
    }

    /// Adds a field whose name and value have been checked by a parser; the name is put in lower case.
    pub(crate) fn push_checked(&mut self, name: &[u8], value: &[u8]) {
        let start = self.text.len();
        self.push_line(name, value, UNKNOWN, true);
        let known = Known::of(&self.text[start..start + name.len()]);
        if let (Some(known), Some(line)) = (known, self.lines.last_mut()) {
            line.known = known as u8;
            self.present.add(known as u8);
        }
    }

    fn push_line(&mut self, name: &[u8], value: &[u8], known: u8, lower: bool) {
        let start = self.text.len();
        // Room once: there is a line for each field of each message.
        self.text.reserve(name.len() + value.len() + 4);
        self.text.extend_from_slice(name);
        if lower {
            self.text[start..].make_ascii_lowercase();
        }
        self.text.extend_from_slice(b": ");
        self.text.extend_from_slice(value);
        self.text.extend_from_slice(b"\r\n");
        self.lines.push(Line {
            start: start as u32,
            value_len: value.len() as u32,
            name_len: name.len() as u16,
            known,
        });
        if known != UNKNOWN {
            self.present.add(known);
        }
    }

    /// Replaces all fields of a known name by one.
    pub fn set(&mut self, known: Known, value: &[u8]) -> bool {
        self.remove(known);
        self.add(known, value)
    }

    /// Replaces all fields of a name by one.
    pub fn set_named(&mut self, name: &str, value: &[u8]) -> bool {
        self.remove_named(name);
        self.append(name, value)
    }

    /// Removes all fields of a known name.
    pub fn remove(&mut self, known: Known) {
        if self.has(known) {
            self.lines.retain(|line| line.known != known as u8);
            self.present.remove(known as u8);
        }
    }

    /// Removes all fields of a name, in any case.
    pub fn remove_named(&mut self, name: &str) {
        let name = name.to_ascii_lowercase();
        match Known::of(name.as_bytes()) {
            Some(known) => self.remove(known),
            None => {
                let text = &self.text;
                self.lines.retain(|line| {
                    let start = line.start as usize;
                    line.known != UNKNOWN
                        || &text[start..start + line.name_len as usize] != name.as_bytes()
                });
            }
        }
    }

    /// Removes the fields that are not to be kept, by their name, in lower case, and value.
    pub fn retain(&mut self, keep: impl FnMut(&str, &[u8]) -> bool) {
        self.retain_unless(Names::none(), keep);
    }

    /// The same of fields whose names are among these, or are no known ones; all others stay.
    pub fn retain_among(&mut self, among: &KnownNames, keep: impl FnMut(&str, &[u8]) -> bool) {
        self.retain_unless(among.0.others(), keep);
    }

    fn retain_unless(&mut self, stay: Names, mut keep: impl FnMut(&str, &[u8]) -> bool) {
        let (text, before) = (&self.text, self.lines.len());
        self.lines.retain(|line| {
            if line.known != UNKNOWN && stay.has(line.known) {
                return true;
            }
            let name = line.start as usize..line.start as usize + line.name_len as usize;
            let value = name.end + 2..name.end + 2 + line.value_len as usize;
            let name = match Known::ALL.get(usize::from(line.known)) {
                Some(known) => known.text(),
                None => std::str::from_utf8(&text[name]).unwrap_or(""),
            };
            keep(name, &text[value])
        });
        if self.lines.len() < before {
            self.present = Names::none();
            for line in self.lines.iter().filter(|line| line.known != UNKNOWN) {
                self.present.add(line.known);
            }
        }
    }

    /// Writes all fields in HTTP/1.1 form, without the empty line that ends a head.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for line in &self.lines {
            let start = line.start as usize;
            let end = start + line.name_len as usize + line.value_len as usize + 4;
            out.extend_from_slice(&self.text[start..end]);
        }
    }

    /// Writes all fields but those of these known names.
    pub fn encode_without(&self, left_out: &[Known], out: &mut Vec<u8>) {
        for line in &self.lines {
            if left_out.iter().any(|known| line.known == *known as u8) {
                continue;
            }
            let start = line.start as usize;
            let end = start + line.name_len as usize + line.value_len as usize + 4;
            out.extend_from_slice(&self.text[start..end]);
        }
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for (name, value) in self.iter() {
            map.entry(&name, &String::from_utf8_lossy(value));
        }
        map.finish()
    }
}

impl PartialEq for Fields {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

/// Whether a byte may stand in a field name or a method (RFC 9110 section 5.6.2).
pub const fn is_token(byte: u8) -> bool {
    matches!(byte, b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_'
        | b'`' | b'|' | b'~' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z')
}

/// Whether bytes may be a field value: nothing that could end the line, and no NUL.
pub fn is_value(value: &[u8]) -> bool {
    /// A value of up to so many bytes is looked through sooner than a search for all three is set up.
    const SHORT: usize = 64;
    static BAD: [bool; 256] = {
        let mut bad = [false; 256];
        bad[b'\r' as usize] = true;
        bad[b'\n' as usize] = true;
        bad[0] = true;
        bad
    };
    if value.len() > SHORT {
        return memchr::memchr3(b'\r', b'\n', 0, value).is_none();
    }
    !value.iter().fold(false, |bad, byte| bad | BAD[usize::from(*byte)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_kept_is_known_of_no_more() {
        let mut fields = sample();
        fields.push_checked(b"Cookie", b"a=1");
        fields.push_checked(b"Cookie", b"b=2");
        fields.retain(|name, value| name != "host" && value != b"a=1" && value != b"1");
        assert!(!fields.has(Known::Host) && fields.has(Known::Cookie));
        let left: Vec<_> = fields.iter().collect();
        assert_eq!(left, [("x-thing", &b"2"[..]), ("cookie", b"b=2")]);
        fields.retain(|_, _| false);
        assert!(fields.is_empty() && !fields.has(Known::Cookie));
    }

    fn sample() -> Fields {
        let mut fields = Fields::new();
        fields.push_checked(b"Host", b"shop.example");
        fields.push_checked(b"X-Thing", b"1");
        fields.push_checked(b"x-thing", b"2");
        fields
    }

    #[test]
    fn lines_keep_order_and_repetition() {
        let fields = sample();
        assert_eq!(fields.get(Known::Host), Some(&b"shop.example"[..]));
        assert_eq!(fields.all_named("x-thing").collect::<Vec<_>>(), [b"1", b"2"]);
        let mut out = Vec::new();
        fields.encode(&mut out);
        assert_eq!(out, b"host: shop.example\r\nx-thing: 1\r\nx-thing: 2\r\n");
        assert_eq!(fields.wire_len(), out.len());
    }

    #[test]
    fn set_and_remove() {
        let mut fields = sample();
        assert!(fields.set_named("x-thing", b"3"));
        fields.remove(Known::Host);
        assert!(!fields.has(Known::Host));
        assert_eq!(fields.get(Known::Host), None);
        assert_eq!(fields.iter().collect::<Vec<_>>(), [("x-thing", &b"3"[..])]);
        fields.remove_named("X-THING");
        assert!(fields.is_empty());
    }

    #[test]
    fn nothing_that_ends_a_line_gets_in() {
        let mut fields = Fields::new();
        for value in [&b"a\r\nb: c"[..], b"a\nb", b"a\0", b"\r"] {
            assert!(!fields.append("x", value));
            assert!(!fields.add(Known::Host, value));
        }
        for name in ["", "a b", "a:", "a\r\n", "é"] {
            assert!(!fields.append(name, b"v"), "{name}");
        }
        assert!(fields.is_empty());
    }
}
