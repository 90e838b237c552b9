//! Opaque tokens of an authorization server that others have written: what Weft asks it about, and what it is given.

use std::{fs, net::SocketAddr, path::Path, process::Command};

use anyhow::{Result, bail};

use super::{NODE, amqp, front::accepts, login, messages::OPENSSL, script};
use crate::{
    build,
    need::Need,
    process::{Process, free_ports},
    shell,
};

/// The authorization server.
pub(super) const NEEDS: &[Need] = &[NODE, login::PROVIDER, OPENSSL];

/// The name of each key by which Weft signs, and how openssl makes it.
const KEYS: &[(&str, &str)] = &[
    ("rsa", "-algorithm RSA -pkeyopt rsa_keygen_bits:2048"),
    ("p256", "-algorithm EC -pkeyopt ec_paramgen_curve:P-256"),
    ("p384", "-algorithm EC -pkeyopt ec_paramgen_curve:P-384"),
    ("ed25519", "-algorithm ed25519"),
];

/// Both ways in which Weft shows who it is, against servers that take the one or the other.
pub(super) fn weft() -> Result<String> {
    let binary = build::with_tests()?.join("weft");
    let folder = amqp::emptied("introspection")?;
    let [web, service, basic, post] = free_ports(4)?[..] else { bail!("four free ports") };
    keys(&folder)?;
    let config = folder.join("weft.yaml");
    fs::write(&config, configuration([web, service, basic, post]))?;
    let mut command = Command::new(binary);
    command.args(["up", "--config"]).arg(&config);
    let mut server = Process::start(command, &folder.join("log"))?;
    accepts(&mut server, "weft", web)?;
    let places = [web, service, basic, post].map(|address| address.to_string());
    let folder = folder.display().to_string();
    let arguments: Vec<&str> = places.iter().chain([&folder]).map(String::as_str).collect();
    script("node", "xtask/suites/introspection.cjs", &arguments)
}

fn keys(folder: &Path) -> Result<()> {
    for (name, how) in KEYS {
        let file = |end: &str| folder.join(format!("{name}.{end}")).display().to_string();
        let (key, public) = (file("key"), file("pem"));
        shell::command("openssl", ["genpkey", "-out", &key].into_iter().chain(how.split(' ')))
            .run()?;
        shell::command("openssl", ["pkey", "-in", &key, "-pubout", "-out", &public]).run()?;
    }
    Ok(())
}

/// What the servers know Weft as.
const CLIENT: &str =
    "client_id: 'weft: & co', client_secret: 'a secret: 100% of/+&= that both know, or not'";

fn configuration([web, service, basic, post]: [SocketAddr; 4]) -> String {
    let mut issuers = String::new();
    let mut clients = String::new();
    let mut routes = String::new();
    let stranger = "client_id: 'weft: & co', client_secret: a secret that nobody knows";
    for (name, server, issuer, client) in [
        ("basic", basic, format!("http://{basic}"), CLIENT),
        ("post", post, format!("http://{post}"), CLIENT),
        ("stranger", basic, "http://stranger.example".to_owned(), stranger),
    ] {
        let way = if name == "post" { "post" } else { "basic" };
        let client = format!("{client}, client_authentication: {way}");
        issuers += &format!(
            "  {name}:
    issuer: {issuer}
    audiences: 'urn:orders'
    consumer: client_id
    introspection: {{ url: 'http://{server}/token/introspection', {client}, cache: 4s, cache_inactive: 1s }}
"
        );
        let token = format!("token_url: 'http://{server}/token', {client}");
        clients += &format!(
            "  own-{name}: {{ {token}, scopes: [read, write], resources: 'urn:orders' }}
  for-{name}: {{ {token}, scopes: read, audiences: 'urn:billing' }}
"
        );
        let claims = "{ x-client: client_id, x-scope: scope, x-sub: sub }";
        routes += &format!(
            "  - {{ name: {name}, match: /{name}/*, authentication: {{ any: {{ introspection: {{ issuer: {name}, claim_headers: {claims} }} }} }}, to: it }}
  - {{ name: {name}-write, match: /{name}-write/*, authentication: {{ any: {{ introspection: {{ issuer: {name}, scopes: write }} }} }}, to: it }}
  - {{ name: own-{name}, match: /own-{name}/*, service_credentials: {{ client_credentials: own-{name} }}, to: it }}
  - {{ name: exchanged-{name}, match: /exchanged-{name}/*, service_credentials: {{ token_exchange: for-{name} }}, to: it }}
"
        );
    }
    let signing = KEYS.iter().map(|(name, _)| (format!("key-{name}"), *name));
    // The key of another client.
    for (id, key) in signing.chain([("key-stranger".to_owned(), "p256")]) {
        let of = if id == "key-stranger" { "key-rsa" } else { &id };
        let client = format!(
            "client_id: {of}, client_authentication: private_key_jwt, client_key: 'file:{key}.key', client_key_id: {key}-1"
        );
        let token = format!("token_url: 'http://{basic}/token', {client}");
        clients += &format!(
            "  own-{id}: {{ {token}, scopes: [read, write], resources: 'urn:orders' }}
  for-{id}: {{ {token}, scopes: read, audiences: 'urn:billing' }}
"
        );
        routes += &format!(
            "  - {{ name: own-{id}, match: /own-{id}/*, service_credentials: {{ client_credentials: own-{id} }}, to: it }}
  - {{ name: exchanged-{id}, match: /exchanged-{id}/*, service_credentials: {{ token_exchange: for-{id} }}, to: it }}
"
        );
    }
    format!(
        "admin: off
listeners: {{ web: {{ address: '{web}' }} }}
services: {{ it: {{ endpoints: '{service}' }} }}
consumers: {{ shop: {{}}, brief: {{}} }}
issuers:
{issuers}oauth_clients:
{clients}routes:
{routes}"
    )
}
