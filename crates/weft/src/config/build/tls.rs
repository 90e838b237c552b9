//! TLS on both sides: files are read and checked here, so that `weft check` tells what a start would.

use std::sync::Arc;

use weft_identity::{
    Authorities, CertificateSource, ClientIdentity, ClientOptions, Fault, Faults, MinVersion, Pem,
    server::{ClientAuth, ClientAuthMode, HostPattern, ServerIdentity, ServerOptions},
};
use weft_kernel::SystemClock;
use weft_proxy::plan::{Host, UpstreamTls};

use crate::config::{
    problem::Problem,
    sections::{
        listener::{self, AlpnProtocol, ServerTls, TlsVersion},
        service::{ClientTls, Protocol},
    },
    setting::{At, Cx},
    source::Place,
    text,
};

const REFUSED_BY_CLIENTS: &str = "clients that verify it refuse the connection until it is renewed";
const REFUSED_BY_SERVICES: &str =
    "services that verify it refuse the connection until it is renewed";

/// The TLS towards services, kept over reloads: the same settings are the same connections.
#[derive(Debug, Default)]
pub(crate) struct Tls {
    clients: Vec<Kept>,
}

#[derive(Debug)]
struct Kept {
    key: Key,
    client: ClientIdentity,
    used: bool,
}

#[derive(Debug, PartialEq)]
struct Key {
    ca: Vec<Pem>,
    certificate: Option<CertificateSource>,
    insecure_skip_verify: bool,
    alpn: Vec<Vec<u8>>,
    min_version: MinVersion,
}

impl Tls {
    /// Begins a load: files are read again, once each.
    pub(crate) fn begin(&mut self) {
        self.clients.iter_mut().for_each(|kept| kept.used = false);
    }

    /// Ends a load: what no service uses any more is let go.
    pub(crate) fn end(&mut self) {
        self.clients.retain(|kept| kept.used);
    }

    /// The TLS of a service; what is wrong with it is reported.
    pub(super) fn client(
        &mut self,
        section: &At<ClientTls>,
        protocol: Protocol,
        cx: &mut Cx,
    ) -> Option<UpstreamTls> {
        let place = section.place;
        let certificate = match (&section.cert, &section.key) {
            (Some(cert), Some(key)) => {
                Some(CertificateSource { cert: cert.clone(), key: key.clone() })
            }
            (None, None) => None,
            (cert, _) => {
                let (there, missing) =
                    if cert.is_some() { ("cert", "key") } else { ("key", "cert") };
                cx.report(Problem::error(place, format!("`{there}` needs `{missing}` beside it")));
                return None;
            }
        };
        if section.insecure_skip_verify.value {
            cx.report(Problem::warning(
                section.insecure_skip_verify.place,
                "the certificate of this service is not verified: anybody in between can pose as it",
            ));
        }
        let offered: &[&[u8]] = match protocol {
            Protocol::Auto => &[b"h2", b"http/1.1"],
            Protocol::Http1 => &[b"http/1.1"],
            Protocol::Http2 => &[b"h2"],
        };
        let key = Key {
            ca: section.ca.iter().map(|file| Pem::File(file.0.clone())).collect(),
            certificate,
            insecure_skip_verify: section.insecure_skip_verify.value,
            alpn: offered.iter().map(|name| name.to_vec()).collect(),
            min_version: version(section.min_version),
        };
        let at = self.find(key, place, cx)?;
        Some(UpstreamTls {
            config: Arc::clone(&self.clients[at].client.config()),
            server_name: section.server_name.as_ref().map(|name| name.0.clone()),
        })
    }

