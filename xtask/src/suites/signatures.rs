//! Requests that other libraries have signed (RFC 9421).

use std::{fs, net::SocketAddr, path::Path, process::Command};

use anyhow::{Result, bail};

use super::{NODE, amqp, front::accepts, messages::OPENSSL, script};
use crate::{
    build,
    need::{Need, PYTHON, Source},
    process::{Process, free_ports},
    shell,
};

/// What signs.
pub(super) const NEEDS: &[Need] = &[
    Need {
        name: "http-message-signatures of PyPI",
        why: "requests that another library has signed",
        check: &[PYTHON, "-c", "import http_message_signatures.digests"],
        source: Source::Python(&["http-message-signatures==3.0.0"]),
    },
    Need {
        name: "http-message-signatures of npm",
        why: "requests that another library has signed",
        check: &["node", "-e", "require('./target/node/node_modules/http-message-signatures')"],
        source: Source::Npm(&["http-message-signatures@1.0.6"]),
    },
    NODE,
    OPENSSL,
];

/// The name of each key, and how openssl makes it.
const KEYS: &[(&str, &str, &str)] = &[
    ("ed25519", "ed25519", "-algorithm ed25519"),
    ("p256", "ecdsa-p256-sha256", "-algorithm EC -pkeyopt ec_paramgen_curve:P-256"),
    ("p384", "ecdsa-p384-sha384", "-algorithm EC -pkeyopt ec_paramgen_curve:P-384"),
    ("pss", "rsa-pss-sha512", "-algorithm RSA -pkeyopt rsa_keygen_bits:2048"),
    ("v15", "rsa-v1_5-sha256", "-algorithm RSA -pkeyopt rsa_keygen_bits:2048"),
];
const SECRET: &str = "a secret of thirty-two characters, or more";

/// The clients against a Weft whose service is in the script.
pub(super) fn weft() -> Result<String> {
    let binary = build::with_tests()?.join("weft");
    let folder = amqp::emptied("signatures")?;
    keys(&folder)?;
    let [web, here] = free_ports(2)?[..] else { bail!("two free ports") };
    let config = folder.join("weft.yaml");
    fs::write(&config, configuration(web, here))?;
    let mut command = Command::new(binary);
    command.args(["up", "--config"]).arg(&config);
    let mut server = Process::start(command, &folder.join("log"))?;
    accepts(&mut server, "weft", web)?;
    let ports = [web, here].map(|address| address.port().to_string());
    let folder = folder.display().to_string();
    script(PYTHON, "xtask/suites/signatures.py", &[&ports[0], &ports[1], &folder])
}

fn keys(folder: &Path) -> Result<()> {
    fs::write(folder.join("secret"), SECRET)?;
    for (name, _, how) in KEYS {
        let file = |end: &str| folder.join(format!("{name}.{end}")).display().to_string();
        let (key, public) = (file("key"), file("pem"));
        let drawn = ["genpkey", "-out", &key].into_iter().chain(how.split(' '));
        shell::command("openssl", drawn).run()?;
        let told = ["pkey", "-in", &key, "-pubout", "-out", &public];
        shell::command("openssl", told).run()?;
    }
    Ok(())
}

fn configuration(web: SocketAddr, here: SocketAddr) -> String {
    let mut text = format!(
        "admin: off
listeners: {{ web: {{ address: '{web}' }} }}
services: {{ it: {{ endpoints: '{here}' }} }}
routes:
  - {{ name: orders, match: /orders/*, authentication: signature, to: it }}
  - {{ name: once, match: /once/*, authentication: {{ any: {{ signature: {{ nonce: true, tag: orders }} }} }}, to: it }}
consumers: {{ secret: {{}}, ed25519: {{}}, p256: {{}}, p384: {{}}, pss: {{}}, v15: {{}} }}
signature_keys:
  secret: {{ consumer: secret, algorithm: hmac-sha256, secret: file:secret }}
"
    );
    for (name, algorithm, _) in KEYS {
        text += &format!(
            "  {name}: {{ consumer: {name}, algorithm: {algorithm}, public_key: {name}.pem }}\n"
        );
    }
    text
}
