//! KurrentDB's own clients on event streams, before and after the node was killed.

use std::{fs, net::SocketAddr, path::Path, process::Command};

use anyhow::{Context, Result, bail};

use super::{NODE, amqp, front::accepts, messages::OPENSSL, script};
use crate::{
    build,
    need::{Need, PYTHON, Source},
    process::{Process, free_ports},
    shell,
};

const PYTHON_CLIENT: Need = Need {
    name: "kurrentdbclient",
    why: "KurrentDB's protocol as Python speaks it",
    check: &[PYTHON, "-c", "import kurrentdbclient"],
    source: Source::Python(&["kurrentdbclient==1.3.5"]),
};

const NODE_CLIENT: Need = Need {
    name: "@kurrent/kurrentdb-client",
    why: "KurrentDB's protocol as Node.js speaks it, and Rust beneath it",
    check: &["node", "-e", "require('./target/node/node_modules/@kurrent/kurrentdb-client')"],
    source: Source::Npm(&["@kurrent/kurrentdb-client@1.3.1"]),
};

/// What the clients need.
pub(super) const CLIENTS: &[Need] = &[PYTHON_CLIENT, NODE, NODE_CLIENT, OPENSSL];

/// The scripts of the clients.
const IN_PYTHON: &str = "xtask/suites/kurrent.py";
const PERSISTENT: &str = "xtask/suites/kurrent_persistent.py";
const IN_NODE: &str = "xtask/suites/kurrent_node.cjs";

/// The clients against a Weft that keeps streams, which is killed in between.
pub(super) fn weft() -> Result<String> {
    let binary = build::with_tests()?.join("weft");
    let folder = amqp::emptied("kurrent")?;
    let [web, api, safe] = free_ports(3)?[..] else { bail!("three free ports") };
    authority(&folder)?;
    let config = folder.join("weft.yaml");
    fs::write(&config, configuration(&folder, web, api, safe))?;
    let start = |log: &str| -> Result<Process> {
        let mut command = Command::new(&binary);
        command.args(["up", "--config"]).arg(&config);
        let mut server = Process::start(command, &folder.join(log))?;
        accepts(&mut server, "weft", web)?;
        Ok(server)
    };
    let places = [web, api].map(|address| address.to_string());
    let half = |half: &str| {
        let arguments = [places[0].as_str(), places[1].as_str(), half];
        script(PYTHON, IN_PYTHON, &arguments).with_context(|| format!("kurrentdbclient, {half}"))
    };
    let plain = format!("kurrentdb://{web}?Tls=false");
    let persistent = |half: &str| {
        script(PYTHON, PERSISTENT, &[half, &plain])
            .with_context(|| format!("persistent subscriptions of kurrentdbclient, {half}"))
    };
    let mut server = start("log")?;
    let written = half("write")?;
    let shared = persistent("write")?;
    let authority = folder.join("ca.crt").display().to_string();
    let over_tls = format!("kurrentdb://user:password@localhost:{}", safe.port());
    let safe = script(PYTHON, PERSISTENT, &["tls", &over_tls, &authority])
        .context("kurrentdbclient over TLS")?;
    let node = script("node", IN_NODE, &[&places[0]]).context("kurrentdb-client of Node.js")?;
    server.kill();
    let server = start("log-again")?;
    let read = half("read")?;
    let shared_again = persistent("read")?;
    drop(server);
    Ok(format!(
        "kurrentdbclient: {written}; after a kill: {read}; persistent: {shared}; after a kill: {shared_again}; over \
         TLS: {safe}; kurrentdb-client: {node}"
    ))
}

/// An authority, and a certificate of it for this machine.
fn authority(folder: &Path) -> Result<()> {
    let at = |name: &str| folder.join(name).display().to_string();
    let [ca, ca_key, own, own_key] = ["ca.crt", "ca.key", "own.crt", "own.key"].map(at);
    let key = [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ];
    let of_ca = ["-subj", "/CN=authority", "-keyout", &ca_key, "-out", &ca];
    shell::command("openssl", key.into_iter().chain(of_ca)).run()?;
    let of_own = [
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost,IP:127.0.0.1",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-CA",
        &ca,
        "-CAkey",
        &ca_key,
        "-keyout",
        &own_key,
        "-out",
        &own,
    ];
    shell::command("openssl", key.into_iter().chain(of_own)).run()
}

/// The protocol on a listener of its own, and the API of streams on another.
fn configuration(folder: &Path, web: SocketAddr, api: SocketAddr, safe: SocketAddr) -> String {
    let folder = folder.display();
    format!(
        "ledger: {{ path: '{folder}/data' }}
listeners:
  kurrent: {{ address: '{web}' }}
  web: {{ address: '{api}' }}
  safe: {{ address: '{safe}', tls: {{ certificates: [{{ cert: '{folder}/own.crt', key: '{folder}/own.key' }}] }} }}
routes:
  - {{ name: kurrent, listeners: [kurrent, safe], match: /*, kurrent: true, body_max: off }}
  - {{ name: streams, listeners: [web], match: /*, streams: / }}
"
    )
}
