//! Cookies, as far as balancers and policies need them: finding one, and setting one (RFC 6265).

use std::time::Duration;

use weft_wire::{Fields, Known, fields::is_token};

/// The value of the first cookie of a name, as it is written. Names are case-sensitive; what has no `=`
/// is no cookie.
pub fn value<'a>(fields: &'a Fields, name: &'a str) -> Option<&'a [u8]> {
    values(fields, name).next()
}

/// The values of all cookies of a name, as they are written, in order.
pub fn values<'a>(fields: &'a Fields, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    let pairs = fields.all(Known::Cookie).flat_map(|line| line.split(|byte| *byte == b';'));
    pairs.filter_map(move |pair| {
        let at = memchr::memchr(b'=', pair)?;
        (pair[..at].trim_ascii() == name.as_bytes()).then(|| pair[at + 1..].trim_ascii())
    })
}

/// The names of all cookies, in order.
pub fn names(fields: &Fields) -> impl Iterator<Item = &[u8]> {
    let pairs = fields.all(Known::Cookie).flat_map(|line| line.split(|byte| *byte == b';'));
    pairs.filter_map(name_of)
}

fn name_of(pair: &[u8]) -> Option<&[u8]> {
    Some(pair[..memchr::memchr(b'=', pair)?].trim_ascii())
}

/// Takes off the cookies whose names do not stay, and leaves the others as they are.
pub fn retain(fields: &mut Fields, stays: impl Fn(&[u8]) -> bool) {
    if names(fields).all(&stays) {
        return;
    }
    let lines: Vec<Vec<u8>> = fields
        .all(Known::Cookie)
        .map(|line| {
            let pairs = line.split(|byte| *byte == b';');
            let left: Vec<&[u8]> = pairs.filter(|pair| name_of(pair).is_none_or(&stays)).collect();
            left.join(&b';').trim_ascii().to_vec()
        })
        .collect();
    fields.remove(Known::Cookie);
    for line in lines.iter().filter(|line| !line.is_empty()) {
        fields.add(Known::Cookie, line);
    }
}

/// A cookie that Weft sets, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    name: Box<str>,
    attributes: Box<str>,
}

impl Template {
    /// A cookie that scripts cannot read, and that other sites do not send (but for following a link).
    ///
    /// # Errors
    /// What is wrong with its name or path.
    pub fn new(name: &str, path: &str, max_age: Option<Duration>) -> Result<Self, String> {
        if name.is_empty() || name.len() > 128 || !name.bytes().all(is_token) {
            return Err(format!("`{name}` is not a cookie name"));
        }
        let plain = path.bytes().all(|byte| matches!(byte, b'!'..=b'~') && byte != b';');
        if !path.starts_with('/') || path.len() > 1024 || !plain {
            return Err(format!("`{path}` is not the path of a cookie: begin with a slash"));
        }
        let mut attributes = format!("; Path={path}");
        if let Some(age) = max_age {
            // Zero would delete the cookie at once.
            attributes.push_str(&format!("; Max-Age={}", age.as_secs().max(1)));
        }
        attributes.push_str("; HttpOnly; SameSite=Lax");
        Ok(Self { name: name.into(), attributes: attributes.into() })
    }

    /// The cookie's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value of the `Set-Cookie` field; `secure` if the client came by TLS.
    pub fn set(&self, value: u64, secure: bool) -> String {
        let secure = if secure { "; Secure" } else { "" };
        format!("{}={value:016x}{}{secure}", self.name, self.attributes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_cookie_is_found_by_its_whole_name() {
        for (lines, name, expected) in [
            (&["a=1"][..], "a", Some("1")),
            (&["a=1; b=2"], "b", Some("2")),
            (&["a=1;b=2"], "b", Some("2")),
            (&["a=1", "b=2"], "b", Some("2")),
            (&["a=1; a=2"], "a", Some("1")),
            (&["a = 1 "], "a", Some("1")),
            (&["a=\"x y\""], "a", Some("\"x y\"")),
            (&["a=b=c"], "a", Some("b=c")),
            (&["a="], "a", Some("")),
            (&["xa=1; ax=2; A=3"], "a", None),
            (&["a"], "a", None),
            (&["b=a=1"], "a", None),
            (&["; ;;"], "a", None),
            (&[""], "", None),
            (&[], "a", None),
        ] {
            let mut fields = Fields::new();
            for line in lines {
                assert!(fields.append("cookie", line.as_bytes()));
            }
            let found = value(&fields, name).map(|v| String::from_utf8_lossy(v).into_owned());
            assert_eq!(found.as_deref(), expected, "{lines:?} {name}");
        }
    }

    #[test]
    fn a_cookie_that_is_set() {
        let day = Some(Duration::from_secs(86_400));
        for (path, age, secure, expected) in [
            ("/", None, false, "s=000000000000002a; Path=/; HttpOnly; SameSite=Lax"),
            (
                "/a",
                day,
                true,
                "s=000000000000002a; Path=/a; Max-Age=86400; HttpOnly; SameSite=Lax; Secure",
            ),
            (
                "/",
                Some(Duration::from_millis(3)),
                false,
                "s=000000000000002a; Path=/; Max-Age=1; HttpOnly; SameSite=Lax",
            ),
        ] {
            assert_eq!(Template::new("s", path, age).unwrap().set(42, secure), expected);
        }
        for (name, path) in [
            ("", "/"),
            ("a b", "/"),
            ("a;", "/"),
            ("a\r\n", "/"),
            ("a", ""),
            ("a", "b"),
            ("a", "/;x"),
            ("a", "/\r\n"),
            ("a", "/ä"),
        ] {
            assert!(Template::new(name, path, None).is_err(), "{name:?} {path:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(line in proptest::collection::vec(any::<u8>(), 0..64), name in ".{0,4}") {
            let mut fields = Fields::new();
            if fields.append("cookie", &line) {
                prop_assert!(value(&fields, &name).is_none_or(|value| value.len() < line.len()));
            }
        }

        #[test]
        fn what_is_set_comes_back(name in "[a-zA-Z0-9_-]{1,12}", number in any::<u64>(), secure in any::<bool>()) {
            let set = Template::new(&name, "/", None).unwrap().set(number, secure);
            let sent = format!("x=1; {}", set.split(';').next().unwrap());
            let mut fields = Fields::new();
            prop_assert!(fields.append("cookie", sent.as_bytes()));
            let expected = if name == "x" { "1".into() } else { format!("{number:016x}") };
            prop_assert_eq!(value(&fields, &name), Some(expected.as_bytes()));
        }
    }
}
