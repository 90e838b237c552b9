//! Conditions on header fields, query parameters and the method.

use regex::bytes::Regex;
use weft_wire::{Known, fields::is_token};

use super::{Lookup, regexes};
use crate::{
    plan::{self, CertificatePart, FieldValue},
    query,
};

/// Most conditions of one match.
pub(super) const CONDITIONS_MAX: usize = 64;

/// A condition on a header field, a query parameter or a name in the client's certificate.
///
/// It holds if any value of that name is as it must be; turned round, if none is, so also if there is
/// no such field.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    of: Of,
    test: Test,
    invert: bool,
}

#[derive(Clone, Debug)]
enum Of {
    Known(Known),
    Header(Box<str>),
    Query(Box<str>),
    Certificate(CertificatePart),
}

#[derive(Clone, Debug)]
enum Test {
    Present,
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
    Regex(Regex),
}

impl Test {
    fn compile(value: &FieldValue) -> Result<Self, String> {
        Ok(match value {
            FieldValue::Present => Self::Present,
            FieldValue::Exact(text) => Self::Exact(text.as_bytes().into()),
            FieldValue::Prefix(text) => Self::Prefix(text.as_bytes().into()),
            FieldValue::Regex(pattern) => Self::Regex(regexes::whole_bytes(pattern)?),
        })
    }

    fn fits(&self, value: &[u8]) -> bool {
        match self {
            Self::Present => true,
            Self::Exact(exact) => value == &**exact,
            Self::Prefix(prefix) => value.starts_with(prefix),
            Self::Regex(regex) => regex.is_match(value),
        }
    }
}

impl Condition {
    /// A condition on a header field.
    pub(super) fn header(field: &plan::Field) -> Result<Self, String> {
        let name = field.name.as_str();
        if name.is_empty()
            || !name.bytes().all(is_token)
            || name.bytes().any(|byte| byte.is_ascii_uppercase())
        {
            return Err(format!("header `{name}` is not a header name in lower case"));
        }
        let of = match Known::of(name.as_bytes()) {
            Some(known) => Of::Known(known),
            None => Of::Header(name.into()),
        };
        let test = Test::compile(&field.value).map_err(|what| format!("header {name}: {what}"))?;
        Ok(Self { of, test, invert: field.invert })
    }

    /// A condition on a query parameter.
    pub(super) fn query(field: &plan::Field) -> Result<Self, String> {
        let name = field.name.as_str();
        if name.is_empty() {
            return Err("a query parameter must have a name".into());
        }
        let test = Test::compile(&field.value)
            .map_err(|what| format!("query parameter {name}: {what}"))?;
        Ok(Self { of: Of::Query(name.into()), test, invert: field.invert })
    }

    /// A condition on a name in the client's certificate.
    pub(super) fn certificate(field: &plan::CertificateField) -> Result<Self, String> {
        let of = Of::Certificate(field.part);
        let test =
            Test::compile(&field.value).map_err(|what| format!("{}: {what}", field.part.text()))?;
        Ok(Self { of, test, invert: field.invert })
    }

    /// Whether it is about the client's certificate.
    pub(super) const fn is_certificate(&self) -> bool {
        matches!(self.of, Of::Certificate(_))
    }

    /// Whether it is about a query parameter.
    pub(super) const fn is_query(&self) -> bool {
        matches!(self.of, Of::Query(_))
    }

    /// Whether it holds.
    pub(super) fn holds(&self, lookup: &Lookup<'_>) -> bool {
        self.any(lookup, |value| self.test.fits(value)) != self.invert
    }

    fn any(&self, lookup: &Lookup<'_>, mut fits: impl FnMut(&[u8]) -> bool) -> bool {
        match &self.of {
            Of::Known(known) => lookup.fields.all(*known).any(fits),
            Of::Header(name) => lookup.fields.all_named(name).any(fits),
            Of::Query(name) => {
                query::values(lookup.query.unwrap_or(""), name).any(|value| fits(&value))
            }
            Of::Certificate(part) => {
                let Some(names) = lookup.certificate else { return false };
                match part {
                    CertificatePart::Uri => names.uri.iter().any(|uri| fits(uri.as_bytes())),
                    CertificatePart::Dns => {
                        names.dns.iter().any(|dns| fits(dns.to_ascii_lowercase().as_bytes()))
                    }
                    CertificatePart::Subject => fits(names.subject.as_bytes()),
                    CertificatePart::Fingerprint => fits(names.fingerprint.as_bytes()),
                }
            }
        }
    }

    /// Why it does not hold, in words.
    pub(super) fn explain(&self, lookup: &Lookup<'_>) -> String {
        let name = match &self.of {
            Of::Known(known) => format!("header {}", known.text()),
            Of::Header(name) => format!("header {name}"),
            Of::Query(name) => format!("query parameter {name}"),
            Of::Certificate(part) => part.text().to_owned(),
        };
        let mut first = None;
        self.any(lookup, |value| {
            first.get_or_insert_with(|| {
                String::from_utf8_lossy(value).chars().take(100).collect::<String>()
            });
            false
        });
        let wanted = match &self.test {
            Test::Present => String::new(),
            Test::Exact(text) => format!(" `{}`", String::from_utf8_lossy(text)),
            Test::Prefix(text) => {
                format!(" something beginning with `{}`", String::from_utf8_lossy(text))
            }
            Test::Regex(regex) => {
                format!(" something that fits `{}`", regexes::bare(regex.as_str()))
            }
        };
        match (first, self.invert, wanted.is_empty()) {
            (_, true, true) => format!("{name} is there, and must not be"),
            (_, true, false) => format!("{name} is{wanted}, and must not be"),
            (None, false, true) => format!("{name} is missing"),
            (None, false, false) => format!("{name} is missing, and must be{wanted}"),
            (Some(value), false, _) => format!("{name} is `{value}`, and must be{wanted}"),
        }
    }
}

