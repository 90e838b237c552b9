//! Checks over real connections, each on a new one: what is checked is that the endpoint accepts
//! and answers, not that an old connection still lives.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, header};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_net::{
    Address,
    client::{self, Answer, Version},
    connect::{ClientTls, ConnectTarget, connect},
};

use super::{Checkup, Finding, Probe, ProbeFuture, grpc};
use crate::options::Check;

/// The largest response body that a check accepts.
const BODY_BYTES_MAX: usize = 256 * 1024;
const USER_AGENT: HeaderValue = HeaderValue::from_static("weft-health");
const GRPC_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");
const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");

/// Checks over the network.
#[derive(Clone, Copy, Debug, Default)]
pub struct NetProbe;

impl Probe for NetProbe {
    fn probe(&self, checkup: Checkup) -> ProbeFuture<'_> {
        Box::pin(async move {
            // Each part keeps to the time by itself; this holds them to it together.
            let timeout = checkup.timeout;
            match tokio::time::timeout(timeout, run(&checkup)).await {
                Ok(finding) => finding,
                Err(_elapsed) => Err(format!("no answer within {timeout:?}")),
            }
        })
    }
}

async fn run(checkup: &Checkup) -> Finding {
    match &checkup.check {
        Check::Http { path, method, host, headers, statuses, http2 } => {
            let version = if *http2 { Version::Http2 } else { Version::Http1 };
            let request = head(checkup, method, path, host.as_deref(), headers)?;
            let answer = ask(checkup, version, request.body(Bytes::new())).await?;
            let status = answer.status.as_u16();
            let said = format!("status {status}");
            if statuses.iter().any(|range| range.contains(&status)) { Ok(said) } else { Err(said) }
        }
        Check::Grpc { service, host } => {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, GRPC_TYPE);
            headers.insert(header::TE, TRAILERS);
            let request = head(checkup, &Method::POST, grpc::PATH, host.as_deref(), &headers)?;
            let body = Bytes::from(grpc::request(service));
            let answer = ask(checkup, Version::Http2, request.body(body)).await?;
            serving(&answer)
        }
        Check::Tcp { send, expect } => exchange(checkup, send, expect).await,
    }
}

/// What a gRPC answer says.
fn serving(answer: &Answer) -> Finding {
    if answer.status.as_u16() != 200 {
        return Err(format!("HTTP status {}", answer.status.as_u16()));
    }
    let fields = [answer.trailers.as_ref(), Some(&answer.headers)];
    let find = |name| fields.iter().flatten().find_map(|fields| fields.get(name));
    let code = find("grpc-status").and_then(|value| value.to_str().ok());
    match code {
        Some("0") => match grpc::status(&answer.body) {
            Some(1) => Ok("SERVING".into()),
            Some(status) => Err(grpc::word(status).into()),
            None => Err("not a health response".into()),
        },
        Some("5") => Err("grpc-status 5: the server does not know this service".into()),
        Some("12") => Err("grpc-status 12: the server has no health service".into()),
        Some(code) => Err(format!("grpc-status {}", code.chars().take(8).collect::<String>())),
        None => Err("no grpc-status".into()),
    }
}

/// The host to ask for: as told, or the endpoint's own.
fn authority<'a>(checkup: &'a Checkup, host: Option<&'a str>) -> String {
    match (host, &checkup.hostname, &checkup.address) {
        (Some(host), ..) => host.to_owned(),
        (None, Some(name), Address::Tcp(address)) => format!("{name}:{}", address.port()),
        (None, Some(name), Address::Unix(_)) => name.to_string(),
        (None, None, Address::Tcp(address)) => address.to_string(),
        (None, None, Address::Unix(_)) => "localhost".into(),
    }
}

