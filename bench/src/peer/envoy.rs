//! Envoy, with its routes in a file that it watches, as a control plane would give them.

use std::{path::Path, process::Command};

use anyhow::Result;
use serde_json::{Value, json};

use super::Site;
use crate::{
    edge::{self, AUDIENCE, Edge, ISSUER, RATE},
    scenario::GRPC_PREFIX,
};

const TYPES: &str = "type.googleapis.com/envoy";

pub(super) fn files(site: &Site) -> Result<Vec<(&'static str, String)>> {
    let mut routes = vec![json!({"match": {"prefix": GRPC_PREFIX}, "route": {"cluster": "calls"}})];
    for prefix in site.prefixes() {
        let route =
            json!({"match": {"path_separated_prefix": prefix}, "route": {"cluster": "web"}});
        routes.push(route);
    }
    if site.routes.is_none() {
        routes.push(json!({"match": {"prefix": "/"}, "route": {"cluster": "web"}}));
    }
    let routes = json!({"resources": [{
        "@type": format!("{TYPES}.config.route.v3.RouteConfiguration"),
        "name": "routes",
        "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}],
    }]});
    let listeners = [
        listener(site, "plain1", site.http1, "AUTO", false),
        listener(site, "plain2", site.http2, "HTTP2", false),
        listener(site, "secure", site.tls, "AUTO", true),
    ];
    let main = json!({
        "node": {"id": "bench", "cluster": "bench"},
        "admin": {"address": address(site.admin)},
        "static_resources": {
            "listeners": listeners,
            "clusters": [cluster("web", site.to_http1, false), cluster("calls", site.to_http2, true)],
        },
    });
    Ok(vec![
        ("routes.json", serde_json::to_string(&routes)?),
        ("envoy.json", serde_json::to_string(&main)?),
    ])
}

fn address(at: std::net::SocketAddr) -> Value {
    json!({"socket_address": {"address": at.ip().to_string(), "port_value": at.port()}})
}

fn listener(site: &Site, name: &str, at: std::net::SocketAddr, codec: &str, tls: bool) -> Value {
    let manager = json!({
        "@type": format!(
            "{TYPES}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
        ),
        "stat_prefix": name,
        "codec_type": codec,
        "use_remote_address": true,
        "generate_request_id": true,
        "http2_protocol_options": {"max_concurrent_streams": 1000},
        "rds": {
            "route_config_name": "routes",
            "config_source": {
                "path_config_source": {"path": site.file("routes.json")},
                "resource_api_version": "V3",
            },
        },
        "http_filters": filters(site.edge.as_ref()),
    });
    let mut chain = json!({"filters": [{
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": manager,
    }]});
    if tls {
        chain["transport_socket"] = json!({
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": format!(
                    "{TYPES}.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
                ),
                "common_tls_context": {
                    "alpn_protocols": ["h2", "http/1.1"],
                    "tls_certificates": [{
                        "certificate_chain": {"filename": site.certificates.join("server.pem")},
                        "private_key": {"filename": site.certificates.join("server.key")},
                    }],
                },
            },
        });
    }
    json!({"name": name, "address": address(at), "filter_chains": [chain]})
}

/// The filters of requests, the last of which routes them on.
fn filters(edge: Option<&Edge>) -> Vec<Value> {
    let filter = |name: &str, config: Value| json!({"name": name, "typed_config": config});
    let mut filters = Vec::new();
    if let Some(edge) = edge {
        let kind = "extensions.filters.http.jwt_authn.v3.JwtAuthentication";
        filters.push(filter(
            "envoy.filters.http.jwt_authn",
            json!({
                "@type": format!("{TYPES}.{kind}"),
                "providers": {"bench": {
                    "issuer": ISSUER,
                    "audiences": [AUDIENCE],
                    "local_jwks": {"inline_string": edge.jwks},
                    "jwt_cache_config": {"jwt_cache_size": 1000},
                    "claim_to_headers": [{"header_name": edge::CONSUMER, "claim_name": "sub"}],
                }},
                "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "bench"}}],
            }),
        ));
        let bucket = json!({"max_tokens": RATE, "tokens_per_fill": RATE, "fill_interval": "1s"});
        let always = json!({"default_value": {"numerator": 100, "denominator": "HUNDRED"}});
        let kind = "extensions.filters.http.local_ratelimit.v3.LocalRateLimit";
        filters.push(filter(
            "envoy.filters.http.local_ratelimit",
            json!({
                "@type": format!("{TYPES}.{kind}"),
                "stat_prefix": "edge",
                "token_bucket": bucket,
                "filter_enabled": always,
                "filter_enforced": always,
                "enable_x_ratelimit_headers": "DRAFT_VERSION_03",
                "max_dynamic_descriptors": edge.consumers,
                "rate_limits": [{"actions": [{"request_headers": {
                    "header_name": edge::CONSUMER, "descriptor_key": "consumer",
                }}]}],
                "descriptors": [{"entries": [{"key": "consumer"}], "token_bucket": bucket}],
            }),
        ));
    }
    let kind = "extensions.filters.http.router.v3.Router";
    filters.push(filter("envoy.filters.http.router", json!({"@type": format!("{TYPES}.{kind}")})));
    filters
}

fn cluster(name: &str, to: std::net::SocketAddr, http2: bool) -> Value {
    // The default breakers would refuse what the others queue.
    let most = 100_000;
    let mut cluster = json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "circuit_breakers": {"thresholds": [{
            "max_connections": most, "max_pending_requests": most, "max_requests": most,
        }]},
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(to)}}]}],
        },
    });
    if http2 {
        cluster["typed_extension_protocol_options"] = json!({
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": format!("{TYPES}.extensions.upstreams.http.v3.HttpProtocolOptions"),
                "explicit_http_config": {"http2_protocol_options": {}},
            },
        });
    }
    cluster
}

pub(super) fn command(program: &Path, site: &Site) -> Command {
    let mut command = Command::new(program);
    command.arg("-c").arg(site.file("envoy.json"));
    command.args(["--concurrency", &site.workers.to_string()]);
    command.args(["-l", "error", "--disable-hot-restart"]);
    command
}