const METHODS: [&str; 9] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE"];

/// The bit of a method; 0 for one that is not common.
pub(super) fn method_bit(method: &str) -> u16 {
    METHODS.iter().position(|known| *known == method).map_or(0, |at| 1 << at)
}

/// The methods of a match.
#[derive(Clone, Debug, Default)]
pub(super) struct Methods {
    known: u16,
    others: Box<[Box<str>]>,
}

impl Methods {
    /// Checks and compiles the methods of a match.
    pub(super) fn compile(methods: &[String]) -> Result<Self, String> {
        let mut known = 0;
        let mut others: Vec<Box<str>> = Vec::new();
        for method in methods {
            let token = !method.is_empty() && method.bytes().all(is_token);
            if !token || method.bytes().any(|byte| byte.is_ascii_lowercase()) {
                return Err(format!("`{method}` is not a method in upper case"));
            }
            match method_bit(method) {
                0 => others.push(method.as_str().into()),
                bit => known |= bit,
            }
        }
        Ok(Self { known, others: others.into() })
    }

    /// Whether every method fits.
    pub(super) const fn is_any(&self) -> bool {
        self.known == 0 && self.others.is_empty()
    }

    /// Whether a method, whose bit is `bit`, fits.
    #[inline]
    pub(super) fn fits(&self, bit: u16, method: &str) -> bool {
        self.known & bit != 0
            || self.is_any()
            || (bit == 0 && self.others.iter().any(|other| &**other == method))
    }

    /// Each of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        let known = METHODS.iter().enumerate().filter(|(at, _)| self.known & (1 << at) != 0);
        known.map(|(_, name)| *name).chain(self.others.iter().map(|other| &**other))
    }
}

#[cfg(test)]
mod tests {
    use weft_wire::Fields;

    use super::*;

    fn lookup<'a>(query: &'a str, fields: &'a Fields) -> Lookup<'a> {
        let query = Some(query);
        Lookup { host: "", method: "GET", path: "/", query, fields, certificate: None }
    }

    fn field(name: &str, value: FieldValue, invert: bool) -> plan::Field {
        plan::Field { name: name.into(), value, invert }
    }

    #[test]
    fn any_value_of_a_header_suffices() {
        let mut fields = Fields::new();
        for (name, value) in [("x-a", "1"), ("x-a", "two"), ("cookie", "k=v"), ("x-empty", "")] {
            assert!(fields.append(name, value.as_bytes()));
        }
        let exact = |text: &str| FieldValue::Exact(text.into());
        let regex = |text: &str| FieldValue::Regex(text.into());
        for (name, value, holds) in [
            ("x-a", FieldValue::Present, true),
            ("x-a", exact("1"), true),
            ("x-a", exact("two"), true),
            ("x-a", exact("tw"), false),
            ("x-a", FieldValue::Prefix("tw".into()), true),
            ("x-a", regex("t.."), true),
            ("x-a", regex("w"), false),
            ("x-a", regex("x|two"), true),
            ("cookie", exact("k=v"), true),
            ("x-empty", FieldValue::Present, true),
            ("x-empty", exact(""), true),
            ("x-b", FieldValue::Present, false),
            ("x-b", exact(""), false),
            ("host", FieldValue::Present, false),
        ] {
            for invert in [false, true] {
                let condition = Condition::header(&field(name, value.clone(), invert)).unwrap();
                assert_eq!(condition.holds(&lookup("", &fields)), holds != invert, "{condition:?}");
            }
        }
    }

    #[test]
    fn query_parameters_are_decoded_before_they_are_compared() {
        let fields = Fields::new();
        for (query, holds) in [
            ("a=x%20y", true),
            ("a=x+y", true),
            ("b=1&a=x%20y", true),
            ("a=1&a=x%20y", true),
            ("%61=x%20y", true),
            ("a=x%2520y", false),
            ("a", false),
            ("", false),
            ("A=x+y", false),
        ] {
            let condition =
                Condition::query(&field("a", FieldValue::Exact("x y".into()), false)).unwrap();
            assert_eq!(condition.holds(&lookup(query, &fields)), holds, "{query}");
        }
    }

    #[test]
    fn methods_are_checked_and_found() {
        let methods = Methods::compile(&["GET".into(), "PURGE".into()]).unwrap();
        for (method, fits) in [("GET", true), ("PURGE", true), ("POST", false), ("get", false)] {
            assert_eq!(methods.fits(method_bit(method), method), fits, "{method}");
        }
        assert_eq!(methods.iter().collect::<Vec<_>>(), ["GET", "PURGE"]);
        let any = Methods::compile(&[]).unwrap();
        assert!(any.fits(method_bit("BREW"), "BREW") && any.fits(method_bit("GET"), "GET"));
        for bad in ["", "get", "G T", "GET\r\n", "Ö"] {
            assert!(Methods::compile(&[bad.into()]).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_cannot_be_a_condition_is_refused() {
        for bad in ["", "X-A", "a b", "a:"] {
            assert!(Condition::header(&field(bad, FieldValue::Present, false)).is_err(), "{bad}");
        }
        assert!(Condition::query(&field("", FieldValue::Present, false)).is_err());
        assert!(Condition::header(&field("a", FieldValue::Regex("(".into()), false)).is_err());
    }
}
