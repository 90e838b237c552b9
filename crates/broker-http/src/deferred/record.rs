//! An operation as it is kept.
//!
//! Its head is an entry of a map under its id, as JSON; the bodies of request and response are records of
//! a log, in pieces, and the head says where. An id is unguessable, so that knowing it is the right to
//! ask for the answer.

use std::{fmt, str::FromStr};

use aws_lc_rs::rand;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use weft_kernel::{Error, Reason, Result};
use weft_wire::{Fields, Method};

/// How much of a body one record holds.
pub(super) const PIECE_BYTES: usize = 512 * 1024;
/// The largest body of a request that is kept, and of a response: all of one is one transaction.
pub(super) const BODY_BYTES_MAX: usize = 4 << 20;

/// The name of an operation: 128 random bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Id([u8; 16]);

impl Id {
    /// A new one.
    ///
    /// # Errors
    /// [`Reason::Internal`] if the machine gives no random bits.
    pub(crate) fn new() -> Result<Self> {
        let mut bytes = [0; 16];
        rand::fill(&mut bytes)
            .map_err(|_error| Error::new(Reason::Internal, "there are no random bits"))?;
        Ok(Self(bytes))
    }

    /// The key of the head.
    pub(super) fn key(&self) -> Bytes {
        Bytes::from(self.to_string().into_bytes())
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl FromStr for Id {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut bytes = [0; 16];
        match URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) {
            Ok(16) => Ok(Self(bytes)),
            _ => Err(unknown()),
        }
    }
}

/// That there is no such operation, or none any more.
pub(super) fn unknown() -> Error {
    Error::new(Reason::NoMessage, "there is no such operation, or its answer is kept no longer")
}

/// The head of an operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Head {
    /// The form of this record: 1.
    pub(super) version: u8,
    /// When the request was taken, in wall milliseconds.
    pub(super) taken_ms: u64,
    /// How long the answer is kept, in milliseconds.
    pub(super) keep_ms: u64,
    /// The route that carries it out.
    pub(super) route: String,
    /// The request.
    pub(super) method: String,
    /// Path and query.
    pub(super) target: String,
    /// Its fields.
    pub(super) fields: Vec<(String, String)>,
    /// Where its body is.
    pub(super) body: Pieces,
    /// Where the answer is to be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) callback: Option<String>,
    /// What came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) outcome: Option<Outcome>,
}

/// Records that stand side by side in the log of bodies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pieces {
    /// The position of the first.
    pub(super) first: u64,
    /// How many there are.
    pub(super) count: u64,
}

/// What came of an operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Outcome {
    /// When, in wall milliseconds.
    pub(super) done_ms: u64,
    /// The status; `None` if it was cancelled before it began.
    pub(super) status: Option<u16>,
    /// The fields of the response.
    pub(super) fields: Vec<(String, String)>,
    /// Where its body is.
    pub(super) body: Pieces,
    /// Whether the callback was answered, if there is one.
    #[serde(default)]
    pub(super) told: bool,
}

impl Head {
    /// Reads a head.
    ///
    /// # Errors
    /// [`Reason::StorageCorrupt`].
    pub(super) fn read(bytes: &[u8]) -> Result<Self> {
        let broken = || Error::new(Reason::StorageCorrupt, "a kept operation cannot be read");
        let head: Self = serde_json::from_slice(bytes).map_err(|error| broken().because(error))?;
        if head.version != 1 {
            return Err(broken().note(format!("version {} of its record", head.version)));
        }
        Ok(head)
    }

    /// The bytes that are kept.
    ///
    /// # Errors
    /// [`Reason::Internal`].
    pub(super) fn write(&self) -> Result<Bytes> {
        let bytes = serde_json::to_vec(self).map_err(|error| {
            Error::new(Reason::Internal, "an operation could not be written").because(error)
        })?;
        Ok(bytes.into())
    }

    /// The method.
    pub(super) fn method(&self) -> Method {
        Method::of(&self.method)
    }
}

/// Fields as they are kept: a value's bytes as the characters of the same numbers, since a value need
/// not be UTF-8.
pub(super) fn keep_fields(fields: &Fields) -> Vec<(String, String)> {
    fields
        .iter()
        .map(|(name, value)| (name.to_owned(), value.iter().copied().map(char::from).collect()))
        .collect()
}

/// The fields that were kept.
pub(super) fn kept_fields(kept: &[(String, String)]) -> Fields {
    let mut fields = Fields::new();
    for (name, value) in kept {
        let value: Vec<u8> =
            value.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect();
        fields.append(name, &value);
    }
    fields
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_id_is_its_text() {
        let id = Id::new().unwrap();
        assert_eq!(id.to_string().parse::<Id>().unwrap(), id);
        for text in ["", "x", "AAAAAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAA!", "ä"] {
            assert_eq!(text.parse::<Id>().unwrap_err().reason(), Reason::NoMessage, "{text}");
        }
    }

    #[test]
    fn a_head_of_another_form_is_not_guessed_at() {
        assert!(Head::read(b"{}").is_err());
        let head = Head {
            version: 2,
            taken_ms: 1,
            keep_ms: 2,
            route: "r".into(),
            method: "POST".into(),
            target: "/".into(),
            fields: Vec::new(),
            body: Pieces::default(),
            callback: None,
            outcome: None,
        };
        assert!(Head::read(&head.write().unwrap()).is_err());
        let head = Head { version: 1, ..head };
        assert_eq!(Head::read(&head.write().unwrap()).unwrap(), head);
    }

    proptest! {
        #[test]
        fn fields_come_back_byte_for_byte(
            values in proptest::collection::vec(proptest::collection::vec(32u8.., 0..20), 0..10)
        ) {
            let mut fields = Fields::new();
            for value in &values {
                fields.append("x-value", value);
            }
            let kept = keep_fields(&fields);
            let json = serde_json::to_string(&kept).unwrap();
            let back = kept_fields(&serde_json::from_str::<Vec<(String, String)>>(&json).unwrap());
            let found: Vec<Vec<u8>> = back.iter().map(|(_, value)| value.to_vec()).collect();
            prop_assert_eq!(found, values);
        }
    }
}
