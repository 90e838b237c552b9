//! Weft: routing, metrics and every default policy on; only the access log is off, as it is for all.

use std::{fmt::Write, path::Path, process::Command};

use super::Site;
use crate::{
    edge::{self, AUDIENCE, Edge, ISSUER, RATE},
    scenario::GRPC_PREFIX,
};

pub(super) fn files(site: &Site) -> Vec<(&'static str, String)> {
    let Site { http1, http2, tls, admin, to_http1, to_http2, .. } = site;
    let certificates = site.certificates.display();
    let mut text = format!(
        "admin: {admin}
telemetry: {{ access_log: off, log: warn }}
listeners:
  plain: {{ address: [\"{http1}\", \"{http2}\"] }}
  secure:
    address: \"{tls}\"
    tls: {{ certificates: [{{ cert: {certificates}/server.pem, key: {certificates}/server.key }}] }}
services:
  web: {{ endpoints: [\"{to_http1}\"], protocol: http1 }}
  calls: {{ endpoints: [\"{to_http2}\"], protocol: http2 }}
"
    );
    let mut files = Vec::new();
    if let Some(edge) = &site.edge {
        text.push_str(&policies(edge));
        files.push(("jwks.json", edge.jwks.clone()));
    }
    let policies = if site.edge.is_some() { ", policies: edge" } else { "" };
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "routes:\n  - {{ name: calls, match: {GRPC_PREFIX}*, to: calls{policies} }}\n"
    );
    if site.routes.is_none() {
        let _ = writeln!(text, "  - {{ name: all, to: web{policies} }}");
    }
    for (number, prefix) in site.prefixes().iter().enumerate() {
        let _ = writeln!(text, "  - {{ name: r{number}, match: {prefix}/*, to: web{policies} }}");
    }
    files.push(("weft.yaml", text));
    files
}

/// A token, and a limit that nobody gets to, for each of the consumers.
fn policies(edge: &Edge) -> String {
    let mut text = format!(
        "issuers:
  bench: {{ issuer: '{ISSUER}', audiences: '{AUDIENCE}', keys: {{ file: jwks.json }} }}
policies:
  edge:
    authentication: {{ any: [{{ jwt: bench }}] }}
    rate_limits: {{ rate: {RATE}/s, burst: {RATE}, by: consumer }}
consumers:
"
    );
    for number in 0..edge.consumers {
        let name = edge::consumer(number);
        let _ = writeln!(text, "  {name}: {{ subjects: {{ bench: {name} }} }}");
    }
    text
}

pub(super) fn command(program: &Path, site: &Site) -> Command {
    let mut command = Command::new(program);
    command.arg("up").arg("--config").arg(site.file("weft.yaml"));
    command.args(["--workers", &site.workers.to_string(), "--drain", "1s"]);
    command
}
