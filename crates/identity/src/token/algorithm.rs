//! Algorithms of signatures (RFC 7518 section 3.1, RFC 8037 section 3.1).

use aws_lc_rs::{
    hmac,
    signature::{self, EcdsaVerificationAlgorithm, RsaParameters, VerificationAlgorithm},
};

/// Kind of key that an algorithm takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// A secret that both sides have.
    Secret,
    /// RSA.
    Rsa,
    /// An elliptic curve of NIST, by its name in a JWK, and the bytes of a coordinate.
    Curve(&'static str, usize),
    /// Ed25519.
    Ed25519,
}

macro_rules! algorithms {
    ($($(#[doc = $doc:literal])+ $name:ident = $word:literal, $kind:expr, $how:expr;)+) => {
        /// Algorithm of a signature.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Algorithm { $($(#[doc = $doc])+ $name,)+ }

        impl Algorithm {
            /// Every algorithm.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The algorithm of a word, whose case counts.
            pub fn of(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$name),)+ _ => None }
            }

            /// Its word.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)+ }
            }

            /// The kind of key that it takes.
            pub const fn kind(self) -> KeyKind {
                match self { $(Self::$name => $kind,)+ }
            }

            pub(super) fn how(self) -> How {
                match self { $(Self::$name => $how,)+ }
            }
        }
    };
}

/// How a signature is checked.
#[derive(Clone, Copy)]
pub(super) enum How {
    Hmac(hmac::Algorithm),
    Rsa(&'static RsaParameters),
    Curve(&'static EcdsaVerificationAlgorithm),
    Ed25519,
}

impl How {
    /// For keys that others may know.
    pub(super) fn public(self) -> Option<&'static dyn VerificationAlgorithm> {
        match self {
            Self::Hmac(_) => None,
            Self::Rsa(how) => Some(how),
            Self::Curve(how) => Some(how),
            Self::Ed25519 => Some(&signature::ED25519),
        }
    }
}

algorithms! {
    /// HMAC with SHA-256.
    Hs256 = "HS256", KeyKind::Secret, How::Hmac(hmac::HMAC_SHA256);
    /// HMAC with SHA-384.
    Hs384 = "HS384", KeyKind::Secret, How::Hmac(hmac::HMAC_SHA384);
    /// HMAC with SHA-512.
    Hs512 = "HS512", KeyKind::Secret, How::Hmac(hmac::HMAC_SHA512);
    /// RSA, PKCS #1 v1.5, with SHA-256.
    Rs256 = "RS256", KeyKind::Rsa, How::Rsa(&signature::RSA_PKCS1_2048_8192_SHA256);
    /// RSA, PKCS #1 v1.5, with SHA-384.
    Rs384 = "RS384", KeyKind::Rsa, How::Rsa(&signature::RSA_PKCS1_2048_8192_SHA384);
    /// RSA, PKCS #1 v1.5, with SHA-512.
    Rs512 = "RS512", KeyKind::Rsa, How::Rsa(&signature::RSA_PKCS1_2048_8192_SHA512);
    /// RSA, PSS, with SHA-256.
    Ps256 = "PS256", KeyKind::Rsa, How::Rsa(&signature::RSA_PSS_2048_8192_SHA256);
    /// RSA, PSS, with SHA-384.
    Ps384 = "PS384", KeyKind::Rsa, How::Rsa(&signature::RSA_PSS_2048_8192_SHA384);
    /// RSA, PSS, with SHA-512.
    Ps512 = "PS512", KeyKind::Rsa, How::Rsa(&signature::RSA_PSS_2048_8192_SHA512);
    /// ECDSA on P-256 with SHA-256.
    Es256 = "ES256", KeyKind::Curve("P-256", 32), How::Curve(&signature::ECDSA_P256_SHA256_FIXED);
    /// ECDSA on P-384 with SHA-384.
    Es384 = "ES384", KeyKind::Curve("P-384", 48), How::Curve(&signature::ECDSA_P384_SHA384_FIXED);
    /// ECDSA on P-521 with SHA-512.
    Es512 = "ES512", KeyKind::Curve("P-521", 66), How::Curve(&signature::ECDSA_P521_SHA512_FIXED);
    /// Ed25519.
    EdDsa = "EdDSA", KeyKind::Ed25519, How::Ed25519;
}

impl Algorithm {
    /// The fewest bytes of a secret (RFC 7518 section 3.2); zero for keys of other kinds.
    pub const fn secret_bytes_min(self) -> usize {
        match self {
            Self::Hs256 => 32,
            Self::Hs384 => 48,
            Self::Hs512 => 64,
            _ => 0,
        }
    }
}
