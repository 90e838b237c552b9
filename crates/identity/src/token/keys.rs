//! Keys of an issuer: a JWK set (RFC 7517), PEM, or a secret.
//!
//! A key is made for each algorithm that it fits and that the issuer may use, and is checked in making. A set
//! by others may hold keys that are not understood; those are passed over (RFC 7517 section 5).

use std::fmt;

use aws_lc_rs::{
    hmac,
    signature::{ParsedPublicKey, RsaPublicKeyComponents},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls_pki_types::{
    CertificateDer, SubjectPublicKeyInfoDer,
    pem::{PemObject as _, SectionKind},
};
use serde_json::Value;
use x509_parser::parse_x509_certificate;

use super::{
    TRIES_MAX,
    algorithm::{Algorithm, How, KeyKind},
};

/// The most keys of a set.
pub const KEYS_MAX: usize = 100;

/// A key, for the algorithms that it fits.
pub(super) struct Key {
    pub(super) kid: Option<String>,
    forms: Vec<(Algorithm, Form)>,
}

enum Form {
    Secret(Box<hmac::Key>),
    Public(ParsedPublicKey),
}

impl Key {
    fn form(&self, algorithm: Algorithm) -> Option<&Form> {
        self.forms.iter().find(|(of, _)| *of == algorithm).map(|(_, form)| form)
    }

    /// Whether it has signed something.
    pub(super) fn verifies(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        match self.form(algorithm) {
            Some(Form::Secret(key)) => hmac::verify(key, signed, signature).is_ok(),
            Some(Form::Public(key)) => key.verify_sig(signed, signature).is_ok(),
            None => false,
        }
    }
}

/// The keys of an issuer.
#[derive(Default)]
pub struct KeySet(Vec<Key>);

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| &key.kid)).finish()
    }
}

impl KeySet {
    /// Of a file: a JWK set, a JWK, or PEM.
    ///
    /// # Errors
    /// What is wrong with it; also that no key in it fits an algorithm.
    pub fn of_file(bytes: &[u8], algorithms: &[Algorithm]) -> Result<Self, String> {
        if bytes.trim_ascii_start().first() == Some(&b'{') {
            return Self::of_jwks(bytes, algorithms, true);
        }
        let mut keys = Vec::new();
        let sections = <(SectionKind, Vec<u8>)>::pem_slice_iter(bytes);
        for section in sections {
            let (kind, der) = section.map_err(|error| format!("this is no PEM: {error}"))?;
            let spki = match kind {
                SectionKind::PublicKey => SubjectPublicKeyInfoDer::from(der),
                SectionKind::Certificate => {
                    let certificate = CertificateDer::from(der);
                    let (_, parsed) = parse_x509_certificate(&certificate)
                        .map_err(|error| format!("a certificate cannot be read: {error}"))?;
                    SubjectPublicKeyInfoDer::from(parsed.public_key().raw.to_vec())
                }
                _ => return Err("a public key is expected here, or a certificate".into()),
            };
            let forms = forms(algorithms, |algorithm| {
                let how = algorithm.how().public()?;
                ParsedPublicKey::new(how, &spki[..]).ok().map(Form::Public)
            });
            keys.push(Key { kid: None, forms });
        }
        Self::of(keys)
    }

    /// Of a JWK set, or of one JWK, which may hold secrets if nobody else can have seen it.
    ///
    /// # Errors
    /// As [`of_file`](Self::of_file).
    pub fn of_jwks(
        bytes: &[u8],
        algorithms: &[Algorithm],
        with_secrets: bool,
    ) -> Result<Self, String> {
        let set: Value =
            serde_json::from_slice(bytes).map_err(|error| format!("this is no JSON: {error}"))?;
        let listed = match (set.get("keys").and_then(Value::as_array), set.get("kty")) {
            (Some(listed), _) => &listed[..],
            (None, Some(_)) => std::slice::from_ref(&set),
            (None, None) => return Err("this is no JWK set: it has no list `keys`".into()),
        };
        if listed.len() > KEYS_MAX {
            return Err(format!("there are more than {KEYS_MAX} keys"));
        }
        Self::of(listed.iter().filter_map(|jwk| key_of(jwk, algorithms, with_secrets)).collect())
    }

