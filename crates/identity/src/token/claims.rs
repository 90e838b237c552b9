//! Claims of a token (RFC 7519 section 4).

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

use super::TokenFault;

/// What a token says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Claims {
    all: Map<String, Value>,
    expires: Option<f64>,
    begins: Option<f64>,
}

impl Claims {
    pub(super) fn new(all: Map<String, Value>) -> Result<Self, TokenFault> {
        let time = |name: &str| match all.get(name) {
            None => Ok(None),
            Some(Value::Number(at)) => Ok(at.as_f64()),
            Some(_) => Err(TokenFault::Malformed("one of its times is no number")),
        };
        let (expires, begins) = (time("exp")?, time("nbf")?);
        Ok(Self { all, expires, begins })
    }

    /// About how many bytes they hold in memory, which for many small values is far more than their text.
    pub fn weight(&self) -> usize {
        /// A value in a list or a map, and what a map adds for an entry.
        const VALUE: usize = size_of::<Value>();
        const ENTRY: usize = 2 * size_of::<String>();
        fn of(value: &Value) -> usize {
            VALUE
                + match value {
                    Value::String(text) => text.len(),
                    Value::Array(all) => all.iter().map(of).sum(),
                    Value::Object(all) => entries(all),
                    Value::Null | Value::Bool(_) | Value::Number(_) => 0,
                }
        }
        fn entries(all: &Map<String, Value>) -> usize {
            all.iter().map(|(name, value)| ENTRY + name.len() + of(value)).sum()
        }
        size_of::<Self>() + entries(&self.all)
    }

    /// Claims that somebody who is believed tells by themselves, as an introspection endpoint does (RFC 7662).
    ///
    /// # Errors
    /// [`TokenFault::Malformed`].
    pub fn of_json(text: &[u8]) -> Result<Self, TokenFault> {
        match serde_json::from_slice(text) {
            Ok(Value::Object(all)) => Self::new(all),
            _ => Err(TokenFault::Malformed("it is no JSON object")),
        }
    }

    /// A claim: of this name, or, with dots, within others.
    pub fn get(&self, name: &str) -> Option<&Value> {
        if let Some(found) = self.all.get(name) {
            return Some(found);
        }
        let (first, rest) = name.split_once('.')?;
        let mut found = self.all.get(first)?;
        for part in rest.split('.') {
            found = found.get(part)?;
        }
        Some(found)
    }

    /// The claim of this very name, dots and all.
    pub fn exactly(&self, name: &str) -> Option<&Value> {
        self.all.get(name)
    }

    /// The names of all claims.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.all.keys().map(String::as_str)
    }

    /// A claim that is text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str()
    }

    /// The texts of a claim that is one, or a list of them.
    pub fn texts(&self, name: &str) -> impl Iterator<Item = &str> {
        let found = self.get(name);
        let list = found.and_then(Value::as_array).into_iter().flatten();
        found.and_then(Value::as_str).into_iter().chain(list.filter_map(Value::as_str))
    }

    /// Whether it is meant for an audience.
    pub fn is_for(&self, audience: &str) -> bool {
        self.texts("aud").any(|one| one == audience)
    }

    /// Whether it has a scope: in `scope`, with spaces between them (RFC 8693 section 4.2), or in `scp`, which
    /// others write.
    pub fn has_scope(&self, scope: &str) -> bool {
        ["scope", "scp"]
            .iter()
            .any(|name| self.texts(name).any(|texts| texts.split(' ').any(|one| one == scope)))
    }

    /// Whether it is its time, by clocks that may differ by `skew`.
    ///
    /// # Errors
    /// [`TokenFault::Expired`] and [`TokenFault::NotYet`].
    pub fn is_time(&self, now: SystemTime, skew: Duration) -> Result<(), TokenFault> {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let skew = skew.as_secs_f64();
        if self.expires.is_some_and(|at| now >= at + skew) {
            return Err(TokenFault::Expired);
        }
        if self.begins.is_some_and(|at| now < at - skew) {
            return Err(TokenFault::NotYet);
        }
        Ok(())
    }

    /// When it ends, in seconds since 1970.
    pub const fn expires(&self) -> Option<f64> {
        self.expires
    }

    /// All of them.
    pub const fn all(&self) -> &Map<String, Value> {
        &self.all
    }
}
