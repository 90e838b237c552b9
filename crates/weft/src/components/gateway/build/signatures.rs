//! Keys by which clients sign requests.

use std::{collections::HashMap, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use weft_gateway::SignatureKey;
use weft_identity::token::{Algorithm, KeySet};
use weft_kernel::Name;

use super::{
    super::sections::{self, SignatureAlgorithm},
    issuers::FILE_BYTES_MAX,
};
use crate::config::{
    merge::NameSet,
    problem::Problem,
    setting::{At, Cx},
    source::{Place, read_bounded},
};

/// Those that can be built, by their ids; what is wrong with the others was reported.
pub(super) fn build(
    said: &[(At<Name>, sections::SignatureKey)],
    consumers: &NameSet,
    cx: &mut Cx,
) -> HashMap<Box<str>, SignatureKey> {
    let mut first: HashMap<&str, Place> = HashMap::new();
    let mut built = HashMap::new();
    for (name, key) in said {
        let (id, place) = match &key.id {
            Some(id) => (&*id.value, id.place),
            None => (name.as_str(), name.place),
        };
        if let Some(first) = first.get(id) {
            let say = format!("another key has the id `{id}`: no signature could tell them apart");
            cx.report(Problem::error(place, say).and(*first, "first here"));
            continue;
        }
        first.insert(id, place);
        consumers.require("consumer", key.consumer.as_str(), key.consumer.place, cx);
        let Some(set) = key_of(name, key, cx) else { continue };
        built.insert(
            id.into(),
            SignatureKey {
                name: name.value.clone(),
                id: id.into(),
                consumer: key.consumer.value.clone(),
                algorithm: algorithm(key.algorithm),
                key: Arc::new(set),
            },
        );
    }
    built
}

fn key_of(name: &At<Name>, key: &sections::SignatureKey, cx: &mut Cx) -> Option<KeySet> {
    let algorithm = algorithm(key.algorithm);
    let is_secret = algorithm.secret_bytes_min() > 0;
    let (place, read) = match (&key.public_key, &key.secret) {
        (Some(file), None) if !is_secret => {
            let bytes = read_bounded(&file.0, FILE_BYTES_MAX);
            (file.place, bytes.and_then(|bytes| KeySet::of_file(&bytes, &[algorithm])))
        }
        (None, Some(secret)) if is_secret => {
            secret.discourage(cx);
            let bytes = match key.base64 {
                true => STANDARD
                    .decode(secret.reveal().trim())
                    .map_err(|_error| "it is not Base64".to_owned()),
                false => Ok(secret.reveal().as_bytes().to_vec()),
            };
            (secret.place, bytes.and_then(|bytes| KeySet::of_secret(&bytes, &[algorithm])))
        }
        _ => {
            let say = match is_secret {
                true => "a key for `hmac-sha256` has a `secret`, and no `public_key`",
                false => "a key for this algorithm has a `public_key`, and no `secret`",
            };
            cx.report(Problem::error(name.place, say));
            return None;
        }
    };
    read.map_err(|why| {
        cx.report(Problem::error(place, format!("this key cannot be used: {why}")));
    })
    .ok()
}

const fn algorithm(of: SignatureAlgorithm) -> Algorithm {
    match of {
        SignatureAlgorithm::RsaPssSha512 => Algorithm::Ps512,
        SignatureAlgorithm::RsaV15Sha256 => Algorithm::Rs256,
        SignatureAlgorithm::HmacSha256 => Algorithm::Hs256,
        SignatureAlgorithm::EcdsaP256Sha256 => Algorithm::Es256,
        SignatureAlgorithm::EcdsaP384Sha384 => Algorithm::Es384,
        SignatureAlgorithm::Ed25519 => Algorithm::EdDsa,
    }
}