    /// Of a secret.
    ///
    /// # Errors
    /// That it is shorter than an algorithm needs, or that none takes a secret.
    pub fn of_secret(secret: &[u8], algorithms: &[Algorithm]) -> Result<Self, String> {
        let of = |algorithm: &Algorithm| algorithm.secret_bytes_min();
        let needs = algorithms.iter().map(of).max().unwrap_or_default();
        if secret.len() < needs {
            return Err(format!("a secret needs {needs} bytes here (RFC 7518 section 3.2)"));
        }
        Self::of(vec![Key { kid: None, forms: secret_forms(secret, algorithms) }])
    }

    /// Whether one of them has signed something by an algorithm.
    pub fn has_signed(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        let mut keys = self.fitting(algorithm, None).take(TRIES_MAX);
        keys.any(|key| key.verifies(algorithm, signed, signature))
    }

    fn of(mut keys: Vec<Key>) -> Result<Self, String> {
        keys.retain(|key| !key.forms.is_empty());
        if keys.is_empty() {
            return Err("there is no key for any of the algorithms that are allowed".into());
        }
        Ok(Self(keys))
    }

    /// The keys that a signature may be held to: those of the name, if it names one, and those without one.
    pub(super) fn fitting<'a>(
        &'a self,
        algorithm: Algorithm,
        kid: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Key> {
        let named = move |key: &&Key| match (kid, key.kid.as_deref()) {
            (Some(asked), Some(has)) => asked == has,
            _ => true,
        };
        self.0.iter().filter(named).filter(move |key| key.form(algorithm).is_some())
    }
}

fn forms(
    algorithms: &[Algorithm],
    form: impl Fn(Algorithm) -> Option<Form>,
) -> Vec<(Algorithm, Form)> {
    algorithms.iter().filter_map(|of| form(*of).map(|form| (*of, form))).collect()
}

fn secret_forms(secret: &[u8], algorithms: &[Algorithm]) -> Vec<(Algorithm, Form)> {
    forms(algorithms, |algorithm| match algorithm.how() {
        How::Hmac(how) if secret.len() >= algorithm.secret_bytes_min() => {
            Some(Form::Secret(Box::new(hmac::Key::new(how, secret))))
        }
        _ => None,
    })
}

/// A key of a set; `None` if it is not for signatures, or not understood.
fn key_of(jwk: &Value, algorithms: &[Algorithm], with_secrets: bool) -> Option<Key> {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    let bytes = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok();
    if jwk.get("use").is_some_and(|of| of != "sig") {
        return None;
    }
    let operations = jwk.get("key_ops").and_then(Value::as_array);
    if operations.is_some_and(|of| !of.iter().any(|one| one == "verify")) {
        return None;
    }
    let own = jwk.get("alg");
    let fits = |algorithm: &&Algorithm| own.is_none_or(|own| own == algorithm.word());
    let algorithms: Vec<Algorithm> = algorithms.iter().filter(fits).copied().collect();
    let forms = match text("kty")? {
        "oct" if with_secrets => secret_forms(&bytes("k")?, &algorithms),
        "RSA" => {
            let components = RsaPublicKeyComponents { n: bytes("n")?, e: bytes("e")? };
            forms(&algorithms, |algorithm| match algorithm.how() {
                How::Rsa(how) => components.to_parsed_public_key(how).ok().map(Form::Public),
                _ => None,
            })
        }
        "EC" => {
            let (curve, x, y) = (text("crv")?, bytes("x")?, bytes("y")?);
            let point = [&[4], &x[..], &y].concat();
            forms(&algorithms, |algorithm| match (algorithm.kind(), algorithm.how()) {
                (KeyKind::Curve(of, length), How::Curve(how))
                    if of == curve && x.len() == length && y.len() == length =>
                {
                    ParsedPublicKey::new(how, &point).ok().map(Form::Public)
                }
                _ => None,
            })
        }
        "OKP" if text("crv")? == "Ed25519" => {
            let x = bytes("x")?;
            forms(&algorithms, |algorithm| match (algorithm.how(), algorithm.how().public()) {
                (How::Ed25519, Some(how)) if x.len() == 32 => {
                    ParsedPublicKey::new(how, &x).ok().map(Form::Public)
                }
                _ => None,
            })
        }
        _ => return None,
    };
    Some(Key { kid: text("kid").map(ToOwned::to_owned), forms })
}
