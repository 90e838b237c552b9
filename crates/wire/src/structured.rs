//! Structured fields (RFC 8941, RFC 9651): items, lists and dictionaries, strictly.
//!
//! A field either parses as a whole or not at all, as the specification asks, so that two parsers
//! never see two meanings. Several lines of one field are joined with `, ` by the caller. Kept out are
//! the dates and display strings of RFC 9651, for which Weft has no use.
//!
//! Bounds: [`MEMBERS_MAX`] members, [`PARAMS_MAX`] parameters on each; everything else is bounded by
//! the length of the input, which the header limit bounds.

mod parse;
mod write;

pub use parse::{ParseError, parse_dictionary, parse_item, parse_list};
pub use write::{Unwritable, write_dictionary, write_item, write_list};

/// The most members of a list, an inner list or a dictionary (the specification asks for 1024).
pub const MEMBERS_MAX: usize = 1024;
/// The most parameters of an item or an inner list (the specification asks for 256).
pub const PARAMS_MAX: usize = 256;
/// The largest integer, and the smallest negated.
pub const INTEGER_MAX: i64 = 999_999_999_999_999;

/// A value without parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bare {
    /// At most fifteen digits.
    Integer(i64),
    /// Thousandths: `1.5` is 1500. At most twelve digits before the point.
    Decimal(i64),
    /// Printable ASCII.
    String(String),
    /// Begins with a letter or `*`.
    Token(String),
    /// Any bytes.
    Bytes(Vec<u8>),
    /// `?1` or `?0`.
    Boolean(bool),
}

/// Parameters in order; a key stands once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params(pub Vec<(String, Bare)>);

impl Params {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Bare> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }
}

/// A value with its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The value.
    pub value: Bare,
    /// Its parameters.
    pub params: Params,
}

impl From<Bare> for Item {
    fn from(value: Bare) -> Self {
        Self { value, params: Params::default() }
    }
}

/// What a list or a dictionary holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Member {
    /// A single item.
    Item(Item),
    /// Items in parentheses, with parameters of their own.
    InnerList(Vec<Item>, Params),
}

/// A dictionary in order; a key stands once.
pub type Dictionary = Vec<(String, Member)>;

const fn is_key_start(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'*')
}

const fn is_key(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.' | b'*')
}

const fn is_token_start(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'*')
}

const fn is_token(byte: u8) -> bool {
    crate::fields::is_token(byte) || matches!(byte, b':' | b'/')
}

#[cfg(test)]
mod tests;
