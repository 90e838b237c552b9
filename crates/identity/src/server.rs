//! What a listener shows, and whom it lets in.
//!
//! The certificate is chosen by the server name that the client asks for: the exact name, then a
//! wildcard for its parent, then the first certificate. If several certificates hold the name, the
//! first whose key the client can verify is taken, so that an ECDSA and an RSA certificate can stand
//! side by side.
//!
//! Whether clients show certificates may differ from one name to the next ([`ServerOptions::hosts`]). A connection that
//! was made for one name says nothing of who its client is to another: whoever serves requests refuses those for a host
//! that [`HostPattern::best`] tells from the name of the handshake.
//!
//! [`ServerIdentity::config`] is asked once a connection. Certificates change within a configuration that is
//! already in somebody's hands; authorities for clients change by a new configuration with new ticket
//! keys, so that no session of a client that is not trusted any more is resumed.

mod hosts;
mod resolver;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use arc_swap::ArcSwap;
pub use hosts::HostPattern;
use resolver::{Resolver, Table};
use rustls::{
    RootCertStore, ServerConfig,
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use weft_kernel::Clock;

use crate::{
    certificate::{self, CertInfo, CertificateSource, Loaded},
    fault::{Fault, Faults, Gather, What},
    pem::Pem,
    provider::{MinVersion, Reload, Wall, default_alpn, provider},
};

/// What a listener's TLS is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerOptions {
    /// The certificates; the first is shown to who asks for no name, or one that nobody has.
    pub certificates: Vec<CertificateSource>,
    /// Whether clients show certificates; nobody is asked for one without.
    pub client_auth: Option<ClientAuth>,
    /// The same for hosts that are asked for by these names, in place of it.
    pub hosts: Vec<(HostPattern, Option<ClientAuth>)>,
    /// The oldest version that is spoken.
    pub min_version: MinVersion,
    /// The protocols, the preferred one first; `h2` and `http/1.1` unless told otherwise. None at all
    /// turns the choice off.
    pub alpn: Vec<Vec<u8>>,
    /// Whether sessions are resumed by tickets; on unless told otherwise. The keys change every six
    /// hours and are in memory alone.
    pub session_tickets: bool,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            certificates: Vec::new(),
            client_auth: None,
            hosts: Vec::new(),
            min_version: MinVersion::default(),
            alpn: default_alpn(),
            session_tickets: true,
        }
    }
}

/// How clients prove who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAuth {
    /// The authorities that are believed.
    pub authorities: Vec<Pem>,
    /// Lists of certificates that are believed no more. With any, every certificate of a chain must be
    /// covered by one.
    pub revoked: Vec<Pem>,
    /// Whether a client without a certificate is let in.
    pub mode: ClientAuthMode,
}

/// Whether a client must show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuthMode {
    /// It must.
    Required,
    /// It may. One that it shows must be good all the same.
    Optional,
}

/// The TLS of a listener; cheap to share.
#[derive(Debug)]
pub struct ServerIdentity {
    options: ServerOptions,
    clock: Wall,
    resolver: Arc<Resolver>,
    config: ArcSwap<InForce>,
    /// What is in use; held through a reload, so that two do not cross.
    current: Mutex<Material>,
}

/// What handshakes go by now: for hosts that nothing is said of, and for the others in their order.
#[derive(Debug)]
struct InForce {
    usual: ForHost,
    hosts: Vec<ForHost>,
}

/// What handshakes for a host go by.
#[derive(Debug)]
struct ForHost {
    config: Arc<ServerConfig>,
    /// Who judges the certificates of clients, if they show any.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
}

/// All that was read.
#[derive(Debug)]
struct Material {
    certificates: Vec<Loaded>,
    usual: Believed,
    hosts: Vec<Believed>,
}

/// Who is believed, and who is not any more.
#[derive(Debug, Default, PartialEq, Eq)]
struct Believed {
    authorities: Vec<CertificateDer<'static>>,
    revoked: Vec<CertificateRevocationListDer<'static>>,
}

