//! The head of a CloudEvents 1.0 event: a compact list of attributes and headers, read in place.
//!
//! ```text
//! item: code u8, then
//!   1..=9    a known attribute (see KNOWN): text as counted bytes
//!   16..=19  an extension of type code - 16 (see Value): name, value as counted bytes
//!   32       a header: name, value as counted bytes
//!   33       there is no data; an empty body is an empty one otherwise
//! ```

use crate::varint;

/// The attributes that have a code of their own; the code is the place in this list and one.
const KNOWN: [&str; 9] = [
    "id",
    "source",
    "type",
    "subject",
    "time",
    "datacontenttype",
    "dataschema",
    "traceparent",
    "tracestate",
];
const EXTENSION: u8 = 16;
const HEADER: u8 = 32;
const NO_DATA: u8 = 33;

/// A value of a CloudEvents attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// A string, URI, URI reference or timestamp, as it was written.
    Text(&'a str),
    /// A whole number of 32 bits.
    Integer(i32),
    /// A boolean.
    Boolean(bool),
    /// Bytes.
    Binary(&'a [u8]),
}

impl<'a> Value<'a> {
    /// The text of a value that is one.
    pub fn as_text(self) -> Option<&'a str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    fn code(self) -> u8 {
        match self {
            Self::Text(_) => 0,
            Self::Integer(_) => 1,
            Self::Boolean(_) => 2,
            Self::Binary(_) => 3,
        }
    }

    fn read(code: u8, bytes: &'a [u8]) -> Option<Self> {
        Some(match code {
            0 => Self::Text(std::str::from_utf8(bytes).ok()?),
            1 => Self::Integer(i32::from_le_bytes(bytes.try_into().ok()?)),
            2 => Self::Boolean(*bytes.first()? != 0),
            3 => Self::Binary(bytes),
            _ => return None,
        })
    }
}

/// One item of an event's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A context attribute; `specversion` is always 1.0 and not among them.
    Attribute(&'a str, Value<'a>),
    /// A header that is no attribute.
    Header(&'a str, &'a str),
    /// There is no data, not even empty data.
    NoData,
}

/// The head of an event; reads in place, allocates nothing.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a>(&'a [u8]);

impl<'a> Event<'a> {
    pub(super) fn new(head: &'a [u8]) -> Self {
        Self(head)
    }

    /// All items in the order in which they were written.
    pub fn items(self) -> Items<'a> {
        Items(self.0)
    }

    /// An attribute by its name.
    pub fn get(self, name: &str) -> Option<Value<'a>> {
        self.items().find_map(|item| match item {
            Item::Attribute(found, value) if found == name => Some(value),
            _ => None,
        })
    }

    /// A header by its name, without regard to case.
    pub fn header(self, name: &str) -> Option<&'a str> {
        self.items().find_map(|item| match item {
            Item::Header(found, value) if found.eq_ignore_ascii_case(name) => Some(value),
            _ => None,
        })
    }

    fn text(self, name: &str) -> &'a str {
        self.get(name).and_then(Value::as_text).unwrap_or_default()
    }

    /// The `id`.
    pub fn id(self) -> &'a str {
        self.text("id")
    }

    /// The `source`.
    pub fn source(self) -> &'a str {
        self.text("source")
    }

    /// The `type`.
    pub fn kind(self) -> &'a str {
        self.text("type")
    }
}

/// The items of an event's head.
#[derive(Clone, Debug)]
pub struct Items<'a>(&'a [u8]);

impl<'a> Items<'a> {
    fn read(&mut self) -> Option<Item<'a>> {
        let (&code, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(match code {
            HEADER => {
                Item::Header(varint::take_text(&mut self.0)?, varint::take_text(&mut self.0)?)
            }
            NO_DATA => Item::NoData,
            EXTENSION..HEADER => {
                let name = varint::take_text(&mut self.0)?;
                Item::Attribute(
                    name,
                    Value::read(code - EXTENSION, varint::take_bytes(&mut self.0)?)?,
                )
            }
            known => {
                let name = KNOWN.get(usize::from(known).checked_sub(1)?)?;
                Item::Attribute(name, Value::Text(varint::take_text(&mut self.0)?))
            }
        })
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        let item = self.read();
        if item.is_none() {
            // What cannot be read ends the list; it must not be read again from its middle.
            self.0 = &[];
        }
        item
    }
}

/// Appends an item to a head.
pub(super) fn write(head: &mut Vec<u8>, item: Item<'_>) {
    match item {
        Item::Attribute(name, value) => {
            let known = KNOWN.iter().position(|known| *known == name);
            match (known, value.as_text()) {
                (Some(at), Some(text)) => {
                    head.push(at as u8 + 1);
                    varint::put_bytes(head, text.as_bytes());
                }
                _ => {
                    head.push(EXTENSION + value.code());
                    varint::put_bytes(head, name.as_bytes());
                    match value {
                        Value::Integer(number) => varint::put_bytes(head, &number.to_le_bytes()),
                        Value::Boolean(truth) => varint::put_bytes(head, &[u8::from(truth)]),
                        Value::Binary(bytes) => varint::put_bytes(head, bytes),
                        Value::Text(text) => varint::put_bytes(head, text.as_bytes()),
                    }
                }
            }
        }
        Item::Header(name, value) => {
            head.push(HEADER);
            varint::put_bytes(head, name.as_bytes());
            varint::put_bytes(head, value.as_bytes());
        }
        Item::NoData => head.push(NO_DATA),
    }
}
