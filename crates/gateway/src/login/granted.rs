//! Tokens that a provider has granted, as it writes them.

use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

/// What was granted (RFC 6749 section 5.1).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Granted {
    pub(super) id_token: Option<String>,
    pub(super) access_token: Option<String>,
    pub(super) refresh_token: Option<String>,
    #[serde(default, deserialize_with = "span")]
    pub(super) expires_in: Option<u64>,
    #[serde(default)]
    pub(super) token_type: Option<String>,
    /// The second at which it was.
    #[serde(skip)]
    pub(super) at: i64,
}

impl Granted {
    /// Whether its access token is one of a kind that is known here (RFC 6749 section 7.1).
    pub(super) fn is_bearer(&self) -> bool {
        self.token_type.as_ref().is_none_or(|kind| kind.eq_ignore_ascii_case("bearer"))
    }

    /// Bytes of its tokens.
    pub(super) fn bytes(&self) -> usize {
        let texts = [&self.id_token, &self.access_token, &self.refresh_token];
        texts.into_iter().flatten().map(String::len).sum()
    }
}

/// Seconds, whole or not, as a number or as its digits: providers write all of them.
fn span<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    let seconds = match Option::<Value>::deserialize(from)? {
        None => return Ok(None),
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => text.trim().parse().ok(),
        Some(_) => None,
    };
    match seconds.filter(|seconds: &f64| seconds.is_finite()) {
        // Saturates; what is below zero is over.
        Some(seconds) => Ok(Some(seconds as u64)),
        None => Err(de::Error::custom("`expires_in` is no number of seconds")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_token_is_read_as_providers_write_it() {
        for (said, expected) in [
            ("3600", Ok(Some(3_600))),
            ("\"3600\"", Ok(Some(3_600))),
            ("3599.7", Ok(Some(3_599))),
            ("\"3599.7\"", Ok(Some(3_599))),
            ("-1", Ok(Some(0))),
            ("1e300", Ok(Some(u64::MAX))),
            ("null", Ok(None)),
            ("\"soon\"", Err(())),
            ("\"inf\"", Err(())),
            ("true", Err(())),
        ] {
            let text = format!(r#"{{"access_token":"a","expires_in":{said}}}"#);
            let read: Result<Granted, _> = serde_json::from_str(&text);
            assert_eq!(read.map(|read| read.expires_in).map_err(|_error| ()), expected, "{said}");
        }
        let none: Granted = serde_json::from_str("{}").unwrap();
        assert_eq!((none.expires_in, none.is_bearer()), (None, true));
        for (kind, expected) in [("Bearer", true), ("bearer", true), ("DPoP", false), ("", false)] {
            let granted = Granted { token_type: Some(kind.into()), ..Granted::default() };
            assert_eq!(granted.is_bearer(), expected, "{kind}");
        }
    }
}
