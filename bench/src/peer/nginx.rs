//! nginx, with a prefix location per route and without files for bodies.

use std::{fmt::Write, process::Command};

use super::Site;
use crate::scenario::GRPC_PREFIX;

pub(super) fn files(site: &Site) -> Vec<(&'static str, String)> {
    let Site { http1, http2, tls, to_http1, to_http2, workers, connections, .. } = site;
    let (folder, certificates) = (site.folder.display(), site.certificates.display());
    let mut locations = format!(
        "location {GRPC_PREFIX} {{ grpc_pass grpc://calls; \
         grpc_set_header X-Forwarded-For $proxy_add_x_forwarded_for; \
         grpc_set_header X-Request-Id $request_id; }}\n"
    );
    if site.routes.is_none() {
        locations.push_str("location / { proxy_pass http://web; }\n");
    } else {
        locations.push_str("location / { return 404; }\n");
    }
    for prefix in site.prefixes() {
        // Writing to a string cannot fail.
        let _ = writeln!(locations, "location {prefix}/ {{ proxy_pass http://web; }}");
    }
    // A server holds its own copy of every location: many of them are held once, as by the others.
    let others = match site.routes {
        Some(_) => String::new(),
        None => format!(
            "  server {{ listen {http2} http2 reuseport backlog=4096; include {folder}/locations; }}
  server {{ listen {tls} ssl http2 reuseport backlog=4096; include {folder}/locations; }}
"
        ),
    };
    let text = format!(
        "worker_processes {workers}; daemon off; pid {folder}/pid; error_log stderr crit;
worker_rlimit_nofile {files};
events {{ worker_connections {files}; }}
http {{
  access_log off; tcp_nodelay on;
  keepalive_requests 1000000000; keepalive_timeout 3600s; http2_max_concurrent_streams 1000;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  proxy_max_temp_file_size 0; proxy_http_version 1.1;
  proxy_set_header Connection \"\"; proxy_set_header Host $host;
  proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
  proxy_set_header X-Request-Id $request_id;
  upstream web {{ server {to_http1}; keepalive 512; keepalive_requests 1000000000; }}
  upstream calls {{ server {to_http2}; keepalive 64; keepalive_requests 1000000000; }}
  ssl_certificate {certificates}/server.pem; ssl_certificate_key {certificates}/server.key;
  ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache shared:S:10m;
  server {{ listen {http1} reuseport backlog=4096; include {folder}/locations; }}
{others}}}
",
        // A connection has two sides.
        files = connections * 2,
    );
    vec![("locations", locations), ("nginx.conf", text)]
}

pub(super) fn command(site: &Site) -> Command {
    let mut command = Command::new("nginx");
    command.arg("-p").arg(&site.folder).arg("-e").arg("stderr");
    command.arg("-c").arg(site.file("nginx.conf"));
    command
}
