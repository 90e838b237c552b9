//! Signed tokens: JSON Web Tokens in their compact form (RFC 7519, RFC 7515), read and verified.
//!
//! [`Unverified::parse`] reads a token and believes nothing of it. [`Unverified::verify`] holds it to the keys of
//! an issuer and to [`Rules`], and gives its [`Claims`]. Which algorithms may be is said by the rules alone
//! (RFC 8725 section 3.1): `none` is no algorithm here, and a key is made for the algorithms that fit its kind, so that a
//! public key is never taken for a secret. Keys come from a [`KeySet`] and never from the token: `jku`, `jwk`,
//! `x5u` and `x5c` are not looked at, `kid` is compared and nothing else, and what `crit` lists is not understood,
//! so such a token is refused (RFC 7515 section 4.1.11).
//!
//! Invariants: no I/O and no clock; nothing from outside makes it panic; work is bounded by [`TOKEN_BYTES_MAX`]
//! and [`TRIES_MAX`].
//!
//! Reading order: [`algorithm`], [`keys`], [`claims`], this file; [`signing`] is of tokens of the node's own.

pub mod algorithm;
pub mod claims;
pub mod keys;
pub mod signing;

use std::time::{Duration, SystemTime};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;

pub use self::{algorithm::Algorithm, claims::Claims, keys::KeySet, signing::SigningKey};

/// The longest token, in bytes.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// The most keys that a token is held to that does not name one.
pub const TRIES_MAX: usize = 8;

/// The longest `kid`, in bytes.
const KID_BYTES_MAX: usize = 256;

/// Why a token is not good. The text is for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// It is longer than [`TOKEN_BYTES_MAX`].
    #[error("the token is longer than {TOKEN_BYTES_MAX} bytes")]
    TooLong,
    /// It breaks the grammar of the compact form, or of JSON.
    #[error("the token is malformed: {0}")]
    Malformed(&'static str),
    /// Its algorithm is not one that the issuer may use.
    #[error("the token is signed by an algorithm that is not allowed")]
    Algorithm,
    /// It lists extensions that must be understood.
    #[error("the token asks for extensions by `crit`")]
    Critical,
    /// No key of the issuer fits it.
    #[error("the token is signed by a key that the issuer does not have")]
    UnknownKey,
    /// Its signature is wrong.
    #[error("the signature of the token is wrong")]
    Signature,
    /// It is no token of the type that is asked for.
    #[error("the token has another `typ`")]
    Type,
    /// It comes from somebody else.
    #[error("the token is of another issuer")]
    Issuer,
    /// It is meant for somebody else.
    #[error("the token is for another audience")]
    Audience,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// Its time has not come.
    #[error("the token is not valid yet")]
    NotYet,
    /// A claim is missing that must be there.
    #[error("the token has no claim `{0}`")]
    Missing(String),
}

/// What a token must be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// The issuer, as `iss` has it.
    pub issuer: String,
    /// Audiences of which one must be in `aud`; `None` if anybody's tokens are taken.
    pub audiences: Option<Vec<String>>,
    /// The algorithms that may be.
    pub algorithms: Vec<Algorithm>,
    /// By how much clocks may differ.
    pub skew: Duration,
    /// Claims that must be there.
    pub required: Vec<String>,
    /// The type that it must have, without `application/`; without one it may have none, or be a `JWT` or an
    /// access token (`at+jwt`, RFC 9068).
    pub kind: Option<String>,
}

/// A token that was read, of which nothing is believed yet.
#[derive(Debug)]
pub struct Unverified<'a> {
    signed: &'a [u8],
    signature: Vec<u8>,
    algorithm: Option<Algorithm>,
    kid: Option<String>,
    kind: Option<String>,
    is_critical: bool,
    claims: Claims,
}

