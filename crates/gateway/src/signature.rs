//! HTTP message signatures of requests (RFC 9421), and the digest of their content (RFC 9530).
//!
//! A client signs components of a request, such as its method, path and fields, by a key that leads to a consumer.
//! [`verify`] finds the one signature that is meant for here, holds it to the components that must be covered, to its time and to
//! its key. The algorithm is the key's: what a message says of it may only be the same. The body is covered by its
//! digest alone, so it is read, up to a bound, only once the signature over the digest was found good.
//!
//! Invariants: no I/O and no clock; nothing from outside makes it panic; work is bounded by [`FIELD_BYTES_MAX`] and
//! [`COMPONENTS_MAX`].
//!
//! Reading order: `base`, `content`, `nonces`, this file.

mod base;
mod content;
mod nonces;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use sfv::{BareItem, Dictionary, InnerList, ListEntry, Parser};
use weft_identity::token::{Algorithm, KeySet};
use weft_kernel::Name;

use self::{base::Covered, content::CONTENT_DIGEST};
pub use self::{
    base::{Message, is_component},
    content::Content,
    nonces::{Nonce, Nonces, Used},
};
use crate::credential::Digest;

/// The fields that carry signatures.
pub(crate) const SIGNATURE: &str = "signature";
/// What they cover.
pub(crate) const SIGNATURE_INPUT: &str = "signature-input";

/// The most bytes of each of the fields.
pub const FIELD_BYTES_MAX: usize = 8 * 1024;
/// The most components that a signature covers.
pub const COMPONENTS_MAX: usize = 64;
/// The longest nonce, in bytes.
const NONCE_BYTES_MAX: usize = 256;

/// Key by which a client signs.
#[derive(Clone, Debug)]
pub struct SignatureKey {
    /// Its name in the configuration.
    pub name: Name,
    /// Its id, as `keyid` of a signature has it.
    pub id: Box<str>,
    /// The consumer whose it is.
    pub consumer: Name,
    /// The only algorithm that it is used with.
    pub algorithm: Algorithm,
    /// The key itself.
    pub key: Arc<KeySet>,
}

/// Signatures as a method of authentication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The keys that are taken; all if none is named.
    pub keys: Vec<Name>,
    /// The label of the signature; any without one.
    pub label: Option<Box<str>>,
    /// The `tag` that a signature must have, which says what it is for.
    pub tag: Option<Box<str>>,
    /// The components that it must cover.
    pub components: Vec<Box<str>>,
    /// Whether it must cover `content-digest` where there is a body.
    pub content_digest: bool,
    /// The most bytes of a body whose digest is checked.
    pub body_bytes_max: usize,
    /// The age at which a signature is too old.
    pub age_max: Duration,
    /// By how much clocks may differ.
    pub skew: Duration,
    /// Whether a signature must have a nonce, and is taken once.
    pub nonce: bool,
}

impl Default for Signature {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            label: None,
            tag: None,
            components: ["@method", "@authority", "@path", "@query"].map(Into::into).into(),
            content_digest: true,
            body_bytes_max: 1 << 20,
            age_max: Duration::from_secs(300),
            skew: Duration::from_secs(60),
            nonce: false,
        }
    }
}

/// What a good signature comes to.
#[derive(Debug)]
pub struct Verified<'a> {
    /// The key that has signed.
    pub key: &'a SignatureKey,
    /// What the body must be, if that is covered.
    pub content: Option<Content>,
    /// What is to be remembered of it, if it may be shown once.
    pub nonce: Option<Nonce>,
}

/// Why a signature is not good, which is for the log alone.
pub type Fault = &'static str;

/// The signature of a request; `None` if it has none.
///
/// # Errors
/// Why it is not good.
pub fn verify<'a>(
    settings: &Signature,
    key: impl Fn(&str) -> Option<&'a SignatureKey>,
    message: &Message<'_>,
    wall: SystemTime,
) -> Result<Option<Verified<'a>>, Fault> {
    let fields = &message.head.fields;
    if fields.named(SIGNATURE_INPUT).is_none() && fields.named(SIGNATURE).is_none() {
        return Ok(None);
    }
    let inputs = dictionary(message, SIGNATURE_INPUT, "`Signature-Input` cannot be read")?;
    let signatures = dictionary(message, SIGNATURE, "`Signature` cannot be read")?;
    let mut fitting = None;
    let mut why = "no signature has the label that is asked for here";
    for (label, input) in &inputs {
        if settings.label.as_deref().is_some_and(|asked| asked != label.as_str()) {
            continue;
        }
        let ListEntry::InnerList(input) = input else {
            why = "a member of `Signature-Input` is no list of components";
            continue;
        };
        match of_known(settings, &key, input) {
            Ok(_) if fitting.is_some() => {
                return Err("there are several signatures for here; a tag tells them apart");
            }
            Ok(key) => fitting = Some((label, input, key)),
            Err(fault) => why = fault,
        }
    }
    let (label, input, key) = fitting.ok_or(why)?;
    let signature = match signatures.get(label) {
        Some(ListEntry::Item(item)) => item.bare_item.as_byte_sequence(),
        _ => None,
    };
    let signature = signature.ok_or("`Signature` has no bytes under the label of its input")?;
    let until = is_time(settings, input, wall)?;
    let covered = Covered::of(input)?;
    are_covered(settings, &covered, message)?;
    let base = covered.base(message)?;
    if !key.key.has_signed(key.algorithm, &base, signature) {
        return Err("the signature is wrong");
    }
    let content = match covered.has(CONTENT_DIGEST) {
        true => Some(Content::of(message)?),
        false => None,
    };
    let nonce = match settings.nonce {
        true => Some(nonce(key, input, until)?),
        false => None,
    };
    Ok(Some(Verified { key, content, nonce }))
}

