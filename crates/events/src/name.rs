//! Names of streams.

use std::{fmt, sync::Arc};

use weft_kernel::{Error, Reason, Result};

/// The longest name of a stream, in bytes.
pub const NAME_BYTES_MAX: usize = 255;

/// The name of a stream: `CATEGORY-ID`, as `order-1001`. What has no hyphen is its own category.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamName(Arc<str>);

impl StreamName {
    /// A name.
    ///
    /// # Errors
    /// `malformed_request` for one that is empty, longer than [`NAME_BYTES_MAX`] or has control characters.
    pub fn new(text: &str) -> Result<Self> {
        let wrong = if text.is_empty() {
            "is empty"
        } else if text.len() > NAME_BYTES_MAX {
            "is longer than 255 bytes"
        } else if text.chars().any(char::is_control) {
            "has a control character"
        } else {
            return Ok(Self(text.into()));
        };
        Err(Error::new(Reason::MalformedRequest, format!("the name of a stream {wrong}")))
    }

    /// The name that is stored as these bytes; `None` if they are none.
    pub(crate) fn of_bytes(bytes: &[u8]) -> Option<Self> {
        Self::new(std::str::from_utf8(bytes).ok()?).ok()
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before the first hyphen.
    pub fn category(&self) -> &str {
        self.0.split_once('-').map_or(&*self.0, |(category, _)| category)
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_their_categories() {
        for (name, category) in [
            ("order-1001", "order"),
            ("order", "order"),
            ("a-b-c", "a"),
            ("-x", ""),
            ("ünïcode-1", "ünïcode"),
        ] {
            assert_eq!(StreamName::new(name).unwrap().category(), category);
        }
        for wrong in ["", "a\0b", "a\nb", &"x".repeat(256)] {
            assert!(StreamName::new(wrong).is_err(), "{wrong:?}");
        }
    }
}
