//! The key of a request, whose it is, and what the request is known by beside it.

use aws_lc_rs::digest;
use bytes::Bytes;
use weft_kernel::{Error, Reason, Result};
use weft_proxy::RequestContext;
use weft_wire::{Fields, Known, RequestHead};

use crate::{authentication::AccessToken, consumer::Consumer};

/// The longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 255;

/// The scope of all that come without credentials.
const ANONYMOUS: &str = "-";

/// What the parts of the key of an entry are set apart by: no part holds it.
const BETWEEN: u8 = 0;

/// The key that a request carries: a string of structured fields (draft-ietf-httpapi-idempotency-key-header
/// section 2.1, RFC 9651 section 3.3.3), or the same without quotes, as most clients write it.
///
/// # Errors
/// [`Reason::MalformedRequest`] for anything else, for two of them, and for one that is too long.
pub fn read(fields: &Fields) -> Result<Option<String>> {
    if !fields.has(Known::IdempotencyKey) {
        return Ok(None);
    }
    let mut values = fields.all(Known::IdempotencyKey);
    let (value, more) = (values.next().unwrap_or_default(), values.next());
    let refused =
        |why: &str| Error::new(Reason::MalformedRequest, format!("Idempotency-Key {why}"));
    if more.is_some() {
        return Err(refused("is there more than once"));
    }
    let key = match value.trim_ascii() {
        [b'"', quoted @ ..] => string(quoted),
        bare => token(bare),
    };
    match key {
        None => Err(refused("is neither a string in quotes nor visible characters alone")),
        Some(key) if key.is_empty() => Err(refused("is empty")),
        Some(key) if key.len() > KEY_BYTES_MAX => {
            Err(refused(&format!("has more than {KEY_BYTES_MAX} bytes")))
        }
        Some(key) => Ok(Some(key)),
    }
}

/// What stands within quotes. Parameters behind it mean nothing here.
fn string(quoted: &[u8]) -> Option<String> {
    let mut key = String::with_capacity(quoted.len());
    let mut rest = quoted.iter();
    loop {
        match *rest.next()? {
            b'"' => break,
            b'\\' => match *rest.next()? {
                escaped @ (b'"' | b'\\') => key.push(char::from(escaped)),
                _ => return None,
            },
            plain @ b' '..=b'~' => key.push(char::from(plain)),
            _ => return None,
        }
    }
    let rest = rest.as_slice().trim_ascii_start();
    let ends = rest.is_empty() || rest.starts_with(b";");
    (ends && rest.iter().all(|byte| (b' '..=b'~').contains(byte))).then_some(key)
}

/// A key without quotes.
fn token(bare: &[u8]) -> Option<String> {
    let fits = |byte: &u8| byte.is_ascii_graphic() && !b"\",\\;".contains(byte);
    let text = std::str::from_utf8(bare).ok()?;
    bare.iter().all(fits).then(|| text.to_owned())
}

/// The key of an entry: route, scope and key. Nobody's key is ever that of somebody else, or of another route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryKey(Bytes);

impl EntryKey {
    /// Of a route's name, the text of a scope, and a key.
    pub fn new(route: &str, scope: &str, key: &str) -> Self {
        let parts = [route.as_bytes(), scope.as_bytes(), key.as_bytes()];
        Self(parts.join(&BETWEEN).into())
    }

    /// Of the text by which operators name it: `ROUTE:SCOPE:KEY`.
    pub fn parse(text: &str) -> Option<Self> {
        let (route, rest) = text.split_once(':')?;
        let (scope, key) = rest.split_once(':')?;
        let is_plain = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        (is_plain && !route.is_empty() && !scope.is_empty() && !key.is_empty())
            .then(|| Self::new(route, scope, key))
    }

    /// What a store has given back.
    pub(super) const fn of_store(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// As it is stored.
    pub(super) const fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// Route, scope and key; empty where what was stored has another form.
    pub fn parts(&self) -> [&str; 3] {
        let text = std::str::from_utf8(&self.0).unwrap_or_default();
        let mut parts = text.splitn(3, char::from(BETWEEN));
        [(); 3].map(|()| parts.next().unwrap_or_default())
    }

    /// Route and scope, by which entries are counted.
    pub(super) fn owner(&self) -> &[u8] {
        let mut ends = self.0.iter().enumerate().filter(|(_, byte)| **byte == BETWEEN);
        ends.nth(1).map_or(&[], |(at, _)| &self.0[..at])
    }
}

impl std::fmt::Display for EntryKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.parts().join(":"))
    }
}

/// Whose key it is: the consumer's; without one, of the subject of the token; without a token, of all that
/// come without credentials.
pub(super) fn scope(cx: &RequestContext<'_>) -> String {
    if let Some(consumer) = cx.fact::<Consumer>() {
        return consumer.name().as_str().to_owned();
    }
    let Some(token) = cx.fact::<AccessToken>() else { return ANONYMOUS.to_owned() };
    let (issuer, subject) = (token.issuer().as_str(), token.claims().text("sub"));
    of_token(issuer, subject.unwrap_or_default())
}

