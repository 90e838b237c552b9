//! A throw-away authority and a certificate for the machine itself.

use std::{fs, path::Path, sync::Arc};

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ClientConfig, RootCertStore};

/// The name that every certificate and every request carries.
pub(crate) const HOST: &str = "bench.test";

/// Writes `server.pem`, `server.key` and `both.pem`, and returns how a client trusts them: one
/// configuration per list of protocols, since what is offered decides what is spoken.
pub(crate) fn write(folder: &Path) -> Result<Trust> {
    // P-256, as most sites have it.
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec![HOST.to_owned()])?.signed_by(&key, &authority)?;
    let (chain, key) = (certificate.pem(), key.serialize_pem());
    fs::write(folder.join("server.pem"), &chain)?;
    fs::write(folder.join("server.key"), &key)?;
    fs::write(folder.join("both.pem"), format!("{chain}{key}"))?;
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone())?;
    let client = |protocol: &[u8]| -> Result<Arc<ClientConfig>> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context("TLS versions")?
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok(Arc::new(config))
    };
    Ok(Trust { http1: client(b"http/1.1")?, http2: client(b"h2")? })
}

/// How a client trusts the certificate.
#[derive(Clone, Debug)]
pub(crate) struct Trust {
    /// Offering HTTP/1.1.
    pub(crate) http1: Arc<ClientConfig>,
    /// Offering HTTP/2.
    pub(crate) http2: Arc<ClientConfig>,
}
