//! KurrentDB's own clients on event streams, before and after the node was killed.

use std::{fs, net::SocketAddr, path::Path, process::Command};

use anyhow::{Context, Result, bail};

use super::{NODE, amqp, front::accepts, script};
use crate::{
    build,
    need::{Need, PYTHON, Source},
    process::{Process, free_ports},
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
pub(super) const CLIENTS: &[Need] = &[PYTHON_CLIENT, NODE, NODE_CLIENT];

/// The scripts of the clients.
const IN_PYTHON: &str = "xtask/suites/kurrent.py";
const IN_NODE: &str = "xtask/suites/kurrent_node.cjs";

/// The clients against a Weft that keeps streams, which is killed in between.
pub(super) fn weft() -> Result<String> {
    let binary = build::with_tests()?.join("weft");
    let folder = amqp::emptied("kurrent")?;
    let [web, api] = free_ports(2)?[..] else { bail!("two free ports") };
    let config = folder.join("weft.yaml");
    fs::write(&config, configuration(&folder, web, api))?;
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
    let mut server = start("log")?;
    let written = half("write")?;
    let node = script("node", IN_NODE, &[&places[0]]).context("kurrentdb-client of Node.js")?;
    server.kill();
    let server = start("log-again")?;
    let read = half("read")?;
    drop(server);
    Ok(format!("kurrentdbclient: {written}; after a kill: {read}; kurrentdb-client: {node}"))
}

/// The protocol on a listener of its own, and the API of streams on another.
fn configuration(folder: &Path, web: SocketAddr, api: SocketAddr) -> String {
    let folder = folder.display();
    format!(
        "ledger: {{ path: '{folder}/data' }}
listeners:
  kurrent: {{ address: '{web}' }}
  web: {{ address: '{api}' }}
routes:
  - {{ name: kurrent, listeners: [kurrent], match: /*, kurrent: true, body_max: off }}
  - {{ name: streams, listeners: [web], match: /*, streams: / }}
"
    )
}
