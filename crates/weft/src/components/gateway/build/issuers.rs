//! Issuers of tokens, and their keys.

use std::{collections::HashMap, sync::Arc};

use weft_identity::token::{Algorithm, KeySet, Rules};
use weft_kernel::Name;

use super::super::{
    plan,
    sections::{Issuer, Keys, Signing},
};
use crate::config::{
    leaf::Switch,
    problem::Problem,
    setting::{At, Cx},
    source::{Place, read_bounded},
};

/// The largest file of keys.
const FILE_BYTES_MAX: u64 = 512 * 1024;

/// Those that can be built; what is wrong with the others was reported.
pub(super) fn build(said: &[(At<Name>, Issuer)], cx: &mut Cx) -> Vec<plan::Issuer> {
    let mut first: HashMap<&str, Place> = HashMap::new();
    let mut built = Vec::with_capacity(said.len());
    for (name, issuer) in said {
        if let Some(first) = first.get(&*issuer.issuer.value) {
            let say = "another issuer has the same `issuer`: no token could tell them apart";
            let help = "name other audiences where the policy says `jwt`";
            let problem = Problem::error(issuer.issuer.place, say).and(*first, "first here");
            cx.report(problem.help(help));
            continue;
        }
        first.insert(&issuer.issuer.value, issuer.issuer.place);
        built.extend(issuer_of(name, issuer, cx));
    }
    built
}

fn issuer_of(name: &At<Name>, issuer: &Issuer, cx: &mut Cx) -> Option<plan::Issuer> {
    let by_secret = issuer.keys.secret.is_some();
    let algorithms: Vec<Algorithm> = match (&*issuer.algorithms, by_secret) {
        ([], true) => vec![Algorithm::Hs256],
        ([], false) => {
            vec![Algorithm::Rs256, Algorithm::Ps256, Algorithm::Es256, Algorithm::EdDsa]
        }
        (named, _) => named.iter().map(|one| algorithm(one.value)).collect(),
    };
    let by_url = issuer.keys.url.is_some();
    let misfit = issuer.algorithms.iter().find(|one| {
        let needs_secret = algorithm(one.value).secret_bytes_min() > 0;
        (needs_secret && by_url) || (!needs_secret && by_secret)
    });
    if let Some(misfit) = misfit {
        let say = match by_secret {
            true => "this algorithm takes no secret",
            false => "this algorithm takes a secret, which is nothing that a URL may tell",
        };
        cx.report(Problem::error(misfit.place, say));
        return None;
    }
    let keys = keys(&issuer.keys, &algorithms, cx)?;
    let rules = Rules {
        issuer: issuer.issuer.value.clone(),
        audiences: None,
        algorithms,
        skew: issuer.skew.0,
        required: issuer.require.to_vec(),
        kind: issuer.kind.clone(),
    };
    let audiences = match &issuer.audiences {
        Switch::On(audiences) => Some(audiences.to_vec()),
        Switch::Off => None,
    };
    let consumer_claim = issuer.consumer.clone();
    Some(plan::Issuer { name: name.value.clone(), rules, audiences, keys, consumer_claim })
}

fn keys(said: &Keys, algorithms: &[Algorithm], cx: &mut Cx) -> Option<plan::Keys> {
    let read = |place: Place, read: Result<KeySet, String>, cx: &mut Cx| match read {
        Ok(keys) => Some(plan::Keys::Fixed(Arc::new(keys))),
        Err(why) => {
            cx.report(Problem::error(place, format!("these keys cannot be used: {why}")));
            None
        }
    };
    match (&said.url, &said.file, &said.secret) {
        (Some(url), None, None) => {
            let parsed: Option<http::Uri> = url.parse().ok();
            let fits = parsed.as_ref().and_then(|url| Some((url.scheme_str()?, url.host()?)));
            let Some((scheme @ ("http" | "https"), host)) = fits else {
                cx.report(Problem::error(url.place, "expected a URL of `http` or `https`"));
                return None;
            };
            let is_local = ["localhost", "127.0.0.1", "[::1]"].contains(&host);
            if scheme == "http" && !is_local {
                let say = "whoever is on the way to this URL can put keys of their own there";
                cx.report(Problem::warning(url.place, say).help("use `https`"));
            }
            Some(plan::Keys::Url {
                url: url.value.clone(),
                ca_file: said.ca_file.as_ref().map(|file| file.value.0.clone()),
                cache: said.cache.0,
                stale: said.stale.0,
            })
        }
        (None, Some(file), None) => {
            let bytes = read_bounded(&file.0, FILE_BYTES_MAX);
            read(file.place, bytes.and_then(|bytes| KeySet::of_file(&bytes, algorithms)), cx)
        }
        (None, None, Some(secret)) => {
            secret.discourage(cx);
            let keys = KeySet::of_secret(secret.reveal().as_bytes(), algorithms);
            read(secret.place, keys, cx)
        }
        _ => {
            let say = "keys come from one of `url`, `file` and `secret`";
            cx.report(Problem::error(said.place, say));
            None
        }
    }
}

const fn algorithm(of: Signing) -> Algorithm {
    match of {
        Signing::Rs256 => Algorithm::Rs256,
        Signing::Rs384 => Algorithm::Rs384,
        Signing::Rs512 => Algorithm::Rs512,
        Signing::Ps256 => Algorithm::Ps256,
        Signing::Ps384 => Algorithm::Ps384,
        Signing::Ps512 => Algorithm::Ps512,
        Signing::Es256 => Algorithm::Es256,
        Signing::Es384 => Algorithm::Es384,
        Signing::Es512 => Algorithm::Es512,
        Signing::EdDsa => Algorithm::EdDsa,
        Signing::Hs256 => Algorithm::Hs256,
        Signing::Hs384 => Algorithm::Hs384,
        Signing::Hs512 => Algorithm::Hs512,
    }
}
