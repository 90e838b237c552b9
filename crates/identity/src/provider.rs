//! The one cryptography provider, its time, and what servers and clients have in common.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::SystemTime,
};

use rustls::{
    SupportedProtocolVersion, crypto::CryptoProvider, time_provider::TimeProvider, version,
};
use rustls_pki_types::UnixTime;
use weft_kernel::Clock;

/// Makes aws-lc-rs the provider of whatever in the process asks rustls for its default. The first call
/// counts; the servers and clients of this crate do not depend on it.
pub fn install_provider() {
    // An error means that a provider is installed, which is what is wanted.
    let _ = CryptoProvider::clone(&provider()).install_default();
}

/// aws-lc-rs, the post-quantum hybrid X25519MLKEM768 first.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider())))
}

/// The oldest version of TLS that is spoken. There is none older.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MinVersion {
    /// TLS 1.2, only with forward secrecy and authenticated encryption.
    #[default]
    Tls12,
    /// TLS 1.3.
    Tls13,
}

impl MinVersion {
    pub(crate) fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        static FROM_12: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];
        static FROM_13: [&SupportedProtocolVersion; 1] = [&version::TLS13];
        match self {
            Self::Tls12 => &FROM_12,
            Self::Tls13 => &FROM_13,
        }
    }
}

/// What a reload did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// The files hold what is in use.
    Unchanged,
    /// New material is in use, for every handshake from now on.
    Changed,
}

/// The protocols that are offered unless told otherwise: HTTP/2, then HTTP/1.1.
pub(crate) fn default_alpn() -> Vec<Vec<u8>> {
    vec![b"h2".to_vec(), b"http/1.1".to_vec()]
}

/// The clock as rustls asks for it.
pub(crate) struct Wall(pub(crate) Arc<dyn Clock>);

impl TimeProvider for Wall {
    fn current_time(&self) -> Option<UnixTime> {
        let since = self.0.wall().duration_since(SystemTime::UNIX_EPOCH).ok()?;
        Some(UnixTime::since_unix_epoch(since))
    }
}

impl fmt::Debug for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wall")
    }
}