fn head(
    checkup: &Checkup,
    method: &Method,
    path: &str,
    host: Option<&str>,
    headers: &HeaderMap,
) -> Result<http::request::Builder, String> {
    let authority = authority(checkup, host);
    let scheme = if checkup.tls.is_some() { "https" } else { "http" };
    let host = HeaderValue::from_str(&authority)
        .map_err(|error| format!("`{authority}` cannot be asked for: {error}"))?;
    let mut request = Request::builder()
        .method(method.clone())
        .uri(format!("{scheme}://{authority}{path}"))
        .header(header::USER_AGENT, USER_AGENT);
    if let Some(fields) = request.headers_mut() {
        for name in headers.keys() {
            fields.remove(name);
        }
        fields.extend(headers.iter().map(|(name, value)| (name.clone(), value.clone())));
        fields.insert(header::HOST, host);
    }
    Ok(request)
}

async fn ask(
    checkup: &Checkup,
    version: Version,
    request: http::Result<Request<Bytes>>,
) -> Result<Answer, String> {
    let request = request.map_err(|error| format!("the check cannot be sent: {error}"))?;
    let protocol: &[u8] = if version == Version::Http2 { b"h2" } else { b"http/1.1" };
    let target = target(checkup, Some(protocol))?;
    client::request(&target, version, request, BODY_BYTES_MAX, checkup.timeout)
        .await
        .map_err(|error| error.detail())
}

fn target(checkup: &Checkup, protocol: Option<&[u8]>) -> Result<ConnectTarget, String> {
    let mut target = ConnectTarget::plain(checkup.address.clone());
    target.proxy_header = checkup.proxy_header;
    if let Some(tls) = &checkup.tls {
        let name = match (&tls.name, &checkup.hostname, &checkup.address) {
            (Some(name), ..) => name.clone(),
            (None, Some(name), _) => ServerName::try_from(name.to_string())
                .map_err(|error| format!("`{name}` cannot be verified: {error}"))?,
            (None, None, Address::Tcp(address)) => ServerName::IpAddress(address.ip().into()),
            (None, None, Address::Unix(_)) => {
                return Err("TLS over a Unix socket needs a server name".into());
            }
        };
        // The check speaks one protocol, whatever the requests of the service agree on.
        let mut config = (*tls.config).clone();
        config.alpn_protocols = protocol.map(<[u8]>::to_vec).into_iter().collect();
        target.tls = Some(ClientTls { config: Arc::new(config), name });
    }
    Ok(target)
}

async fn exchange(checkup: &Checkup, send: &[u8], expect: &[u8]) -> Finding {
    let target = target(checkup, None)?;
    let connected = connect(&target, checkup.timeout).await.map_err(|error| error.detail())?;
    let mut io = connected.io;
    if !send.is_empty() {
        io.write_all(send).await.map_err(|error| format!("sending failed: {error}"))?;
        io.flush().await.map_err(|error| format!("sending failed: {error}"))?;
    }
    if !expect.is_empty() {
        let mut got = vec![0; expect.len()];
        io.read_exact(&mut got).await.map_err(|error| format!("reading failed: {error}"))?;
        if got != expect {
            let shown: String = String::from_utf8_lossy(&got).chars().take(64).collect();
            return Err(format!("answered {shown:?}"));
        }
    }
    // Closing is a courtesy: whether the peer takes it well is of no interest.
    let _ = tokio::time::timeout(Duration::from_millis(50), io.shutdown()).await;
    Ok(if expect.is_empty() { "connected".into() } else { "answered as expected".into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authority_is_the_endpoints_own_unless_told() {
        let checkup = |hostname: Option<&str>, address: &str| Checkup {
            check: Check::tcp(),
            address: address.parse().unwrap(),
            hostname: hostname.map(Arc::from),
            tls: None,
            proxy_header: None,
            timeout: Duration::from_secs(1),
        };
        for (hostname, address, host, expect) in [
            (None, "10.0.0.1:80", None, "10.0.0.1:80"),
            (None, "[::1]:80", None, "[::1]:80"),
            (Some("orders"), "10.0.0.1:80", None, "orders:80"),
            (Some("orders"), "10.0.0.1:80", Some("x.test"), "x.test"),
            (None, "unix:/run/x.sock", None, "localhost"),
        ] {
            assert_eq!(authority(&checkup(hostname, address), host), expect);
        }
    }
}
