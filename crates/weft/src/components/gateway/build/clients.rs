//! OAuth clients: what the node is to authorization servers.

use std::{sync::Arc, time::Duration};

use weft_gateway::{
    oauth::{Client, ClientAuthentication, ClientKey},
    token_client::Options,
};
use weft_identity::token::SigningKey;
use weft_kernel::Name;

use super::{
    super::sections::{ClientWay, OAuthClient, SubjectType, TokenClientWay},
    issuers::{client, client_id, url},
};
use crate::config::{
    problem::Problem,
    setting::{At, Cx},
};

const RISK: &str =
    "whoever is on the way to this URL reads the secret of the client, and the tokens";

/// Those that can be built; what is wrong with the others was reported.
pub(super) fn build(said: &[(At<Name>, OAuthClient)], cx: &mut Cx) -> Vec<Options> {
    said.iter().filter_map(|(name, said)| client_of(name, said, cx)).collect()
}

fn client_of(name: &At<Name>, said: &OAuthClient, cx: &mut Cx) -> Option<Options> {
    // RFC 6749 section 3.3.
    let fits = |scope: &str| {
        let is_part = |byte| matches!(byte, b'!'..=b'~') && !b"\"\\".contains(&byte);
        !scope.is_empty() && scope.bytes().all(is_part)
    };
    if let Some(scope) = said.scopes.iter().find(|scope| !fits(scope.as_str())) {
        let say = "a scope is printable ASCII without spaces, quotes and backslashes";
        cx.report(Problem::error(scope.place, say).help("write several as a list"));
        return None;
    }
    if said.lifetime.0 < Duration::from_secs(1) {
        cx.report(Problem::error(said.lifetime.place, "a token is used for at least 1s"));
        return None;
    }
    let subject_type = match said.subject_token_type {
        SubjectType::AccessToken => "access_token",
        SubjectType::IdToken => "id_token",
        SubjectType::Jwt => "jwt",
    };
    Some(Options {
        name: name.value.clone(),
        url: url(&said.token_url, RISK, cx)?,
        ca_file: said.ca_file.as_ref().map(|file| file.value.0.clone()),
        client: shown(name, said, cx)?,
        scopes: said.scopes.iter().map(|scope| scope.value.clone()).collect(),
        audiences: said.audiences.to_vec(),
        resources: said.resources.to_vec(),
        subject_type: format!("urn:ietf:params:oauth:token-type:{subject_type}"),
        life: said.lifetime.0,
    })
}

/// What a server knows the node as.
fn shown(name: &At<Name>, said: &OAuthClient, cx: &mut Cx) -> Option<Client> {
    let way = match said.client_authentication {
        TokenClientWay::Basic => Some(ClientWay::Basic),
        TokenClientWay::Post => Some(ClientWay::Post),
        TokenClientWay::PrivateKeyJwt => None,
    };
    match (way, &said.client_secret, &said.client_key, &said.client_key_id) {
        (Some(way), Some(secret), None, None) => client(&said.client_id, secret, way, cx),
        (None, None, Some(key), id) => {
            key.discourage(cx);
            let made = SigningKey::of_pem(key.reveal().as_bytes());
            let made = made.map_err(|why| {
                cx.report(Problem::error(key.place, format!("this key cannot be used: {why}")));
            });
            let id = id.as_ref().map(|id| id.as_str().into());
            let key = Arc::new(ClientKey { key: made.ok()?, id });
            let authentication = ClientAuthentication::PrivateKey(key);
            Some(Client { id: client_id(&said.client_id, cx)?, secret: None, authentication })
        }
        (Some(_), ..) => {
            let say = "this client shows a secret: it needs `client_secret`, and no `client_key`";
            cx.report(
                Problem::error(name.place, say)
                    .help("`client_authentication: private_key_jwt` signs by a key"),
            );
            None
        }
        (None, ..) => {
            let say = "this client signs: it needs `client_key`, and no `client_secret`";
            cx.report(Problem::error(name.place, say));
            None
        }
    }
}