/// The scope of a subject of tokens, of any length and any characters.
fn of_token(issuer: &str, subject: &str) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    // A name holds no zero.
    [issuer.as_bytes(), &[0], subject.as_bytes()].iter().for_each(|part| context.update(part));
    let mut text = String::from("~");
    context.finish().as_ref()[..16].iter().for_each(|byte| text.push_str(&format!("{byte:02x}")));
    text
}

/// Digest by which two requests with the same key are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint(pub(super) [u8; 32]);

impl Fingerprint {
    /// Of method, host, path and query, kind of content, and body.
    pub(super) fn of(head: &RequestHead, host: &str, body: &[u8]) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        let host = &name(host);
        let kind = head.fields.get(Known::ContentType).unwrap_or_default();
        for part in
            [head.method.as_str().as_bytes(), host.as_bytes(), head.target.as_bytes(), kind, body]
        {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        }
        let mut bytes = [0; 32];
        bytes.copy_from_slice(context.finish().as_ref());
        Self(bytes)
    }
}

/// The name of a host, however it is written: routes see neither case, port nor the dot of the root.
fn name(host: &str) -> String {
    let name = match host.rfind(':') {
        Some(colon) if !host.ends_with(']') => &host[..colon],
        _ => host,
    };
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use weft_wire::Method;

    use super::*;
    use crate::fixture;

    fn of(values: &[&[u8]]) -> Result<Option<String>> {
        let mut fields = Fields::new();
        for value in values {
            assert!(fields.append("idempotency-key", value), "{value:?}");
        }
        read(&fields)
    }

    #[test]
    fn a_key_is_a_string_or_the_same_without_quotes() {
        let long = "k".repeat(KEY_BYTES_MAX);
        for (value, key) in [
            ("\"8e03978e-40d5-43dd-bc93-6894a57f9324\"", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
            ("8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
            ("  abc== ", "abc=="),
            (r#""a\"b\\c""#, r#"a"b\c"#),
            ("\"a b\"", "a b"),
            ("\"a\";p=1", "a"),
            (&long, &long),
        ] {
            assert_eq!(of(&[value.as_bytes()]).unwrap().as_deref(), Some(key), "{value}");
        }
        assert_eq!(of(&[]).unwrap(), None);
    }

    #[test]
    fn whatever_else_is_no_key() {
        let long = "k".repeat(KEY_BYTES_MAX + 1);
        let huge = format!("\"{}\"", "k".repeat(10_240));
        for value in [
            "",
            "\"\"",
            "\"open",
            "\"a\\n\"",
            "\"a\"b",
            "a b",
            "a, b",
            "a;b",
            "\u{e4}",
            "\"\u{e4}\"",
            &long,
            &huge,
            "\"a\"\"b\"",
            "\\",
        ] {
            let error = of(&[value.as_bytes()]).unwrap_err();
            assert_eq!(error.reason(), Reason::MalformedRequest, "{value}");
            assert!(value.is_empty() || !error.said().contains(value), "{value}");
        }
        assert_eq!(of(&[b"a", b"a"]).unwrap_err().reason(), Reason::MalformedRequest);
    }

    #[test]
    fn entries_of_others_never_meet() {
        let all = [
            EntryKey::new("pay", "ada", "k"),
            EntryKey::new("pay", "bob", "k"),
            EntryKey::new("pay", "-", "k"),
            EntryKey::new("pay", "-", "ada:k"),
            EntryKey::new("pay/ada", "-", "k"),
            EntryKey::new("pay", &of_token("corp", "7"), "k"),
            EntryKey::new("pay", &of_token("corp", "8"), "k"),
            EntryKey::new("pay", &of_token("corp7", ""), "k"),
        ];
        for (at, one) in all.iter().enumerate() {
            assert_eq!(all.iter().position(|other| other == one), Some(at), "{one}");
            assert_eq!(EntryKey::parse(&one.to_string()).as_ref(), Some(one), "{one}");
        }
        assert_eq!(all[3].parts(), ["pay", "-", "ada:k"]);
        assert_eq!(all[2].owner(), all[3].owner());
        assert_ne!(all[0].owner(), all[1].owner());
        for text in ["", "a", "a:b", "a:b:", ":b:c", "a::c", "a:b:\u{0}"] {
            assert!(EntryKey::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_fingerprint_is_of_all_parts_in_their_places() {
        let of = |method, target: &str, kind: &str, host: &str, body: &str| {
            let head = fixture::head(method, target, &[("content-type", kind)]);
            Fingerprint::of(&head, host, body.as_bytes())
        };
        let one = of(Method::Post, "/a", "t", "h", "b");
        assert_eq!(one, of(Method::Post, "/a", "t", "h", "b"));
        for host in ["H", "h:80", "h.", "H.:8080"] {
            assert_eq!(one, of(Method::Post, "/a", "t", host, "b"), "{host}");
        }
        let six = of(Method::Post, "/a", "t", "[::1]", "b");
        assert_eq!(six, of(Method::Post, "/a", "t", "[::1]:80", "b"));
        for other in [
            of(Method::Patch, "/a", "t", "h", "b"),
            of(Method::Post, "/a?b", "t", "h", "b"),
            of(Method::Post, "/a", "u", "h", "b"),
            of(Method::Post, "/a", "t", "i", "b"),
            of(Method::Post, "/a", "t", "h", "c"),
            of(Method::Post, "/a", "tb", "h", ""),
        ] {
            assert_ne!(one, other);
        }
    }
}
