//! Weft: routing, metrics and every default policy on; only the access log is off, as it is for all.

use std::{fmt::Write, path::Path, process::Command};

use super::Site;
use crate::scenario::GRPC_PREFIX;

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
routes:
  - {{ name: calls, match: {GRPC_PREFIX}*, to: calls }}
"
    );
    if site.routes.is_none() {
        text.push_str("  - { name: all, to: web }\n");
    }
    for (number, prefix) in site.prefixes().iter().enumerate() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  - {{ name: r{number}, match: {prefix}/*, to: web }}");
    }
    vec![("weft.yaml", text)]
}

pub(super) fn command(program: &Path, site: &Site) -> Command {
    let mut command = Command::new(program);
    command.arg("up").arg("--config").arg(site.file("weft.yaml"));
    command.args(["--workers", &site.workers.to_string(), "--drain", "1s"]);
    command
}
