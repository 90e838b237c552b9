//! Issuers of tokens, and their keys.

use std::{collections::HashMap, sync::Arc};

use weft_gateway::{
    introspection,
    oauth::{Client, ClientAuthentication},
};
use weft_identity::token::{Algorithm, KeySet, Rules};
use weft_kernel::Name;

use super::super::{
    plan,
    sections::{ClientWay, Issuer, Keys, Signing},
};
use crate::config::{
    leaf::{Secret, Switch},
    problem::Problem,
    setting::{At, Cx},
    source::{Place, read_bounded},
};

/// The largest file of keys.
pub(super) const FILE_BYTES_MAX: u64 = 512 * 1024;

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
    let by = |has: fn(&Keys) -> bool| issuer.keys.as_ref().is_some_and(has);
    let by_secret = by(|keys| keys.secret.is_some());
    let algorithms: Vec<Algorithm> = match (&*issuer.algorithms, by_secret) {
        ([], true) => vec![Algorithm::Hs256],
        ([], false) => {
            vec![Algorithm::Rs256, Algorithm::Ps256, Algorithm::Es256, Algorithm::EdDsa]
        }
        (named, _) => named.iter().map(|one| algorithm(one.value)).collect(),
    };
    let by_url = by(|keys| keys.url.is_some());
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
    let keys = match &issuer.keys {
        Some(said) => Some(keys(said, &algorithms, cx)?),
        None => None,
    };
    let introspection = match &issuer.introspection {
        Some(said) => Some(introspection::Options {
            issuer: name.value.clone(),
            url: url(&said.url, INTROSPECTED, cx)?,
            ca_file: said.ca_file.as_ref().map(|file| file.value.0.clone()),
            client: client(&said.client_id, &said.client_secret, said.client_authentication, cx)?,
            cache: said.cache.0,
            refused: said.cache_inactive.0,
        }),
        None => None,
    };
    if keys.is_none() && introspection.is_none() {
        let say = "nothing tells whether a token of this issuer is good";
        let help = "name its `keys`, or its `introspection` endpoint";
        cx.report(Problem::error(name.place, say).help(help));
        return None;
    }
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
    Some(plan::Issuer {
        name: name.value.clone(),
        rules,
        audiences,
        keys,
        introspection,
        consumer_claim,
        consumers: issuer.consumers.to_vec(),
    })
}

const INTROSPECTED: &str = "whoever is on the way to this URL reads tokens, and can call them good";
const OF_KEYS: &str = "whoever is on the way to this URL can put keys of their own there";

/// A URL of an issuer or a token endpoint; `risk` is told of one without TLS.
pub(super) fn url(said: &At<String>, risk: &str, cx: &mut Cx) -> Option<String> {
    let parsed: Option<http::Uri> = said.parse().ok();
    let fits = parsed.as_ref().and_then(|url| Some((url.scheme_str()?, url.host()?)));
    let Some((scheme @ ("http" | "https"), host)) = fits else {
        cx.report(Problem::error(said.place, "expected a URL of `http` or `https`"));
        return None;
    };
    let is_local = ["localhost", "127.0.0.1", "[::1]"].contains(&host);
    if scheme == "http" && !is_local {
        cx.report(Problem::warning(said.place, risk).help("use `https`"));
    }
    Some(said.value.clone())
}

/// What an issuer knows the node as.
pub(super) fn client(
    id: &At<String>,
    secret: &At<Secret>,
    way: ClientWay,
    cx: &mut Cx,
) -> Option<Client> {
    let id = client_id(id, cx)?;
    secret.discourage(cx);
    let authentication = match way {
        ClientWay::Basic => ClientAuthentication::Basic,
        ClientWay::Post => ClientAuthentication::Post,
    };
    Some(Client { id, secret: Some(secret.reveal().into()), authentication })
}

/// The id of a client.
pub(super) fn client_id(id: &At<String>, cx: &mut Cx) -> Option<Box<str>> {
    if id.is_empty() {
        cx.report(Problem::error(id.place, "a client has an id"));
        return None;
    }
    Some(id.as_str().into())
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
        (Some(said_url), None, None) => {
            let url = url(said_url, OF_KEYS, cx)?;
            Some(plan::Keys::Url {
                url,
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

pub(super) const fn algorithm(of: Signing) -> Algorithm {
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
