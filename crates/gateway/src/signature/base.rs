//! Signature base: the text that is signed (RFC 9421 section 2.5).
//!
//! Fields stand in it as they came, joined where there are several; what is derived of the request is what the client
//! asked for, before its path was made normal. Parameters of components are `bs` and `key` of fields and `name` of
//! `@query-param`. Refused are `sf`, for which the type of a field would have to be known, `tr`, since trailers come
//! too late, and `req`, which is for responses.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sfv::{BareItem, Dictionary, FieldType as _, InnerList, Item, List, ListEntry, Parser};
use weft_proxy::query;
use weft_wire::{RequestHead, fields::is_token};

use super::{COMPONENTS_MAX, Fault};

/// What stays as it is in a query parameter: the form-urlencoded set of the WHATWG (RFC 9421 section 2.2.8).
const FORM: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'*');

/// What can be derived of a request (RFC 9421 section 2.2), without parameters.
const DERIVED: [&str; 7] =
    ["@method", "@target-uri", "@authority", "@scheme", "@request-target", "@path", "@query"];

const MISSING: Fault = "the signature covers a field that is not there";
const PARAMETERS: Fault = "the signature covers a component with parameters that are not taken";

/// Whether a text names a component that a signature can be asked to cover: one that is derived, or a field.
pub fn is_component(text: &str) -> bool {
    if text.starts_with('@') { DERIVED.contains(&text) } else { is_field(text) }
}

fn is_field(name: &str) -> bool {
    let is_lower = |byte: u8| is_token(byte) && !byte.is_ascii_uppercase();
    !name.is_empty() && name.bytes().all(is_lower)
}

/// A request as it was received.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The head.
    pub head: &'a RequestHead,
    /// The target as the client asked for it.
    pub target: &'a str,
    /// The host that it asked for, with its port.
    pub host: &'a str,
    /// Whether it came by TLS.
    pub is_secure: bool,
    /// Whether there is a body.
    pub has_body: bool,
}

impl Message<'_> {
    /// The value of a field, its lines joined.
    pub(super) fn field(&self, name: &str) -> Option<Vec<u8>> {
        let mut lines = self.head.fields.all_named(name);
        let mut value = lines.next()?.trim_ascii().to_vec();
        for line in lines {
            // HTTP/2 may take a cookie apart (RFC 9113 section 8.2.3).
            value.extend_from_slice(if name == "cookie" { b"; " } else { b", " });
            value.extend_from_slice(line.trim_ascii());
        }
        Some(value)
    }

    const fn scheme(&self) -> &'static str {
        if self.is_secure { "https" } else { "http" }
    }

    /// The host in lower case, without the port that goes without saying.
    fn authority(&self) -> String {
        let port = if self.is_secure { ":443" } else { ":80" };
        let host = self.host.to_ascii_lowercase();
        host.strip_suffix(port).map(str::to_owned).unwrap_or(host)
    }

    fn derived(&self, name: &str) -> Option<String> {
        let (path, query) = self.target.split_once('?').unwrap_or((self.target, ""));
        Some(match name {
            "@method" => self.head.method.as_str().to_owned(),
            "@authority" => self.authority(),
            "@scheme" => self.scheme().to_owned(),
            "@target-uri" => format!("{}://{}{}", self.scheme(), self.authority(), self.target),
            "@request-target" => self.target.to_owned(),
            "@path" => path.to_owned(),
            "@query" => format!("?{query}"),
            _ => return None,
        })
    }

    /// A parameter of the query, named as it is encoded.
    fn parameter(&self, name: &str) -> Result<String, Fault> {
        let name = percent_encoding::percent_decode_str(name).decode_utf8();
        let name = name.map_err(|_error| "the name of a query parameter is no text")?;
        let (_, query) = self.target.split_once('?').unwrap_or((self.target, ""));
        let mut values = query::values(query, &name);
        let (Some(value), None) = (values.next(), values.next()) else {
            return Err("a query parameter that is covered is missing, or there twice");
        };
        let value = String::from_utf8_lossy(&value);
        Ok(utf8_percent_encode(&value, FORM).to_string())
    }
}

/// What a signature covers.
pub(super) struct Covered<'a> {
    input: &'a InnerList,
    /// The components as they stand in the base, in order.
    ids: Vec<String>,
}

impl<'a> Covered<'a> {
    /// Of the input of a signature.
    pub(super) fn of(input: &'a InnerList) -> Result<Self, Fault> {
        if input.items.len() > COMPONENTS_MAX {
            return Err("the signature covers more than 64 components");
        }
        let mut ids: Vec<String> = Vec::with_capacity(input.items.len());
        for item in &input.items {
            let id = item.serialize();
            if ids.contains(&id) {
                return Err("the signature covers a component twice");
            }
            ids.push(id);
        }
        Ok(Self { input, ids })
    }

    /// Whether a component is covered whole.
    pub(super) fn has(&self, name: &str) -> bool {
        self.input.items.iter().any(|item| name_of(item) == Some(name) && item.params.is_empty())
    }

    /// The text that is signed.
    pub(super) fn base(&self, message: &Message<'_>) -> Result<Vec<u8>, Fault> {
        let mut base = Vec::with_capacity(512);
        for (item, id) in self.input.items.iter().zip(&self.ids) {
            base.extend_from_slice(id.as_bytes());
            base.extend_from_slice(b": ");
            base.extend_from_slice(&value(item, message)?);
            base.push(b'\n');
        }
        let list: List = vec![ListEntry::InnerList(self.input.clone())];
        base.extend_from_slice(b"\"@signature-params\": ");
        base.extend_from_slice(list.serialize().unwrap_or_default().as_bytes());
        Ok(base)
    }
}

fn name_of(item: &Item) -> Option<&str> {
    item.bare_item.as_string().map(|name| name.as_str())
}

/// What a component is of a request.
fn value(item: &Item, message: &Message<'_>) -> Result<Vec<u8>, Fault> {
    let name = name_of(item).ok_or("the signature covers what is no component")?;
    let mut parameters = item.params.iter().map(|(name, value)| (name.as_str(), value));
    let parameter = parameters.next();
    if parameters.next().is_some() {
        return Err(PARAMETERS);
    }
    let text = match (name.strip_prefix('@'), parameter) {
        (Some(_), None) => message.derived(name).ok_or("the signature covers what no request has"),
        (Some("query-param"), Some(("name", BareItem::String(name)))) => {
            message.parameter(name.as_str())
        }
        (Some(_), Some(_)) => Err(PARAMETERS),
        (None, _) if !is_field(name) => Err("the signature covers a field that none can be"),
        (None, None) => return message.field(name).ok_or(MISSING),
        (None, Some(("bs", BareItem::Boolean(true)))) => {
            let lines = message.head.fields.all_named(name);
            let lines: List =
                lines.map(|line| ListEntry::from(line.trim_ascii().to_vec())).collect();
            lines.serialize().ok_or(MISSING)
        }
        (None, Some(("key", BareItem::String(key)))) => {
            let field = message.field(name).ok_or(MISSING)?;
            let members: Dictionary = Parser::new(&field)
                .parse()
                .map_err(|_error| "a field that is covered by `key` is no dictionary")?;
            let member = members.get(key.as_str()).ok_or(MISSING)?;
            match member {
                ListEntry::Item(item) => Ok(item.serialize()),
                list @ ListEntry::InnerList(_) => vec![list.clone()].serialize().ok_or(MISSING),
            }
        }
        (None, Some(_)) => Err(PARAMETERS),
    };
    text.map(String::into_bytes)
}
