//! HAProxy, with a master as its packages have it, and routes in a map, its fastest way to hold many.

use std::{fmt::Write, process::Command};

use super::Site;
use crate::scenario::GRPC_PREFIX;

pub(super) fn files(site: &Site) -> Vec<(&'static str, String)> {
    let Site { http1, http2, tls, to_http1, to_http2, workers, connections, .. } = site;
    let (folder, certificates) = (site.folder.display(), site.certificates.display());
    let mut map = String::new();
    for prefix in site.prefixes() {
        // Writing to a string cannot fail.
        let _ = writeln!(map, "{prefix}/ web");
    }
    let rest = match site.routes {
        None => "  default_backend web\n".to_owned(),
        Some(_) => format!(
            "  http-request return status 404 unless {{ path,map_beg({folder}/routes) -m found }} or \
             {{ path_beg {GRPC_PREFIX} }}\n  use_backend %[path,map_beg({folder}/routes)]\n"
        ),
    };
    let frontend = |name: &str, bind: String| {
        format!(
            "frontend {name}\n  bind {bind}\n  use_backend calls if {{ path_beg {GRPC_PREFIX} }}\n{rest}"
        )
    };
    let mut text = format!(
        "global
  nbthread {workers}
  maxconn {connections}
  stats socket {folder}/socket mode 600 level admin expose-fd listeners
  tune.h2.max-concurrent-streams 1000
  tune.h2.initial-window-size 1048576
  ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
  mode http
  timeout connect 5s
  timeout client 3600s
  timeout server 3600s
  option forwardfor
  http-reuse always
  unique-id-format %[uuid]
  unique-id-header X-Request-ID
"
    );
    text.push_str(&frontend("plain1", http1.to_string()));
    text.push_str(&frontend("plain2", format!("{http2} proto h2")));
    text.push_str(&frontend(
        "secure",
        format!("{tls} ssl crt {certificates}/both.pem alpn h2,http/1.1"),
    ));
    let _ = write!(
        text,
        "backend web\n  server s {to_http1} pool-max-conn 1000\n\
         backend calls\n  server s {to_http2} proto h2 pool-max-conn 1000\n"
    );
    vec![("routes", map), ("haproxy.cfg", text)]
}

pub(super) fn command(site: &Site) -> Command {
    let mut command = Command::new("haproxy");
    command.args(["-W", "-db", "-f"]).arg(site.file("haproxy.cfg"));
    command
}
