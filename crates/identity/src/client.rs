//! What Weft shows to a service, and which services it believes.
//!
//! Unlike a server's, a client's configuration follows reloads for as long as anybody holds it, clones
//! too: authorities, certificate and remembered sessions are replaced within. After a reload no session
//! of before is resumed.

mod follow;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use follow::{Anybody, Believed, Identity, Sessions, no_sessions};
use rustls::{
    ClientConfig,
    client::{Resumption, VerifierBuilderError, WebPkiServerVerifier, danger::ServerCertVerifier},
};
use rustls_pki_types::{CertificateDer, ServerName};
use weft_kernel::Clock;

use crate::{
    certificate::{self, CertInfo, CertificateSource, Loaded},
    fault::{Fault, Faults, Gather, What},
    pem::Pem,
    provider::{MinVersion, Reload, Wall, default_alpn, provider},
    server::roots,
};

/// Whose certificates are believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Authorities {
    /// The authorities of the operating system.
    #[default]
    System,
    /// These alone.
    Files(Vec<Pem>),
}

/// What the TLS to a service is made of.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Whose certificates are believed.
    pub authorities: Authorities,
    /// The certificate to show to services that ask for one.
    pub certificate: Option<CertificateSource>,
    /// The name to ask for and to verify, in place of the host that is connected to.
    pub server_name: Option<String>,
    /// Believes anybody. Never for more than a laptop: it is logged as a warning.
    pub insecure_skip_verify: bool,
    /// The protocols that are offered, the preferred one first; `h2` and `http/1.1` unless told
    /// otherwise.
    pub alpn: Vec<Vec<u8>>,
    /// The oldest version that is spoken.
    pub min_version: MinVersion,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            authorities: Authorities::default(),
            certificate: None,
            server_name: None,
            insecure_skip_verify: false,
            alpn: default_alpn(),
            min_version: MinVersion::default(),
        }
    }
}

/// The TLS to a service; cheap to share.
#[derive(Debug)]
pub struct ClientIdentity {
    options: ClientOptions,
    clock: Wall,
    server_name: Option<ServerName<'static>>,
    believed: Option<Arc<Believed>>,
    identity: Option<Arc<Identity>>,
    sessions: Arc<Sessions>,
    config: Arc<ClientConfig>,
    /// What is in use; held through a reload, so that two do not cross.
    current: Mutex<Material>,
}

/// All that was read.
#[derive(Debug)]
struct Material {
    authorities: Vec<CertificateDer<'static>>,
    verifier: Option<Arc<WebPkiServerVerifier>>,
    certificate: Option<Loaded>,
}

impl ClientIdentity {
    /// Reads and checks everything.
    ///
    /// # Errors
    ///
    /// All that is wrong with the files and the name, at once.
    pub fn new(options: ClientOptions, clock: Arc<dyn Clock>) -> Result<Self, Faults> {
        let mut faults = Gather::default();
        let server_name = options.server_name.as_ref().and_then(|name| {
            let parsed = ServerName::try_from(name.clone());
            faults.take("server name", parsed.map_err(|_invalid| What::ServerName(name.clone())))
        });
        let material = read(&options, clock.wall(), &mut faults);
        let material = faults.finish(Some(material))?;
        if options.insecure_skip_verify {
            tracing::warn!(
                server_name = options.server_name.as_deref(),
                "the certificates of a service are not verified (insecure_skip_verify): anybody can pose as it"
            );
        }
        let clock = Wall(clock);
        let believed = material.verifier.clone().map(|first| Arc::new(Believed::new(first)));
        let identity = material
            .certificate
            .as_ref()
            .map(|loaded| Arc::new(Identity::new(Arc::clone(&loaded.key))));
        let sessions = Arc::new(Sessions::new(no_sessions()));

        let mut faults = Gather::default();
        let time = Arc::new(Wall(Arc::clone(&clock.0)));
        let builder = ClientConfig::builder_with_details(provider(), time)
            .with_protocol_versions(options.min_version.versions());
        let builder = faults.take("tls", builder.map_err(What::Settings));
        let config = builder.map(|builder| {
            let verifier: Arc<dyn ServerCertVerifier> = match &believed {
                Some(believed) => Arc::clone(believed) as Arc<_>,
                None => Arc::new(Anybody),
            };
            let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
            let mut config = match &identity {
                Some(identity) => builder.with_client_cert_resolver(Arc::clone(identity) as Arc<_>),
                None => builder.with_no_client_auth(),
            };
            config.alpn_protocols.clone_from(&options.alpn);
            config.resumption = Resumption::store(Arc::clone(&sessions) as Arc<_>);
            Arc::new(config)
        });
        let config = faults.finish(config)?;
        let current = Mutex::new(material);
        Ok(Self { options, clock, server_name, believed, identity, sessions, config, current })
    }

