//! Digests of credentials: all that is kept of them.
//!
//! A key or password is shown again with each request, so it is compared by SHA-256, which costs less than
//! a microsecond; it is for secrets that a machine drew, and does not make a guessable one safe. Digests of
//! different kinds of credentials never meet, since each begins with its kind. They are compared in constant
//! time.

use std::hash::{BuildHasherDefault, Hash, Hasher};

use aws_lc_rs::{constant_time::verify_slices_are_equal, digest};

/// The longest API key, in bytes.
pub const KEY_BYTES_MAX: usize = 1024;

/// Digest of a credential.
#[derive(Clone, Copy)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Of an API key.
    pub fn of_api_key(key: &[u8]) -> Self {
        Self::of(1, &[key])
    }

    /// Of a user name, which holds no colon, with its password (RFC 7617 section 2).
    pub fn of_basic(username: &[u8], password: &[u8]) -> Self {
        Self::of(2, &[username, b":", password])
    }

    /// Of the subject of an issuer's tokens.
    pub fn of_subject(issuer: &str, subject: &str) -> Self {
        // A name holds no zero.
        Self::of(3, &[issuer.as_bytes(), &[0], subject.as_bytes()])
    }

    /// Of a token.
    pub fn of_token(token: &[u8]) -> Self {
        Self::of(4, &[token])
    }

    /// Of a token that an issuer is asked about, which does not say itself whose it is.
    pub fn of_opaque(issuer: &str, token: &[u8]) -> Self {
        Self::of(16, &[issuer.as_bytes(), &[0], token])
    }

    fn of(kind: u8, parts: &[&[u8]]) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&[kind]);
        parts.iter().for_each(|part| context.update(part));
        let mut bytes = [0; 32];
        bytes.copy_from_slice(context.finish().as_ref());
        Self(bytes)
    }
}

impl PartialEq for Digest {
    fn eq(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Eq for Digest {}

impl Hash for Digest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        state.write_u64(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// A hasher for digests, which are as good as drawn by chance already.
#[derive(Clone, Copy, Debug, Default)]
pub struct DigestHasher(u64);

/// Builds [`DigestHasher`]s.
pub type ByDigest = BuildHasherDefault<DigestHasher>;

impl Hasher for DigestHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 ^= number;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_never_meet_and_nothing_is_shown() {
        let key = Digest::of_api_key(b"ada:secret");
        assert_eq!(key, Digest::of_api_key(b"ada:secret"));
        assert_ne!(key, Digest::of_basic(b"ada", b"secret"));
        assert_ne!(Digest::of_basic(b"ada", b"b:c"), Digest::of_basic(b"ada", b"b:"));
        assert_eq!(format!("{key:?}"), "***");
    }
}
