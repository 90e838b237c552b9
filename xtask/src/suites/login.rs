//! Logins with a provider that others have written, by a browser that others have written.

use std::{fs, net::SocketAddr, path::Path, process::Command};

use anyhow::{Result, bail};

use super::{
    NODE, amqp,
    front::accepts,
    messages::{CHROMIUM, OPENSSL, PLAYWRIGHT, certificate},
    script,
};
use crate::{
    build,
    need::{Need, Source},
    process::{Process, free_ports},
};

pub(super) const PROVIDER: Need = Need {
    name: "oidc-provider",
    why: "a provider of OpenID Connect, and an authorization server",
    check: &["test", "-f", "target/node/node_modules/oidc-provider/package.json"],
    source: Source::Npm(&["oidc-provider@9.13.3"]),
};

/// The provider, and the browser.
pub(super) const NEEDS: &[Need] = &[NODE, PROVIDER, PLAYWRIGHT, CHROMIUM, OPENSSL];

/// The browser and the provider against a Weft whose service is in the script.
pub(super) fn weft() -> Result<String> {
    let binary = build::with_tests()?.join("weft");
    let folder = amqp::emptied("login")?;
    let [web, safe, service, provider] = free_ports(4)?[..] else { bail!("four free ports") };
    certificate(&folder)?;
    let config = folder.join("weft.yaml");
    fs::write(&config, configuration(&folder, [web, safe, service, provider]))?;
    let mut command = Command::new(binary);
    command.args(["up", "--config"]).arg(&config);
    let mut server = Process::start(command, &folder.join("log"))?;
    accepts(&mut server, "weft", web)?;
    let places = [web, safe, service, provider].map(|address| address.to_string());
    let arguments: Vec<&str> = places.iter().map(String::as_str).collect();
    script("node", "xtask/suites/login.cjs", &arguments)
}

fn configuration(folder: &Path, [web, safe, service, provider]: [SocketAddr; 4]) -> String {
    let folder = folder.display();
    format!(
        "admin: off
listeners:
  web: {{ address: '{web}' }}
  safe: {{ address: '{safe}', tls: {{ certificates: [{{ cert: '{folder}/own.crt', key: '{folder}/own.key' }}] }} }}
services: {{ shop: {{ endpoints: '{service}' }} }}
logins:
  shop:
    issuer: http://{provider}
    client_id: shop
    client_secret: a secret that both know
    scopes: []
    session_keys: a secret of thirty-two characters, or more
    login_path: /oauth2/login
    backchannel_path: /oauth2/ended
    post_logout: /bye
    forward_access_token: x-access-token
routes:
  - name: pages
    authentication: {{ any: {{ oidc: {{ login: shop, claim_headers: {{ x-user: sub }} }} }} }}
    to: shop
"
    )
}