impl ServerIdentity {
    /// Reads and checks everything.
    ///
    /// # Errors
    ///
    /// All that is wrong with the files, at once.
    pub fn new(options: ServerOptions, clock: Arc<dyn Clock>) -> Result<Self, Faults> {
        let (material, table) = read(&options, clock.wall())?;
        let resolver = Arc::new(Resolver::new(table));
        let clock = Wall(clock);
        let config = build(&options, &material, &clock, &resolver)?;
        Ok(Self {
            options,
            clock,
            resolver,
            config: ArcSwap::from_pointee(config),
            current: Mutex::new(material),
        })
    }

    /// The configuration for the next handshake, by the name that the client asks for.
    pub fn config(&self, name: Option<&str>) -> Arc<ServerConfig> {
        Arc::clone(&self.for_host(&self.config.load(), name).config)
    }

    fn for_host<'a>(&self, in_force: &'a InForce, name: Option<&str>) -> &'a ForHost {
        let patterns = self.options.hosts.iter().map(|(pattern, _)| pattern);
        let at = HostPattern::best(patterns, name);
        at.and_then(|at| in_force.hosts.get(at)).unwrap_or(&in_force.usual)
    }

    /// Judges the chain of a client that resumed its session, leaf first, by what is in force now: the
    /// handshake itself does not look at it again, and time has passed since it did.
    ///
    /// # Errors
    ///
    /// What a full handshake with it would be refused for.
    pub fn vet(
        &self,
        chain: &[CertificateDer<'_>],
        name: Option<&str>,
    ) -> Result<(), rustls::Error> {
        let in_force = self.config.load();
        let verifier = &self.for_host(&in_force, name).verifier;
        let (Some(verifier), Some((leaf, rest))) = (verifier, chain.split_first()) else {
            return Ok(());
        };
        let since = self.clock.0.wall().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = UnixTime::since_unix_epoch(since);
        verifier.verify_client_cert(leaf, rest, now).map(|_verified| ())
    }

    /// Reads the files again and takes into use what they hold. It reads files and takes locks: not for
    /// the request path.
    ///
    /// # Errors
    ///
    /// All that is wrong; everything stays as it was then.
    pub fn reload(&self) -> Result<Reload, Faults> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let (material, table) = read(&self.options, self.clock.0.wall())?;
        let keep_config = material.usual == current.usual && material.hosts == current.hosts;
        if keep_config && is_same(&material.certificates, &current.certificates) {
            return Ok(Reload::Unchanged);
        }
        if !keep_config {
            let config = build(&self.options, &material, &self.clock, &self.resolver)?;
            self.config.store(Arc::new(config));
        }
        self.resolver.show(table);
        *current = material;
        Ok(Reload::Changed)
    }

    /// What the certificates in use say of themselves, in the order of the options.
    pub fn certificates(&self) -> Vec<CertInfo> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.certificates.iter().map(|loaded| loaded.info.clone()).collect()
    }

    /// The certificates in use whose time is over, intermediate ones too: shown, and believed by nobody
    /// who verifies them.
    pub fn expired(&self) -> Vec<Fault> {
        let now = self.clock.0.wall();
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.certificates.iter().flat_map(|loaded| loaded.expired(now)).collect()
    }

    /// The files to watch for a reload.
    pub fn paths(&self) -> Vec<PathBuf> {
        let hosts = self.options.hosts.iter().filter_map(|(_, auth)| auth.as_ref());
        let client_auth = self.options.client_auth.iter().chain(hosts);
        let pems = client_auth.flat_map(|auth| auth.authorities.iter().chain(&auth.revoked));
        let mut paths: Vec<PathBuf> =
            self.options.certificates.iter().flat_map(CertificateSource::paths).collect();
        paths.extend(pems.filter_map(|pem| pem.path().map(PathBuf::from)));
        paths.sort_unstable();
        paths.dedup();
        paths
    }
}

fn is_same(a: &[Loaded], b: &[Loaded]) -> bool {
    // The key belongs to the certificate, so that the certificate tells both.
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.key.cert == b.key.cert)
}

