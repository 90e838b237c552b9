//! A certificate chain with its key: loaded, checked, and described for status and metrics.
//!
//! A certificate whose time is over is loaded all the same, as other proxies do: nobody who verifies it
//! will believe it, but to refuse it would also keep everything else that stands in the same
//! configuration from taking effect. It is told apart, by [`crate::ServerIdentity::expired`], for a warning.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{Error as TlsError, InconsistentKeys, sign::CertifiedKey};
use rustls_pki_types::CertificateDer;
use x509_parser::{certificate::X509Certificate, time::ASN1Time};

use crate::{
    fault::{Fault, Gather, What},
    peer,
    pem::Pem,
    provider::provider,
};

/// Where a chain and its key are. Both may stand in one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateSource {
    /// The chain, the certificate itself first, each followed by its issuer.
    pub cert: Pem,
    /// The private key: PKCS #8, PKCS #1 or SEC 1, not encrypted.
    pub key: Pem,
}

impl CertificateSource {
    pub(crate) fn paths(&self) -> impl Iterator<Item = PathBuf> {
        [&self.cert, &self.key].into_iter().filter_map(|pem| pem.path().map(PathBuf::from))
    }
}

/// What a certificate says of itself, for status pages and the expiry metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertInfo {
    /// The names that it is for: DNS names, addresses and URIs, or the common name if there is none.
    pub names: Vec<String>,
    /// When its time begins.
    pub not_before: SystemTime,
    /// When its time ends.
    pub not_after: SystemTime,
    /// The distinguished name of who issued it.
    pub issuer: String,
    /// The serial number in hexadecimal.
    pub serial: String,
    /// The SHA-256 digest of the certificate in hexadecimal.
    pub fingerprint: String,
    /// The file that it came from, if it did.
    pub path: Option<PathBuf>,
}

impl CertInfo {
    /// The time that is left, zero once it is over.
    pub fn left(&self, now: SystemTime) -> Duration {
        self.not_after.duration_since(now).unwrap_or_default()
    }
}

/// A chain and its key that fit each other.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    pub(crate) key: Arc<CertifiedKey>,
    /// The DNS names in lower case.
    pub(crate) dns: Vec<String>,
    pub(crate) info: CertInfo,
    /// Where the chain was read from.
    place: String,
    /// When the time of each certificate of the chain ends.
    ends: Vec<ASN1Time>,
}

impl Loaded {
    /// What there is to say of certificates of the chain whose time is over: one breaks all of it.
    pub(crate) fn expired(&self, now: SystemTime) -> impl Iterator<Item = Fault> {
        self.ends.iter().enumerate().filter(move |(_, end)| now > system_time(**end)).map(
            |(index, end)| Fault {
                place: self.place.clone(),
                what: What::Expired { index: index + 1, when: end.to_string() },
            },
        )
    }
}

/// What the certificates of a chain say.
struct Described {
    dns: Vec<String>,
    info: CertInfo,
    ends: Vec<ASN1Time>,
}

/// Reads and checks a chain with its key; whatever is wrong is gathered.
pub(crate) fn load(
    source: &CertificateSource,
    now: SystemTime,
    faults: &mut Gather,
) -> Option<Loaded> {
    let place = source.cert.place("certificate");
    let key_place = source.key.place("key");
    let chain = faults.take(&place, source.cert.certificates());
    let key = faults.take(&key_place, source.key.key());
    let signer = key.and_then(|key| {
        let loaded = provider().key_provider.load_private_key(key);
        faults.take(&key_place, loaded.map_err(What::UnusableKey))
    });
    let chain = chain?;
    let described = describe(&chain, source, now, &place, faults);
    let key = CertifiedKey::new(chain, signer?);
    match key.keys_match() {
        Ok(()) | Err(TlsError::InconsistentKeys(InconsistentKeys::Unknown)) => {}
        Err(TlsError::InconsistentKeys(_)) => {
            faults.add(key_place, What::Mismatch { certificate: place });
            return None;
        }
        Err(error) => {
            faults.add(place, What::BrokenCertificate { index: 1, why: error.to_string() });
            return None;
        }
    }
    let Described { dns, info, ends } = described?;
    Some(Loaded { key: Arc::new(key), dns, info, place, ends })
}

/// Checks that the time of the whole chain has come, because one that is out of it breaks all, notes when
/// it ends, and describes the first.
fn describe(
    chain: &[CertificateDer<'_>],
    source: &CertificateSource,
    now: SystemTime,
    place: &str,
    faults: &mut Gather,
) -> Option<Described> {
    let mut first = None;
    let mut ends = Vec::with_capacity(chain.len());
    for (index, der) in chain.iter().enumerate() {
        let broken = |why: String| What::BrokenCertificate { index: index + 1, why };
        let cert = match x509_parser::parse_x509_certificate(der) {
            Ok((_, cert)) => cert,
            Err(error) => {
                faults.add(place, broken(error.to_string()));
                continue;
            }
        };
        let (from, to) = (cert.validity().not_before, cert.validity().not_after);
        if now < system_time(from) {
            faults.add(place, What::NotYetValid { index: index + 1, when: from.to_string() });
        }
        ends.push(to);
        if index == 0 {
            first = Some(info(&cert, der, source));
        }
    }
    first.map(|(dns, info)| Described { dns, info, ends })
}

fn info(
    cert: &X509Certificate<'_>,
    der: &CertificateDer<'_>,
    source: &CertificateSource,
) -> (Vec<String>, CertInfo) {
    let who = peer::of(cert, der);
    let mut dns: Vec<String> = who.dns.iter().map(|name| name.to_ascii_lowercase()).collect();
    let mut names: Vec<String> =
        [&who.dns, &who.addresses, &who.uri].into_iter().flatten().cloned().collect();
    if names.is_empty() {
        // Old certificates have their host name in the subject alone.
        names.extend(who.common_name.clone());
        dns.extend(who.common_name.map(|name| name.to_ascii_lowercase()));
    }
    let info = CertInfo {
        names,
        not_before: system_time(cert.validity().not_before),
        not_after: system_time(cert.validity().not_after),
        issuer: cert.issuer().to_string(),
        serial: cert.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect(),
        fingerprint: who.fingerprint,
        path: source.cert.path().map(PathBuf::from),
    };
    (dns, info)
}

fn system_time(time: ASN1Time) -> SystemTime {
    let seconds = time.timestamp();
    let span = Duration::from_secs(seconds.unsigned_abs());
    let moved = if seconds < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(span)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(span)
    };
    moved.unwrap_or(SystemTime::UNIX_EPOCH)
}
