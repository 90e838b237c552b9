//! Query parameters, as a form writes them: `a=1&b=two+words`.
//!
//! Escapes are undone and `+` is a space; an escape that is broken stays as it is, as the WHATWG URL
//! standard has it, so that nothing is refused that a service might read. Invariant: reading is linear in
//! the query, and allocates only for what is escaped.

use std::borrow::Cow;

/// The values of a parameter, decoded, in order. A parameter without `=` has an empty value.
pub fn values<'a>(query: &'a str, name: &'a str) -> impl Iterator<Item = Cow<'a, [u8]>> {
    query.split('&').filter_map(move |pair| {
        let (given, value) = pair.split_once('=').unwrap_or((pair, ""));
        let named = !pair.is_empty() && *decode(given) == *name.as_bytes();
        named.then(|| decode(value))
    })
}

/// All parameters, decoded, in order: names and values.
pub fn pairs(query: &str) -> impl Iterator<Item = (Cow<'_, [u8]>, Cow<'_, [u8]>)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), decode(value))
    })
}

/// Undoes escapes and pluses.
fn decode(text: &str) -> Cow<'_, [u8]> {
    let bytes = text.as_bytes();
    let Some(first) = memchr::memchr2(b'%', b'+', bytes) else { return Cow::Borrowed(bytes) };
    let mut out = Vec::with_capacity(bytes.len());
    out.extend_from_slice(&bytes[..first]);
    let mut at = first;
    while let Some(byte) = bytes.get(at) {
        let escaped = match (byte, bytes.get(at + 1), bytes.get(at + 2)) {
            (b'%', Some(high), Some(low)) => hex(*high).zip(hex(*low)),
            _ => None,
        };
        match (escaped, byte) {
            (Some((high, low)), _) => {
                out.push(high << 4 | low);
                at += 3;
            }
            (None, b'+') => {
                out.push(b' ');
                at += 1;
            }
            (None, other) => {
                out.push(*other);
                at += 1;
            }
        }
    }
    Cow::Owned(out)
}

const fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_of_a_name() {
        for (query, name, expected) in [
            ("a=1", "a", &["1"][..]),
            ("a=1&b=2&a=3", "a", &["1", "3"]),
            ("a", "a", &[""]),
            ("a=", "a", &[""]),
            ("a=b=c", "a", &["b=c"]),
            ("ab=1", "a", &[]),
            ("", "a", &[]),
            ("&&", "", &[]),
            ("=1", "", &["1"]),
            ("%61=1", "a", &["1"]),
            ("a+b=1", "a b", &["1"]),
            ("a=%2", "a", &["%2"]),
            ("a=%zz", "a", &["%zz"]),
            ("a=%", "a", &["%"]),
            ("a=%41%2b", "a", &["A+"]),
            ("a=1;b=2", "b", &[]),
        ] {
            let found: Vec<_> =
                values(query, name).map(|v| String::from_utf8(v.into_owned()).unwrap()).collect();
            assert_eq!(found, expected, "{query} {name}");
        }
    }

    proptest! {
        #[test]
        fn what_is_escaped_is_read_back(pairs in proptest::collection::vec((".{1,8}", ".{0,8}"), 1..6)) {
            let escape = |text: &str| -> String {
                text.bytes().map(|byte| match byte {
                    b'a'..=b'z' => char::from(byte).to_string(),
                    b' ' => "+".into(),
                    other => format!("%{other:02X}"),
                }).collect()
            };
            let query: Vec<String> =
                pairs.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect();
            let query = query.join("&");
            for (name, _) in &pairs {
                let expected: Vec<_> = pairs.iter().filter(|(other, _)| other == name)
                    .map(|(_, value)| value.as_bytes().to_vec()).collect();
                let found: Vec<_> = values(&query, name).map(Cow::into_owned).collect();
                prop_assert_eq!(found, expected);
            }
        }

        #[test]
        fn nothing_makes_it_panic(query in ".*", name in ".*") {
            prop_assert!(values(&query, &name).count() <= query.len() + 1);
        }
    }
}
