//! PEM text, from a file or inline, taken apart into certificates, keys and revocation lists.

use std::{
    fmt, fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use rustls_pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem::PemObject,
};

use crate::fault::What;

/// The most of a file that is read; larger ones are refused.
pub const PEM_BYTES_MAX: u64 = 1024 * 1024;

/// Where PEM text is.
#[derive(Clone, PartialEq, Eq)]
pub enum Pem {
    /// In a file that is read again at each reload.
    File(PathBuf),
    /// Here.
    Inline(String),
}

impl Pem {
    /// The file, if it is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Inline(_) => None,
        }
    }

    /// How a fault names it; `role` says what an inline text is for.
    pub(crate) fn place(&self, role: &str) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Inline(_) => format!("inline {role}"),
        }
    }

    fn read(&self) -> Result<Vec<u8>, What> {
        let path = match self {
            Self::Inline(text) => return Ok(text.as_bytes().to_vec()),
            Self::File(path) => path,
        };
        // A pipe that nobody writes to would hold whoever opens it up for ever.
        if !fs::metadata(path).map_err(What::Unreadable)?.is_file() {
            let kind = std::io::ErrorKind::InvalidInput;
            return Err(What::Unreadable(std::io::Error::new(kind, "this is no regular file")));
        }
        let file = fs::File::open(path).map_err(What::Unreadable)?;
        let mut bytes = Vec::new();
        file.take(PEM_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(What::Unreadable)?;
        if bytes.len() as u64 > PEM_BYTES_MAX {
            return Err(What::TooLarge);
        }
        Ok(bytes)
    }

    /// The certificates in it, at least one.
    pub(crate) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, What> {
        let list: Vec<CertificateDer<'static>> = sections(&self.read()?)?;
        if list.is_empty() { Err(What::NoCertificate) } else { Ok(list) }
    }

    /// The one private key in it.
    pub(crate) fn key(&self) -> Result<PrivateKeyDer<'static>, What> {
        let bytes = self.read()?;
        // PKCS #8 has a label of its own for it, older formats a header.
        for mark in [&b"BEGIN ENCRYPTED PRIVATE KEY"[..], b"Proc-Type: 4,ENCRYPTED"] {
            if bytes.windows(mark.len()).any(|window| window == mark) {
                return Err(What::EncryptedKey);
            }
        }
        let mut keys: Vec<PrivateKeyDer<'static>> = sections(&bytes)?;
        match (keys.pop(), keys.is_empty()) {
            (Some(key), true) => Ok(key),
            (Some(_), false) => Err(What::SeveralKeys),
            (None, _) => Err(What::NoKey),
        }
    }

    /// The revocation lists in it, at least one.
    pub(crate) fn revocation_lists(
        &self,
    ) -> Result<Vec<CertificateRevocationListDer<'static>>, What> {
        let list: Vec<CertificateRevocationListDer<'static>> = sections(&self.read()?)?;
        if list.is_empty() { Err(What::NoRevocationList) } else { Ok(list) }
    }
}

fn sections<T: PemObject>(bytes: &[u8]) -> Result<Vec<T>, What> {
    T::pem_slice_iter(bytes).collect::<Result<_, _>>().map_err(What::BrokenPem)
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.fmt(f),
            // It may be a key.
            Self::Inline(_) => f.write_str("inline"),
        }
    }
}