fn read(options: &ServerOptions, now: SystemTime) -> Result<(Material, Table), Faults> {
    let mut faults = Gather::default();
    if options.certificates.is_empty() {
        faults.add("certificates", What::NoneGiven);
    }
    let certificates: Vec<Loaded> = options
        .certificates
        .iter()
        .filter_map(|source| certificate::load(source, now, &mut faults))
        .collect();
    let usual = believed(options.client_auth.as_ref(), &mut faults);
    let hosts = options.hosts.iter().map(|(_, auth)| believed(auth.as_ref(), &mut faults));
    let hosts = hosts.collect();
    let table = Table::new(&certificates);
    faults.finish(Some((Material { certificates, usual, hosts }, table)))
}

fn believed(auth: Option<&ClientAuth>, faults: &mut Gather) -> Believed {
    let Some(auth) = auth else { return Believed::default() };
    let Believed { mut authorities, mut revoked } = Believed::default();
    if auth.authorities.is_empty() {
        faults.add("client authorities", What::NoCertificate);
    }
    for pem in &auth.authorities {
        let place = pem.place("client authority");
        authorities.extend(faults.take(&place, pem.certificates()).into_iter().flatten());
    }
    for pem in &auth.revoked {
        let place = pem.place("revocation list");
        revoked.extend(faults.take(&place, pem.revocation_lists()).into_iter().flatten());
    }
    Believed { authorities, revoked }
}

fn build(
    options: &ServerOptions,
    material: &Material,
    clock: &Wall,
    resolver: &Arc<Resolver>,
) -> Result<InForce, Faults> {
    let mut faults = Gather::default();
    let mut of = |auth: Option<&ClientAuth>, believed: &Believed| {
        assemble(options, (auth, believed), clock, resolver, &mut faults)
    };
    let usual = of(options.client_auth.as_ref(), &material.usual);
    let hosts = options.hosts.iter().zip(&material.hosts);
    let hosts = hosts.map(|((_, auth), believed)| of(auth.as_ref(), believed)).collect();
    let both: (_, Option<Vec<_>>) = (usual, hosts);
    faults.finish(both.0.zip(both.1).map(|(usual, hosts)| InForce { usual, hosts }))
}

fn assemble(
    options: &ServerOptions,
    (auth, believed): (Option<&ClientAuth>, &Believed),
    clock: &Wall,
    resolver: &Arc<Resolver>,
    faults: &mut Gather,
) -> Option<ForHost> {
    let time = Arc::new(Wall(Arc::clone(&clock.0)));
    let builder = ServerConfig::builder_with_details(provider(), time)
        .with_protocol_versions(options.min_version.versions());
    let builder = faults.take("tls", builder.map_err(What::Settings))?;
    let verifier = match auth {
        Some(auth) => Some(verifier(auth, believed, faults)?),
        None => None,
    };
    let builder = match &verifier {
        Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::clone(resolver) as Arc<_>);
    config.alpn_protocols.clone_from(&options.alpn);
    // A store would be a lock that all cores share; tickets keep the state with the client.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    if options.session_tickets {
        let ticketer = rustls::crypto::aws_lc_rs::Ticketer::new();
        config.ticketer = faults.take("tls", ticketer.map_err(What::Settings))?;
    } else {
        config.send_tls13_tickets = 0;
    }
    Some(ForHost { config: Arc::new(config), verifier })
}

fn verifier(
    auth: &ClientAuth,
    believed: &Believed,
    faults: &mut Gather,
) -> Option<Arc<dyn ClientCertVerifier>> {
    let place = "client authorities";
    let roots = roots(&believed.authorities, place, faults)?;
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .with_crls(believed.revoked.iter().cloned());
    if auth.mode == ClientAuthMode::Optional {
        builder = builder.allow_unauthenticated();
    }
    let unusable =
        |error: rustls::server::VerifierBuilderError| What::UnusableAuthorities(error.to_string());
    faults.take(place, builder.build().map_err(unusable))
}

/// A store of authorities; whatever cannot be one is a fault.
pub(crate) fn roots(
    authorities: &[CertificateDer<'static>],
    place: &str,
    faults: &mut Gather,
) -> Option<RootCertStore> {
    let mut store = RootCertStore::empty();
    let mut is_good = true;
    for (index, der) in authorities.iter().enumerate() {
        if let Err(error) = store.add(der.clone()) {
            faults.add(place, What::BrokenCertificate { index: index + 1, why: error.to_string() });
            is_good = false;
        }
    }
    is_good.then_some(store)
}