    fn find(&mut self, key: Key, place: Place, cx: &mut Cx) -> Option<usize> {
        if let Some(at) = self.clients.iter().position(|kept| kept.key == key) {
            let kept = &mut self.clients[at];
            if !kept.used {
                if let Err(faults) = kept.client.reload() {
                    report(&faults, place, cx);
                    return None;
                }
                warn(kept.client.expired(), place, REFUSED_BY_SERVICES, cx);
            }
            kept.used = true;
            return Some(at);
        }
        let options = ClientOptions {
            authorities: if key.ca.is_empty() {
                Authorities::System
            } else {
                Authorities::Files(key.ca.clone())
            },
            certificate: key.certificate.clone(),
            server_name: None,
            insecure_skip_verify: key.insecure_skip_verify,
            alpn: key.alpn.clone(),
            min_version: key.min_version,
        };
        match ClientIdentity::new(options, Arc::new(SystemClock)) {
            Ok(client) => {
                warn(client.expired(), place, REFUSED_BY_SERVICES, cx);
                self.clients.push(Kept { key, client, used: true });
                Some(self.clients.len() - 1)
            }
            Err(faults) => {
                report(&faults, place, cx);
                None
            }
        }
    }
}

/// The TLS of a listener; what is wrong with its files is reported.
pub(super) fn server(section: &ServerTls, place: Place, cx: &mut Cx) -> ServerOptions {
    let options = ServerOptions {
        certificates: section
            .certificates
            .iter()
            .map(|pair| CertificateSource { cert: pair.cert.clone(), key: pair.key.clone() })
            .collect(),
        client_auth: section.client_auth.as_ref().map(client_auth),
        hosts: hosts(section, cx),
        min_version: version(section.min_version),
        alpn: section
            .alpn
            .iter()
            .map(|name| match name {
                AlpnProtocol::H2 => b"h2".to_vec(),
                AlpnProtocol::Http1 => b"http/1.1".to_vec(),
            })
            .collect(),
        ..ServerOptions::default()
    };
    match ServerIdentity::new(options.clone(), Arc::new(SystemClock)) {
        Ok(server) => warn(server.expired(), place, REFUSED_BY_CLIENTS, cx),
        Err(faults) => report(&faults, place, cx),
    }
    options
}

fn client_auth(auth: &listener::ClientAuth) -> ClientAuth {
    ClientAuth {
        authorities: auth.ca.iter().map(|file| Pem::File(file.0.clone())).collect(),
        revoked: auth.revoked.iter().map(|file| Pem::File(file.0.clone())).collect(),
        mode: match auth.mode {
            listener::ClientAuthMode::Required => ClientAuthMode::Required,
            listener::ClientAuthMode::Optional => ClientAuthMode::Optional,
        },
    }
}

/// The hosts of a listener whose clients show certificates otherwise.
pub(super) fn hosts_of(section: Option<&ServerTls>) -> Vec<HostPattern> {
    let said = section.iter().flat_map(|section| &section.hosts.0);
    said.filter_map(|(host, _)| pattern(host)).collect()
}

fn pattern(host: &text::HostPattern) -> Option<HostPattern> {
    match host.0.as_ref()? {
        Host::Exact(name) => Some(HostPattern::Exact(name.clone())),
        Host::Wildcard(suffix) => Some(HostPattern::Below(suffix.clone())),
    }
}

/// What holds for them.
fn hosts(section: &ServerTls, cx: &mut Cx) -> Vec<(HostPattern, Option<ClientAuth>)> {
    let said = section.hosts.0.iter().filter_map(|(host, said)| {
        let Some(pattern) = pattern(host) else {
            let say = "what holds for every host is said beside `hosts`";
            cx.report(Problem::error(host.place, say));
            return None;
        };
        Some((pattern, said.client_auth.on().map(|auth| client_auth(&auth.0))))
    });
    said.collect()
}

fn version(version: TlsVersion) -> MinVersion {
    match version {
        TlsVersion::V12 => MinVersion::Tls12,
        TlsVersion::V13 => MinVersion::Tls13,
    }
}

/// Tells of certificates whose time is over. They are no reason to refuse the configuration: a reload of
/// routes must not wait for a renewal.
fn warn(expired: Vec<Fault>, place: Place, help: &str, cx: &mut Cx) {
    for fault in expired {
        cx.report(Problem::warning(place, fault.to_string()).help(help));
    }
}

fn report(faults: &Faults, place: Place, cx: &mut Cx) {
    for fault in faults.iter() {
        cx.report(Problem::error(place, fault.to_string()));
    }
}
