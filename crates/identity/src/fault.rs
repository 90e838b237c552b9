//! What can be wrong with keys and certificates, and where; all of it is told at once.

use std::{fmt, io};

/// Something wrong with one piece of material.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {what}")]
pub struct Fault {
    /// The file, or what the inline text is for.
    pub place: String,
    /// What is wrong with it.
    #[source]
    pub what: What,
}

/// What is wrong.
#[derive(Debug, thiserror::Error)]
pub enum What {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// The file is larger than [`crate::pem::PEM_BYTES_MAX`].
    #[error("is larger than 1 MiB, so it is no certificate or key")]
    TooLarge,
    /// A PEM section is broken.
    #[error("is broken PEM: {0}")]
    BrokenPem(rustls_pki_types::pem::Error),
    /// There is no PEM certificate in it.
    #[error("holds no PEM certificate (`-----BEGIN CERTIFICATE-----`)")]
    NoCertificate,
    /// There is no PEM private key in it.
    #[error("holds no PEM private key (`-----BEGIN PRIVATE KEY-----`)")]
    NoKey,
    /// There is more than one private key in it.
    #[error("holds more than one private key")]
    SeveralKeys,
    /// The key is protected by a passphrase.
    #[error(
        "holds an encrypted key: decrypt it, for example with `openssl pkey -in old.pem -out new.pem`"
    )]
    EncryptedKey,
    /// There is no PEM revocation list in it.
    #[error("holds no PEM revocation list (`-----BEGIN X509 CRL-----`)")]
    NoRevocationList,
    /// A certificate cannot be parsed.
    #[error("certificate {index} is broken: {why}")]
    BrokenCertificate {
        /// Its place in the file, from 1.
        index: usize,
        /// What the parser says.
        why: String,
    },
    /// The key is of a kind that cannot be used, or broken.
    #[error("the key cannot be used: {0}")]
    UnusableKey(rustls::Error),
    /// The key is another than the certificate's.
    #[error("the key does not match the first certificate of {certificate}")]
    Mismatch {
        /// Where the certificate is.
        certificate: String,
    },
    /// The time of a certificate is over. It is in use for all that; see [`crate::ServerIdentity::expired`].
    #[error("certificate {index} expired on {when}")]
    Expired {
        /// Its place in the file, from 1.
        index: usize,
        /// When.
        when: String,
    },
    /// The time of a certificate has not come.
    #[error("certificate {index} is not valid before {when}")]
    NotYetValid {
        /// Its place in the file, from 1.
        index: usize,
        /// When.
        when: String,
    },
    /// A server needs a certificate.
    #[error("at least one certificate is needed")]
    NoneGiven,
    /// The system has no certificate authorities.
    #[error("the system's certificate authorities cannot be found: {0}")]
    NoSystemAuthorities(String),
    /// A verifier cannot be made of the authorities or the revocation lists.
    #[error("cannot be used to verify certificates: {0}")]
    UnusableAuthorities(String),
    /// A server name that is neither a DNS name nor an address.
    #[error("`{0}` is neither a DNS name nor an IP address")]
    ServerName(String),
    /// The TLS library refuses the settings.
    #[error("TLS refuses these settings: {0}")]
    Settings(rustls::Error),
}

/// Everything that is wrong; never empty.
#[derive(Debug)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// Each fault.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.0.iter()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            fault.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// Gathers faults, so that one does not hide the next.
#[derive(Default)]
pub(crate) struct Gather(Vec<Fault>);

impl Gather {
    pub(crate) fn add(&mut self, place: impl Into<String>, what: What) {
        self.0.push(Fault { place: place.into(), what });
    }

    /// The value of a result; a failure is gathered.
    pub(crate) fn take<T>(&mut self, place: &str, result: Result<T, What>) -> Option<T> {
        result.map_err(|what| self.add(place, what)).ok()
    }

    /// The value, if nothing was wrong.
    pub(crate) fn finish<T>(self, value: Option<T>) -> Result<T, Faults> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(Faults(self.0)),
        }
    }
}
