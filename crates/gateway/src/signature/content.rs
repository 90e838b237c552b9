//! Digest of a body (RFC 9530), by SHA-256, SHA-512, or both; others are passed over.

use aws_lc_rs::digest::{SHA256, SHA512, digest};
use sfv::{Dictionary, ListEntry, Parser};

use super::{FIELD_BYTES_MAX, Fault, base::Message};

/// The field of the digest.
pub(super) const CONTENT_DIGEST: &str = "content-digest";

const WRONG: Fault = "`Content-Digest` holds no digest";

/// What the body must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    sha256: Option<[u8; 32]>,
    sha512: Option<[u8; 64]>,
}

impl Content {
    /// Of the head of a request.
    pub(super) fn of(message: &Message<'_>) -> Result<Self, Fault> {
        let text = message.field(CONTENT_DIGEST).unwrap_or_default();
        if text.len() > FIELD_BYTES_MAX {
            return Err("`Content-Digest` is longer than 8 KiB");
        }
        let members: Dictionary =
            Parser::new(&text).parse().map_err(|_error| "`Content-Digest` cannot be read")?;
        let (sha256, sha512) = (digest_of(&members, "sha-256")?, digest_of(&members, "sha-512")?);
        if sha256.is_none() && sha512.is_none() {
            return Err("`Content-Digest` is by neither `sha-256` nor `sha-512`");
        }
        Ok(Self { sha256, sha512 })
    }

    /// Whether a body is that one.
    pub fn is(&self, body: &[u8]) -> bool {
        self.sha256.is_none_or(|of| digest(&SHA256, body).as_ref() == of)
            && self.sha512.is_none_or(|of| digest(&SHA512, body).as_ref() == of)
    }
}

fn digest_of<const N: usize>(members: &Dictionary, name: &str) -> Result<Option<[u8; N]>, Fault> {
    let bytes = match members.get(name) {
        None => return Ok(None),
        Some(ListEntry::Item(item)) => item.bare_item.as_byte_sequence(),
        Some(ListEntry::InnerList(_)) => None,
    };
    bytes.and_then(|bytes| bytes.try_into().ok()).map(Some).ok_or(WRONG)
}
