//! WebSocket and SSE clients of the messages API that other people wrote, a browser among them.

use std::{fs, net::SocketAddr, path::Path, process::Command};

use anyhow::{Context, Result, bail};

use super::{NODE, amqp, front::accepts, script};
use crate::{
    build,
    need::{Need, PYTHON, Source},
    process::{Process, free_ports},
    shell,
};

const PYTHON_CLIENTS: Need = Need {
    name: "websockets and websocket-client",
    why: "WebSocket as Python speaks it",
    check: &[PYTHON, "-c", "import websockets, websocket"],
    source: Source::Python(&["websockets==17.4", "websocket-client==1.9.2"]),
};

const WS: Need = Need {
    name: "ws and eventsource",
    why: "WebSocket and SSE as Node.js speaks them",
    check: &[
        "node",
        "-e",
        "['ws', 'eventsource'].forEach((name) => require('./target/node/node_modules/' + name))",
    ],
    source: Source::Npm(&["ws@8.23.0", "eventsource@4.1.1"]),
};

pub(super) const PLAYWRIGHT: Need = Need {
    name: "playwright-core",
    why: "drives the browser",
    check: &["node", "-e", "require('./target/node/node_modules/playwright-core')"],
    source: Source::Npm(&["playwright-core@1.65.1"]),
};

pub(super) const CHROMIUM: Need = Need {
    name: "Chromium",
    why: "WebSocket and SSE as a browser speaks them",
    check: &["sh", "-c", "command -v chromium"],
    source: Source::Apt(&["chromium"]),
};

pub(super) const OPENSSL: Need = Need {
    name: "openssl",
    why: "a certificate for the suites of browsers",
    check: &["openssl", "version"],
    source: Source::Apt(&["openssl"]),
};

/// What the clients need.
pub(super) const CLIENTS: &[Need] = &[PYTHON_CLIENTS, NODE, WS, PLAYWRIGHT, CHROMIUM, OPENSSL];

/// Every script: who speaks, by what program, and the file.
const SCRIPTS: &[(&str, &str, &str)] = &[
    ("websockets and websocket-client", PYTHON, "xtask/suites/messages_python.py"),
    ("ws and eventsource", "node", "xtask/suites/messages_node.cjs"),
    ("Chromium", "node", "xtask/suites/messages_browser.cjs"),
];

/// The clients against a Weft that keeps messages, in the clear, by TLS and on the admin API.
pub(super) fn weft() -> Result<String> {
    let binary = build::with_tests()?.join("weft");
    let folder = amqp::emptied("messages")?;
    let [web, safe, admin] = free_ports(3)?[..] else { bail!("three free ports") };
    certificate(&folder)?;
    let config = folder.join("weft.yaml");
    fs::write(&config, configuration(&folder, web, safe, admin))?;
    let mut command = Command::new(binary);
    command.args(["up", "--config"]).arg(&config);
    let mut server = Process::start(command, &folder.join("log"))?;
    accepts(&mut server, "weft", web)?;
    let places = [web, safe, admin].map(|address| address.to_string());
    let arguments: Vec<&str> = places.iter().map(String::as_str).collect();
    let outcomes: Vec<Result<String>> = SCRIPTS
        .iter()
        .map(|&(who, program, file)| {
            let ran = script(program, file, &arguments);
            ran.map(|line| format!("{who}: {line}")).with_context(|| who.to_owned())
        })
        .collect();
    Ok(outcomes.into_iter().collect::<Result<Vec<_>>>()?.join("; "))
}

/// A certificate that nobody has signed but itself.
pub(super) fn certificate(folder: &Path) -> Result<()> {
    let name = |file: &str| folder.join(file).display().to_string();
    let (key, cert) = (name("own.key"), name("own.crt"));
    let asked = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
                 -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1";
    let asked = asked.split(' ').chain(["-keyout", &key, "-out", &cert]);
    shell::command("openssl", asked).run()
}

/// A queue and a topic, the API at `/`, and an empty page of its own origin for the browser.
fn configuration(folder: &Path, web: SocketAddr, safe: SocketAddr, admin: SocketAddr) -> String {
    let folder = folder.display();
    format!(
        "admin: {{ listen: '{admin}' }}
ledger: {{ path: '{folder}/data' }}
listeners:
  web: {{ address: '{web}' }}
  safe: {{ address: '{safe}', tls: {{ certificates: [{{ cert: '{folder}/own.crt', key: '{folder}/own.key' }}] }} }}
queues: {{ jobs: {{}} }}
topics: {{ news: {{}} }}
routes:
  - {{ name: messages, match: /v1/*, messages: / }}
  - name: page
    match: /page
    respond: {{ status: 200, headers: {{ content-type: text/html }}, body: '<!doctype html><title>page</title>' }}
"
    )
}