    /// The configuration; it follows reloads, and so do its clones.
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    /// The name to ask for and to verify, if it is not the host that is connected to.
    pub fn server_name(&self) -> Option<&ServerName<'static>> {
        self.server_name.as_ref()
    }

    /// Reads the files again and takes into use what they hold. It reads files and takes locks: not for
    /// the request path.
    ///
    /// # Errors
    ///
    /// All that is wrong; everything stays as it was then.
    pub fn reload(&self) -> Result<Reload, Faults> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let mut faults = Gather::default();
        let material = read(&self.options, self.clock.0.wall(), &mut faults);
        let material = faults.finish(Some(material))?;
        let cert = |loaded: &Option<Loaded>| loaded.as_ref().map(|loaded| loaded.key.cert.clone());
        if material.authorities == current.authorities
            && cert(&material.certificate) == cert(&current.certificate)
        {
            return Ok(Reload::Unchanged);
        }
        if let (Some(believed), Some(verifier)) = (&self.believed, &material.verifier) {
            believed.replace(Arc::clone(verifier));
        }
        if let (Some(identity), Some(loaded)) = (&self.identity, &material.certificate) {
            identity.replace(Arc::clone(&loaded.key));
        }
        self.sessions.replace(no_sessions());
        *current = material;
        Ok(Reload::Changed)
    }

    /// What the certificate in use says of itself.
    pub fn certificate(&self) -> Option<CertInfo> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.certificate.as_ref().map(|loaded| loaded.info.clone())
    }

    /// What in the certificate in use is over its time, intermediate ones too: shown, and believed by no
    /// service that verifies it.
    pub fn expired(&self) -> Vec<Fault> {
        let now = self.clock.0.wall();
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.certificate.iter().flat_map(|loaded| loaded.expired(now)).collect()
    }

    /// The files to watch for a reload.
    pub fn paths(&self) -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> =
            self.options.certificate.iter().flat_map(CertificateSource::paths).collect();
        if let Authorities::Files(files) = &self.options.authorities {
            paths.extend(files.iter().filter_map(|pem| pem.path().map(PathBuf::from)));
        }
        paths.sort_unstable();
        paths.dedup();
        paths
    }
}

fn read(options: &ClientOptions, now: SystemTime, faults: &mut Gather) -> Material {
    let certificate =
        options.certificate.as_ref().and_then(|source| certificate::load(source, now, faults));
    if options.insecure_skip_verify {
        return Material { authorities: Vec::new(), verifier: None, certificate };
    }
    let (place, authorities) = match &options.authorities {
        Authorities::System => ("system authorities", system(faults)),
        Authorities::Files(files) => ("authorities", from_files(files, faults)),
    };
    let verifier = authorities.as_ref().and_then(|list| {
        let store = match &options.authorities {
            // Stores hold a few that are too odd for us; those are passed over.
            Authorities::System => {
                let mut store = rustls::RootCertStore::empty();
                store.add_parsable_certificates(list.iter().cloned());
                store
            }
            Authorities::Files(_) => roots(list, place, faults)?,
        };
        let built =
            WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider()).build();
        let unusable = |error: VerifierBuilderError| What::UnusableAuthorities(error.to_string());
        faults.take(place, built.map_err(unusable))
    });
    Material { authorities: authorities.unwrap_or_default(), verifier, certificate }
}

fn system(faults: &mut Gather) -> Option<Vec<CertificateDer<'static>>> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        let why = found.errors.first().map_or("there are none".to_owned(), ToString::to_string);
        faults.add("system authorities", What::NoSystemAuthorities(why));
        return None;
    }
    Some(found.certs)
}

fn from_files(files: &[Pem], faults: &mut Gather) -> Option<Vec<CertificateDer<'static>>> {
    if files.is_empty() {
        faults.add("authorities", What::NoCertificate);
        return None;
    }
    let mut list = Vec::new();
    let mut is_good = true;
    for pem in files {
        match faults.take(&pem.place("authority"), pem.certificates()) {
            Some(certificates) => list.extend(certificates),
            None => is_good = false,
        }
    }
    is_good.then_some(list)
}