impl<'a> Unverified<'a> {
    /// Reads a token.
    ///
    /// # Errors
    /// [`TokenFault::TooLong`] and [`TokenFault::Malformed`].
    pub fn parse(token: &'a [u8]) -> Result<Self, TokenFault> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenFault::TooLong);
        }
        let mut parts = token.split(|byte| *byte == b'.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenFault::Malformed("it has not three parts"));
        };
        let header_object = object(header, "its header is no JSON object")?;
        let Some(Value::String(word)) = header_object.get("alg") else {
            return Err(TokenFault::Malformed("it names no algorithm"));
        };
        let kid = match header_object.get("kid") {
            None => None,
            Some(Value::String(kid)) if kid.len() <= KID_BYTES_MAX => Some(kid.clone()),
            Some(_) => return Err(TokenFault::Malformed("its `kid` is no short text")),
        };
        let kind = match header_object.get("typ") {
            None => None,
            Some(Value::String(kind)) => Some(kind.clone()),
            Some(_) => return Err(TokenFault::Malformed("its `typ` is no text")),
        };
        let claims = Claims::new(object(payload, "its claims are no JSON object")?)?;
        Ok(Self {
            signed: &token[..header.len() + 1 + payload.len()],
            signature: decode(signature, "its signature is not Base64")?,
            algorithm: Algorithm::of(word),
            kid,
            kind,
            is_critical: header_object.contains_key("crit"),
            claims,
        })
    }

    /// The issuer that it says it comes from.
    pub fn issuer(&self) -> Option<&str> {
        self.claims.text("iss")
    }

    /// Holds it to the keys of an issuer and to rules.
    ///
    /// # Errors
    /// Why it is not good.
    pub fn verify(
        self,
        keys: &KeySet,
        rules: &Rules,
        now: SystemTime,
    ) -> Result<Claims, TokenFault> {
        let algorithm = self.algorithm.filter(|algorithm| rules.algorithms.contains(algorithm));
        let algorithm = algorithm.ok_or(TokenFault::Algorithm)?;
        if self.is_critical {
            return Err(TokenFault::Critical);
        }
        let mut fitting = keys.fitting(algorithm, self.kid.as_deref()).take(TRIES_MAX).peekable();
        if fitting.peek().is_none() {
            return Err(TokenFault::UnknownKey);
        }
        if !fitting.any(|key| key.verifies(algorithm, self.signed, &self.signature)) {
            return Err(TokenFault::Signature);
        }
        // From here on it is what the issuer has said.
        self.check(rules, now)?;
        Ok(self.claims)
    }

    fn check(&self, rules: &Rules, now: SystemTime) -> Result<(), TokenFault> {
        let kind = self.kind.as_deref().map(|kind| {
            // RFC 7515 section 4.1.9: the prefix is left out where nothing else has a slash.
            let full = kind.get(.."application/".len());
            let prefixed = full.is_some_and(|full| full.eq_ignore_ascii_case("application/"));
            if prefixed { &kind["application/".len()..] } else { kind }
        });
        let fits = match (&rules.kind, kind) {
            (Some(asked), Some(kind)) => kind.eq_ignore_ascii_case(asked),
            (Some(_), None) => false,
            (None, None) => true,
            (None, Some(kind)) => {
                ["jwt", "at+jwt"].iter().any(|taken| kind.eq_ignore_ascii_case(taken))
            }
        };
        if !fits {
            return Err(TokenFault::Type);
        }
        if self.issuer() != Some(&rules.issuer) {
            return Err(TokenFault::Issuer);
        }
        if let Some(audiences) = &rules.audiences
            && !audiences.iter().any(|audience| self.claims.is_for(audience))
        {
            return Err(TokenFault::Audience);
        }
        if let Some(missing) = rules.required.iter().find(|name| self.claims.get(name).is_none()) {
            return Err(TokenFault::Missing(missing.clone()));
        }
        self.claims.is_time(now, rules.skew)
    }
}

fn decode(text: &[u8], fault: &'static str) -> Result<Vec<u8>, TokenFault> {
    let decoded = URL_SAFE_NO_PAD.decode(text).map_err(|_error| TokenFault::Malformed(fault))?;
    if decoded.is_empty() { Err(TokenFault::Malformed(fault)) } else { Ok(decoded) }
}

fn object(text: &[u8], fault: &'static str) -> Result<serde_json::Map<String, Value>, TokenFault> {
    match serde_json::from_slice(&decode(text, fault)?) {
        Ok(Value::Object(object)) => Ok(object),
        _ => Err(TokenFault::Malformed(fault)),
    }
}

#[cfg(test)]
mod tests;
