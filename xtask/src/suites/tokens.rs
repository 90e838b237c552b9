//! Tokens that another library has made, with keys that Weft fetches.

use std::{fs, net::SocketAddr, process::Command};

use anyhow::{Result, bail};

use super::{amqp, front::accepts, script};
use crate::{
    build,
    need::{Need, PYTHON, Source},
    process::{Process, free_ports},
};

/// What makes them.
pub(super) const NEEDS: &[Need] = &[Need {
    name: "PyJWT",
    why: "tokens of another library",
    check: &[PYTHON, "-c", "import jwt, cryptography"],
    source: Source::Python(&["pyjwt[crypto]==2.15.1"]),
}];

/// The tokens against a Weft whose keys and service are in the script.
pub(super) fn weft() -> Result<String> {
    let binary = build::with_tests()?.join("weft");
    let folder = amqp::emptied("tokens")?;
    let [web, here] = free_ports(2)?[..] else { bail!("two free ports") };
    let config = folder.join("weft.yaml");
    fs::write(&config, configuration(web, here))?;
    let mut command = Command::new(binary);
    command.args(["up", "--config"]).arg(&config);
    let mut server = Process::start(command, &folder.join("log"))?;
    accepts(&mut server, "weft", web)?;
    let ports = [web, here].map(|address| address.port().to_string());
    script(PYTHON, "xtask/suites/tokens.py", &[&ports[0], &ports[1]])
}

fn configuration(web: SocketAddr, here: SocketAddr) -> String {
    format!(
        "admin: off
listeners: {{ web: {{ address: '{web}' }} }}
services: {{ it: {{ endpoints: '{here}' }} }}
issuers:
  id:
    issuer: https://id.example
    audiences: orders
    keys: http://{here}/keys
    algorithms: [RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA]
  shared:
    issuer: https://shared.example
    audiences: orders
    keys: {{ secret: 'a secret of sixty-four characters, as long as HS512 needs it.....' }}
    algorithms: [HS256, HS384, HS512]
routes:
  - name: all
    to: it
    authentication:
      any: {{ jwt: {{ issuers: [id, shared], claim_headers: {{ x-user: sub }} }} }}
"
    )
}
