//! Names of services, routes, listeners and policies: short, printable, and safe as a label.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use crate::limits::NAME_BYTES_MAX;

/// A name: 1 to 128 bytes of letters, digits, `-`, `_`, `.` and `/`, beginning with a letter or digit.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// A text that cannot be a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a name: use 1 to 128 letters, digits, `-`, `_`, `.` or `/`, beginning with a letter or digit"
)]
pub struct ParseNameError(String);

impl Name {
    /// Checks a text and makes it a name.
    pub fn new(text: &str) -> Result<Self, ParseNameError> {
        let bytes = text.as_bytes();
        let fits = bytes.len() <= NAME_BYTES_MAX
            && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
            && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(b));
        if fits {
            Ok(Self(text.into()))
        } else {
            Err(ParseNameError(text.chars().take(160).collect()))
        }
    }

    /// The text of the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for good in ["orders", "orders-v2", "a.b_c/d", "7", &"x".repeat(128)] {
            assert!(Name::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", ".a", "a b", "é", "a\n", "a{b}", &"x".repeat(129)] {
            assert!(Name::new(bad).is_err(), "{bad}");
        }
    }
}
