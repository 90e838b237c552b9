//! Who somebody is, as far as TLS and signatures tell: the certificates that Weft shows, the ones that it
//! believes, the names in those that it is shown, and the tokens that others have signed.
//!
//! A [`ServerIdentity`] holds what a listener shows and whom it lets in, a [`ClientIdentity`] what Weft shows to a
//! service and which services it believes. Both read PEM, check all of it and tell everything that is
//! wrong at once; both reload, and keep what they have if the new material is not good. The one
//! cryptography is aws-lc-rs. [`token`] reads and verifies JSON Web Tokens.
//!
//! Invariants: no sockets and no handshakes here, only what configures them; a key that does not fit
//! its certificate, or a certificate whose time has not come, is never taken into use; one whose time is
//! over is, and is told of; keys are never printed.
//!
//! Reading order: [`pem`], [`fault`], [`certificate`], [`server`], [`client`], [`peer`]; [`token`] stands by itself.

pub mod certificate;
pub mod client;
pub mod fault;
pub mod peer;
pub mod pem;
pub mod provider;
pub mod server;
pub mod token;

pub use certificate::{CertInfo, CertificateSource};
pub use client::{Authorities, ClientIdentity, ClientOptions};
pub use fault::{Fault, Faults, What};
pub use pem::Pem;
pub use provider::{MinVersion, Reload, install_provider};
pub use server::{ClientAuth, ClientAuthMode, HostPattern, ServerIdentity, ServerOptions};