/// A field that is a dictionary.
fn dictionary(message: &Message<'_>, name: &str, fault: Fault) -> Result<Dictionary, Fault> {
    let text = message.field(name).unwrap_or_default();
    if text.len() > FIELD_BYTES_MAX {
        return Err("the fields of signatures are longer than 8 KiB");
    }
    Parser::new(&text).parse().map_err(|_error| fault)
}

/// The key of a signature, if it is one that is meant for here.
fn of_known<'a>(
    settings: &Signature,
    key: &impl Fn(&str) -> Option<&'a SignatureKey>,
    input: &InnerList,
) -> Result<&'a SignatureKey, Fault> {
    if settings.tag.is_some() && text(input, "tag") != settings.tag.as_deref() {
        return Err("no signature has the `tag` that is asked for here");
    }
    let id = text(input, "keyid").ok_or("the signature names no key")?;
    let key = key(id).filter(|key| settings.keys.is_empty() || settings.keys.contains(&key.name));
    let key = key.ok_or("the signature is by a key that is not known here")?;
    match input.params.get("alg") {
        // The key says which algorithm it is for (RFC 9421 section 3.2.1); a message may only agree.
        Some(said) if said.as_string().map(|said| said.as_str()) != Some(word(key.algorithm)) => {
            Err("the signature names another algorithm than that of its key")
        }
        _ => Ok(key),
    }
}

fn text<'a>(input: &'a InnerList, name: &str) -> Option<&'a str> {
    input.params.get(name).and_then(BareItem::as_string).map(|text| text.as_str())
}

/// Whether it is its time; the second at which that ends.
fn is_time(settings: &Signature, input: &InnerList, wall: SystemTime) -> Result<i64, Fault> {
    let second = |name: &str| match input.params.get(name) {
        None => Ok(None),
        Some(at) => match at.as_integer() {
            Some(at) => Ok(Some(i64::from(at))),
            None => Err("a time of the signature is no whole number"),
        },
    };
    let now = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let seconds = |span: Duration| i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
    let skew = seconds(settings.skew);
    let created = second("created")?.ok_or("the signature does not say when it was made")?;
    if created > now.saturating_add(skew) {
        return Err("the signature was made in the future");
    }
    let mut until = created.saturating_add(seconds(settings.age_max)).saturating_add(skew);
    if until < now {
        return Err("the signature is too old");
    }
    if let Some(expires) = second("expires")? {
        let expires = expires.saturating_add(skew);
        if expires < now {
            return Err("the signature has expired");
        }
        until = until.min(expires);
    }
    Ok(until)
}

/// Whether everything is covered that must be.
fn are_covered(
    settings: &Signature,
    covered: &Covered,
    message: &Message<'_>,
) -> Result<(), Fault> {
    let whole = covered.has("@target-uri");
    let request = covered.has("@request-target");
    let query = message.head.query().is_some();
    for component in &settings.components {
        let is_covered = match &**component {
            "@authority" | "@scheme" => whole || covered.has(component),
            "@path" | "@request-target" => whole || request || covered.has(component),
            // What is not there cannot be covered, and what is added to a request is.
            "@query" => !query || whole || request || covered.has(component),
            component => covered.has(component),
        };
        if !is_covered {
            return Err("the signature does not cover what it must");
        }
    }
    if settings.content_digest && message.has_body && !covered.has(CONTENT_DIGEST) {
        return Err("the signature does not cover the digest of the body");
    }
    Ok(())
}

fn nonce(key: &SignatureKey, input: &InnerList, until: i64) -> Result<Nonce, Fault> {
    let nonce = text(input, "nonce").ok_or("the signature has no nonce")?;
    if nonce.is_empty() || nonce.len() > NONCE_BYTES_MAX {
        return Err("the nonce of the signature is empty or too long");
    }
    Ok(Nonce { key: key.name.clone(), digest: Digest::of_nonce(key.name.as_str(), nonce), until })
}

/// The word of an algorithm (RFC 9421 section 6.2.2).
const fn word(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Ps512 => "rsa-pss-sha512",
        Algorithm::Rs256 => "rsa-v1_5-sha256",
        Algorithm::Hs256 => "hmac-sha256",
        Algorithm::Es256 => "ecdsa-p256-sha256",
        Algorithm::Es384 => "ecdsa-p384-sha384",
        Algorithm::EdDsa => "ed25519",
        // These have no word here, and so no key is for them.
        _ => "",
    }
}

#[cfg(test)]
mod tests;
