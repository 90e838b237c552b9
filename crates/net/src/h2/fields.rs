//! Our fields as those of the `http` crate, and back.

use std::{cell::Cell, sync::LazyLock};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use weft_wire::{Fields, Known, Length};

/// The known names, by their number.
static NAMES: LazyLock<Vec<HeaderName>> = LazyLock::new(|| {
    Known::ALL.iter().map(|known| HeaderName::from_static(known.text())).collect()
});

/// Whether a field is to stay out of HPACK's table: its value is new in every message, so that it would
/// only push others out, or it is a secret that must not be guessed by sizes (RFC 7541 section 7.1.3).
const fn stays_out(known: Known) -> bool {
    matches!(
        known,
        Known::XRequestId
            | Known::Traceparent
            | Known::Tracestate
            | Known::B3
            | Known::XB3TraceId
            | Known::XB3SpanId
            | Known::XB3ParentSpanId
            | Known::XForwardedFor
            | Known::Forwarded
            | Known::GrpcTimeout
            | Known::GrpcMessage
            | Known::XRequestTimeout
            | Known::IdempotencyKey
            | Known::RateLimit
            | Known::Authorization
            | Known::Cookie
            | Known::SetCookie
            | Known::Date
            | Known::Location
    )
}

/// Fields whose values are new in every message, and no secrets; their names are not in HPACK's static table.
const NEW: [Known; 6] = [
    Known::XRequestId,
    Known::Traceparent,
    Known::XForwardedFor,
    Known::GrpcTimeout,
    Known::XRequestTimeout,
    Known::RateLimit,
];

/// Which of these the peer of a connection has been sent. HPACK's table may have each of them once, by which
/// the next need not write out its name.
#[derive(Default)]
pub(super) struct Told(Cell<u8>);

impl Told {
    /// Whether this is the first of its name.
    fn is_first(&self, known: Known) -> bool {
        let Some(at) = NEW.iter().position(|new| *new == known) else { return false };
        let before = self.0.get();
        self.0.set(before | 1 << at);
        before & 1 << at == 0
    }
}

/// Our fields as the library's, without those of one name, for a peer who knows what it was `told`. What is no
/// name or value there is left out too; our parsers let none through.
pub(super) fn to_header_map(
    fields: &Fields,
    left_out: Option<Known>,
    told: Option<&Told>,
) -> HeaderMap {
    // A length may be declared besides. No more than that: a map of more than six takes twice the room.
    let declared = usize::from(!fields.has(Known::ContentLength));
    let mut map = HeaderMap::with_capacity(fields.len() + declared);
    // Every value is a part of one copy.
    let text = Bytes::copy_from_slice(fields.text());
    for (known, name, value) in fields.places() {
        if known.is_some() && known == left_out {
            continue;
        }
        let name = match known {
            Some(known) => NAMES[known as usize].clone(),
            None => match HeaderName::from_bytes(&text[name]) {
                Ok(name) => name,
                Err(_) => continue,
            },
        };
        if let Ok(mut value) = HeaderValue::from_maybe_shared(text.slice(value)) {
            let may_be_kept = |known| told.is_some_and(|told| told.is_first(known));
            value.set_sensitive(known.is_some_and(|known| stays_out(known) && !may_be_kept(known)));
            map.append(name, value);
        }
    }
    map
}

/// The library's fields as ours.
pub(super) fn from_header_map(map: &HeaderMap) -> Fields {
    let mut fields = Fields::with_capacity(map.len() + 8, map.len() * 40 + 256);
    append_from(map, &mut fields);
    fields
}

pub(super) fn append_from(map: &HeaderMap, fields: &mut Fields) {
    let mut has_cookies = false;
    for (name, value) in map {
        // Several cookie fields are one in HTTP/1.1 (RFC 9113 section 8.2.3); joined below.
        if name == header::COOKIE {
            has_cookies = true;
            continue;
        }
        // White space around a value is none of it, here as in HTTP/1.1.
        let value = value.as_bytes().trim_ascii();
        fields.append_lower(name.as_str(), value);
    }
    if has_cookies {
        let cookies: Vec<&[u8]> =
            map.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
        fields.add(Known::Cookie, &cookies.join(&b"; "[..]));
    }
}

