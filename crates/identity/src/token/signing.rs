//! Keys by which the node signs tokens of its own, such as those by which it shows a server who it is (RFC 7523).
//!
//! The algorithm is the one that servers expect of a key of that kind: RS256 of RSA, ES256, ES384 or ES512 of a curve
//! of NIST, EdDSA of Ed25519.

use std::fmt;

use aws_lc_rs::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
        ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256,
        RsaKeyPair,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject as _};
use serde_json::{Map, Value, json};

use super::Algorithm;

/// Private key, with the algorithm that it signs by. It never shows itself.
pub struct SigningKey {
    algorithm: Algorithm,
    pair: Pair,
    /// By which two of them are told apart.
    digest: [u8; 32],
}

enum Pair {
    Rsa(Box<RsaKeyPair>),
    Curve(Box<EcdsaKeyPair>),
    Ed25519(Box<Ed25519KeyPair>),
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

impl PartialEq for SigningKey {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for SigningKey {}

impl SigningKey {
    /// Of PEM: PKCS #8, or the older forms of RSA and of curves.
    ///
    /// # Errors
    /// What is wrong with it; the text shows nothing of it.
    pub fn of_pem(pem: &[u8]) -> Result<Self, String> {
        let key = PrivateKeyDer::from_pem_slice(pem)
            .map_err(|_error| "a private key in PEM, without a password, is expected here")?;
        let der = key.secret_der();
        let (algorithm, pair) = pair(&key).ok_or(
            "it is no key of RSA (2048 to 8192 bits), of P-256, P-384 or P-521, or of Ed25519",
        )?;
        let mut of = [0; 32];
        of.copy_from_slice(digest(&SHA256, der).as_ref());
        let made = Self { algorithm, pair, digest: of };
        made.signature(b"").ok_or("it does not sign")?;
        Ok(made)
    }

    /// The algorithm that it signs by.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// A token of claims, which names the key by `kid` if there is one; `None` if the library does not sign.
    pub fn sign(&self, kid: Option<&str>, claims: &Map<String, Value>) -> Option<String> {
        let mut header = json!({ "alg": self.algorithm.word(), "typ": "JWT" });
        if let Some(kid) = kid {
            header["kid"] = kid.into();
        }
        let part = |of: &[u8]| URL_SAFE_NO_PAD.encode(of);
        let claims = serde_json::to_vec(claims).ok()?;
        let mut token = format!("{}.{}", part(header.to_string().as_bytes()), part(&claims));
        let signature = self.signature(token.as_bytes())?;
        token.push('.');
        token.push_str(&part(&signature));
        Some(token)
    }

    fn signature(&self, of: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, of, &mut signature).ok()?;
                Some(signature)
            }
            Pair::Curve(pair) => Some(pair.sign(&random, of).ok()?.as_ref().to_vec()),
            Pair::Ed25519(pair) => Some(pair.sign(of).as_ref().to_vec()),
        }
    }
}

fn pair(key: &PrivateKeyDer<'_>) -> Option<(Algorithm, Pair)> {
    let der = key.secret_der();
    let rsa = match key {
        PrivateKeyDer::Pkcs1(_) => RsaKeyPair::from_der(der),
        _ => RsaKeyPair::from_pkcs8(der),
    };
    if let Ok(pair) = rsa {
        return Some((Algorithm::Rs256, Pair::Rsa(Box::new(pair))));
    }
    if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
        return Some((Algorithm::EdDsa, Pair::Ed25519(Box::new(pair))));
    }
    let curves = [
        (Algorithm::Es256, &ECDSA_P256_SHA256_FIXED_SIGNING),
        (Algorithm::Es384, &ECDSA_P384_SHA384_FIXED_SIGNING),
        (Algorithm::Es512, &ECDSA_P521_SHA512_FIXED_SIGNING),
    ];
    curves.into_iter().find_map(|(algorithm, how)| {
        let pair = EcdsaKeyPair::from_private_key_der(how, der).ok()?;
        Some((algorithm, Pair::Curve(Box::new(pair))))
    })
}

#[cfg(test)]
mod tests;
