//! Digests of credentials: all that is kept of them.
//!
//! A key or password is shown again with each request, so it is compared by SHA-256, which costs less than
//! a microsecond; it is for secrets that a machine drew, and does not make a guessable one safe. Digests of
//! different kinds of credentials never meet, since each has its kind beside it. They are compared in constant
//! time.
//!
//! The digest of an API key is its SHA-256 alone, and that of a user name with a password the one of
//! `NAME:PASSWORD`, so that a configuration can hold them as other tools write them (`Digest::parse`).

use std::hash::{BuildHasherDefault, Hash, Hasher};

use aws_lc_rs::{constant_time::verify_slices_are_equal, digest};

/// The longest API key, in bytes.
pub const KEY_BYTES_MAX: usize = 1024;

/// What a digest begins with where it is written.
pub const WRITTEN: &str = "sha256:";

/// Digest of a credential.
#[derive(Clone, Copy)]
pub struct Digest {
    kind: u8,
    bytes: [u8; 32],
}

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

    /// Of a name of a kind in a client certificate.
    pub fn of_certificate(kind: &str, name: &str) -> Self {
        Self::of(5, &[kind.as_bytes(), &[0], name.as_bytes()])
    }

    /// Of a token that an issuer is asked about, which does not say itself whose it is.
    pub fn of_opaque(issuer: &str, token: &[u8]) -> Self {
        Self::of(16, &[issuer.as_bytes(), &[0], token])
    }

    /// Of a nonce of a key of signatures.
    pub(crate) fn of_nonce(key: &str, nonce: &str) -> Self {
        Self::of(6, &[key.as_bytes(), &[0], nonce.as_bytes()])
    }

    /// Of a name by which a session is ended.
    pub(crate) fn of_session(kind: &str, name: &str) -> Self {
        Self::of(7, &[kind.as_bytes(), &[0], name.as_bytes()])
    }

    /// Of what tokens are asked for by.
    pub(crate) fn of_grant(kind: &str, grant: &str) -> Self {
        Self::of(8, &[kind.as_bytes(), &[0], grant.as_bytes()])
    }

    /// That of an API key, as it is written: `sha256:` and 64 hexadecimal digits.
    pub fn parse_api_key(text: &str) -> Option<Self> {
        Self::parse(1, text)
    }

    /// That of a user name with its password, likewise.
    pub fn parse_basic(text: &str) -> Option<Self> {
        Self::parse(2, text)
    }

    fn parse(kind: u8, text: &str) -> Option<Self> {
        let digits = text.strip_prefix(WRITTEN)?.as_bytes();
        let mut bytes = [0; 32];
        if digits.len() != 2 * bytes.len() {
            return None;
        }
        let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|it| u8::try_from(it).ok());
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self { kind, bytes })
    }

    /// It as it is written. Nobody can work out from it what was drawn by chance; it is no secret.
    pub fn written(&self) -> String {
        let digits: String = self.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{WRITTEN}{digits}")
    }

    /// A number by which it is found among many.
    pub(crate) fn number(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.bytes;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    fn of(kind: u8, parts: &[&[u8]]) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        parts.iter().for_each(|part| context.update(part));
        let mut bytes = [0; 32];
        bytes.copy_from_slice(context.finish().as_ref());
        Self { kind, bytes }
    }
}

impl PartialEq for Digest {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind && verify_slices_are_equal(&self.bytes, &other.bytes).is_ok()
    }
}

impl Eq for Digest {}

impl Hash for Digest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.number());
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
        // The same bytes as another kind are another digest.
        assert_ne!(Digest::of_api_key(b"ada:b"), Digest::of_basic(b"ada", b"b"));
    }

    #[test]
    fn a_digest_is_written_as_other_tools_write_it() {
        // `printf %s abc | sha256sum`: the example of FIPS 180-4.
        let written = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Digest::of_api_key(b"abc").written(), written);
        assert_eq!(Digest::parse_api_key(written), Some(Digest::of_api_key(b"abc")));
        assert_ne!(Digest::parse_basic(written), Some(Digest::of_api_key(b"abc")));
        assert_eq!(
            Digest::parse_api_key(&written.to_uppercase().replace("SHA", "sha")),
            Digest::parse_api_key(written)
        );
        for text in [
            "",
            "sha256:",
            "sha256:ba",
            &written[7..],
            &written.replace('b', "g"),
            &format!("{written}0"),
        ] {
            assert_eq!(Digest::parse_api_key(text), None, "{text}");
        }
    }
}
