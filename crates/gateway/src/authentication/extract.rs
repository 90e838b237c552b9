//! Credentials as they stand in a request. Nothing is copied but what is escaped in a query, and the decoded
//! user name and password, which stay on the stack.

use std::borrow::Cow;

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use weft_proxy::{cookie, query};
use weft_wire::{Fields, Known, RequestHead, fields::is_token};

use super::KeyPlace;
use crate::credential::Digest;

/// The most characters of Base64 that are decoded of a user name and password.
const BASIC_BYTES_MAX: usize = 1024;

/// Padding is required by RFC 4648 and left out by many.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What stands in a place. More than one is never chosen from, since the service might choose the other.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    Nothing,
    One(Cow<'a, [u8]>),
    Several,
}

impl<'a> Found<'a> {
    pub(super) const fn is_nothing(&self) -> bool {
        matches!(self, Self::Nothing)
    }

    /// Of all that stands there; what is empty is nothing.
    fn of(all: impl IntoIterator<Item = Cow<'a, [u8]>>) -> Self {
        let mut all = all.into_iter();
        match (all.next(), all.next()) {
            (Some(one), None) if one.is_empty() => Self::Nothing,
            (Some(one), None) => Self::One(one),
            (Some(_), Some(_)) => Self::Several,
            (None, _) => Self::Nothing,
        }
    }
}

/// An API key.
pub(super) fn key<'a>(place: &'a KeyPlace, head: &'a RequestHead) -> Found<'a> {
    match place {
        KeyPlace::Header(name) if &**name == Known::Authorization.text() => {
            match authorization(&head.fields, "apikey") {
                Found::Nothing => authorization(&head.fields, "bearer"),
                found => found,
            }
        }
        KeyPlace::Header(name) => Found::of(head.fields.all_named(name).map(Cow::Borrowed)),
        KeyPlace::Query(name) => Found::of(query::values(head.query().unwrap_or_default(), name)),
        KeyPlace::Cookie(name) => Found::of(cookie::values(&head.fields, name).map(Cow::Borrowed)),
    }
}

/// A token (RFC 6750 section 2); in a field of another name the scheme may be left out.
pub(crate) fn token<'a>(place: &'a KeyPlace, head: &'a RequestHead) -> Found<'a> {
    match place {
        KeyPlace::Header(name) if &**name == Known::Authorization.text() => {
            authorization(&head.fields, "bearer")
        }
        place => match key(place, head) {
            Found::One(Cow::Borrowed(value)) => {
                Found::One(Cow::Borrowed(credentials(value, "bearer").unwrap_or(value)))
            }
            found => found,
        },
    }
}

/// The credentials of `Authorization` for a scheme, in lower case (RFC 9110 section 11.4).
pub(super) fn authorization<'a>(fields: &'a Fields, scheme: &str) -> Found<'a> {
    let mut all = fields.all(Known::Authorization);
    let Some(first) = all.next() else { return Found::Nothing };
    if all.next().is_some() {
        return Found::Several;
    }
    match credentials(first, scheme) {
        Some(token) if !token.is_empty() => Found::One(Cow::Borrowed(token)),
        _ => Found::Nothing,
    }
}

/// What stands behind a scheme and spaces, if that is the one.
pub(super) fn credentials<'a>(value: &'a [u8], scheme: &str) -> Option<&'a [u8]> {
    let (given, rest) = value.split_at_checked(scheme.len())?;
    let fits = given.eq_ignore_ascii_case(scheme.as_bytes())
        && rest.first().is_none_or(|byte| *byte == b' ');
    let begin = rest.iter().position(|byte| *byte != b' ').unwrap_or(rest.len());
    // A tab is no blank here (RFC 9110 section 11.4): what has one is left whole, and is nobody's.
    fits.then(|| rest[begin..].trim_ascii_end())
}

/// Whether a service might take a value for credentials of a scheme, good or not, which is more than Weft does.
pub(super) fn may_be(value: &[u8], scheme: &str) -> bool {
    let value = value.trim_ascii_start();
    let is_it = |(given, rest): (&[u8], &[u8])| {
        given.eq_ignore_ascii_case(scheme.as_bytes())
            && rest.first().is_none_or(|byte| !is_token(*byte))
    };
    value.split_at_checked(scheme.len()).is_some_and(is_it)
}

/// The digest of a user name and password in Base64 (RFC 7617 section 2).
pub(super) fn basic(token: &[u8]) -> Option<Digest> {
    if token.len() > BASIC_BYTES_MAX {
        return None;
    }
    let mut buffer = [0; BASIC_BYTES_MAX];
    let length = LENIENT.decode_slice(token, &mut buffer).ok()?;
    let decoded = &buffer[..length];
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    Some(Digest::of_basic(&decoded[..colon], &decoded[colon + 1..]))
}
