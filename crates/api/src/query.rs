//! The query of a request: named once each, with units, and nothing that is not understood.
//!
//! A parameter that an operation does not know is refused: a typo in `?dealy=` must not publish at
//! once what was meant for tomorrow.

use std::{borrow::Cow, time::Duration};

use weft_kernel::{Error, Reason, Result, parse_duration};

/// The most parameters of a request.
const PARAMETERS_MAX: usize = 32;

/// What is left to be taken of a query.
#[derive(Debug)]
pub struct Query<'a> {
    left: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl<'a> Query<'a> {
    /// Reads a query as forms write it.
    pub fn parse(text: &'a str) -> Result<Self> {
        let mut left: Vec<(Cow<'a, str>, Cow<'a, str>)> = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decode(name, true)?, decode(value, true)?);
            if left.iter().any(|(earlier, _)| *earlier == name) {
                return Err(bad(&name, "is there twice"));
            }
            if left.len() == PARAMETERS_MAX {
                return Err(bad(&name, "is one too many: a request has at most 32"));
            }
            left.push((name, value));
        }
        Ok(Self { left })
    }

    /// Takes a parameter out.
    pub fn take(&mut self, name: &str) -> Option<Cow<'a, str>> {
        let at = self.left.iter().position(|(given, _)| given == name)?;
        Some(self.left.swap_remove(at).1)
    }

    /// Takes a number from `min` to `max` out.
    pub fn number(&mut self, name: &str, min: u64, max: u64) -> Result<Option<u64>> {
        let Some(text) = self.take(name) else { return Ok(None) };
        match text.parse::<u64>() {
            Ok(number) if (min..=max).contains(&number) => Ok(Some(number)),
            _ => Err(bad(name, &format!("is a whole number from {min} to {max}"))),
        }
    }

    /// Takes a duration up to `max` out.
    pub fn span(&mut self, name: &str, max: Duration) -> Result<Option<Duration>> {
        self.take(name).map(|text| span(name, &text, max)).transpose()
    }

    /// Refuses what nobody has taken.
    pub fn done(self) -> Result<()> {
        match self.left.first() {
            None => Ok(()),
            Some((name, _)) => Err(bad(name, "is not a parameter of this operation")),
        }
    }
}

/// A duration up to `max`, as the thing `name` gives it.
pub fn span(name: &str, text: &str, max: Duration) -> Result<Duration> {
    let span = parse_duration(text).map_err(|error| bad(name, &error.to_string()))?;
    if span > max {
        let max = weft_kernel::format_duration(max);
        return Err(bad(name, &format!("is at most {max}")));
    }
    Ok(span)
}

fn bad(name: &str, why: &str) -> Error {
    let name: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
    Error::new(Reason::MalformedRequest, format!("`{name}` {why}"))
}

/// Undoes the escapes of a text; with `plus`, a plus is a space.
///
/// # Errors
/// If what comes out is no UTF-8.
pub fn decode(text: &str, plus: bool) -> Result<Cow<'_, str>> {
    let text: Cow<'_, str> =
        if plus && text.contains('+') { text.replace('+', " ").into() } else { text.into() };
    if !text.contains('%') {
        return Ok(text);
    }
    let decoded = percent_encoding::percent_decode_str(&text).decode_utf8();
    let decoded = decoded.map_err(|error| {
        Error::new(Reason::MalformedRequest, "the path or query is not UTF-8").because(error)
    })?;
    Ok(decoded.into_owned().into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parameters_are_taken_once_and_the_rest_is_refused() {
        let mut query = Query::parse("max=5&wait=1m30s&key=a%2Fb+c").unwrap();
        assert_eq!(query.number("max", 1, 10).unwrap(), Some(5));
        assert_eq!(
            query.span("wait", Duration::from_secs(100)).unwrap(),
            Some(Duration::from_secs(90))
        );
        assert_eq!(query.take("key").as_deref(), Some("a/b c"));
        assert_eq!(query.take("key"), None);
        query.done().unwrap();
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (query, said) in [
            ("a=1&a=2", "`a` is there twice"),
            ("max=11", "`max` is a whole number from 1 to 10"),
            ("max=x", "`max` is a whole number from 1 to 10"),
            ("wait=1h", "`wait` is at most 20s"),
            ("wait=soon", "`wait` "),
            ("dealy=1s", "`dealy` is not a parameter of this operation"),
            ("max=%ff", "the path or query is not UTF-8"),
        ] {
            let read = || -> Result<()> {
                let mut query = Query::parse(query)?;
                query.number("max", 1, 10)?;
                query.span("wait", Duration::from_secs(20))?;
                query.done()
            };
            let error = read().unwrap_err();
            assert!(error.said().starts_with(said), "{query}: {}", error.said());
            assert_eq!(error.reason(), Reason::MalformedRequest);
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(query in ".*") {
            if let Ok(mut query) = Query::parse(&query) {
                let _ = query.number("a", 0, 9);
                prop_assert!(query.take("a").is_none());
            }
        }
    }
}