/// Declares the length of a body as it is, whatever the fields that `headers` were made of said of the one
/// that they came with.
pub(super) fn declare(length: Length, fields: &Fields, headers: &mut HeaderMap) {
    let length = match length {
        Length::Unknown | Length::Exact(0) if !fields.has(Known::ContentLength) => return,
        Length::Unknown => {
            headers.remove(header::CONTENT_LENGTH);
            return;
        }
        Length::Exact(length) => length,
    };
    let mut said = headers.get_all(header::CONTENT_LENGTH).iter();
    let agrees = said.next().is_some_and(|one| {
        let one = one.as_bytes();
        let plain = one.len() == 1 || one.first().is_some_and(|digit| *digit != b'0');
        plain && weft_wire::h1::parse_length(one) == Ok(length) && said.next().is_none()
    });
    if !agrees {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_survive_both_ways() {
        let mut fields = Fields::default();
        for (name, value) in [
            ("host", &b"a.test"[..]),
            ("x-own", b"1"),
            ("set-cookie", b"a=1"),
            ("set-cookie", b"b=2"),
            ("x-bytes", b"\xff\x80 tab"),
            ("via", b""),
        ] {
            assert!(fields.append(name, value));
        }
        fields.remove(Known::Via);
        let map = to_header_map(&fields, None, None);
        assert!(!to_header_map(&fields, Some(Known::Host), None).contains_key("host"));
        assert_eq!(map.get_all("set-cookie").iter().count(), 2);
        assert!(map["set-cookie"].is_sensitive() && !map["host"].is_sensitive());
        let back = from_header_map(&map);
        let lines = |fields: &Fields| {
            let mut lines: Vec<(String, Vec<u8>)> =
                fields.iter().map(|(name, value)| (name.to_owned(), value.to_vec())).collect();
            lines.sort();
            lines
        };
        assert_eq!(lines(&back), lines(&fields));
    }

    #[test]
    fn the_table_may_have_what_is_new_once_and_secrets_never() {
        let mut fields = Fields::new();
        let secrets = [Known::Authorization, Known::Cookie, Known::IdempotencyKey];
        NEW.iter().chain(&secrets).for_each(|known| assert!(fields.add(*known, b"1")));
        assert!(to_header_map(&fields, None, None).values().all(HeaderValue::is_sensitive));
        let told = Told::default();
        let map = to_header_map(&fields, None, Some(&told));
        assert!(NEW.iter().all(|known| !map[known.text()].is_sensitive()));
        assert!(secrets.iter().all(|known| map[known.text()].is_sensitive()));
        let again = to_header_map(&fields, None, Some(&told));
        assert!(again.values().all(HeaderValue::is_sensitive));
    }

    #[test]
    fn every_known_name_is_its_own() {
        for (known, name) in Known::ALL.iter().zip(NAMES.iter()) {
            assert_eq!(name.as_str(), known.text());
        }
    }

    #[test]
    fn cookies_become_one() {
        let mut map = HeaderMap::new();
        map.append("cookie", HeaderValue::from_static("a=1"));
        map.append("x-own", HeaderValue::from_static("1"));
        map.append("cookie", HeaderValue::from_static("b=2"));
        assert_eq!(from_header_map(&map).get(Known::Cookie), Some(&b"a=1; b=2"[..]));
    }

    #[test]
    fn the_length_that_is_declared_is_that_of_the_body() {
        let declared = |length, said: &[&str]| {
            let mut fields = Fields::new();
            for one in said {
                fields.add(Known::ContentLength, one.as_bytes());
            }
            let mut map = to_header_map(&fields, None, None);
            declare(length, &fields, &mut map);
            let all = map.get_all("content-length").iter();
            all.map(|value| value.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        for length in [Length::Unknown, Length::Exact(0)] {
            assert!(declared(length, &[]).is_empty());
        }
        for said in [&[][..], &["7"], &["8"], &["7", "7"], &["07"], &[""], &["7, 7"]] {
            assert_eq!(declared(Length::Exact(7), said), ["7"], "{said:?}");
            assert!(declared(Length::Unknown, said).is_empty());
        }
        assert_eq!(declared(Length::Exact(0), &["7"]), ["0"]);
    }
}
