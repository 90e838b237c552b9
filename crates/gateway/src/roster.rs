//! Roster: everybody who is believed, swapped as a whole: consumers with their credentials, and issuers.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use weft_kernel::Name;

use crate::{
    directory::Directory,
    introspection::Introspection,
    issuer::{Issuer, Keys},
    jwks::Remote,
    login::Login,
    signature::SignatureKey,
};

/// Number that changes whenever something that was decided may be decided otherwise.
#[derive(Clone, Debug, Default)]
pub struct Generation(Arc<AtomicU64>);

/// The next number, of all generations of the process: what a worker remembers is of one of them.
static NEXT: AtomicU64 = AtomicU64::new(1);

impl Generation {
    /// The number.
    pub(crate) fn number(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Changes it.
    pub(crate) fn advance(&self) {
        self.0.store(NEXT.fetch_add(1, Ordering::Relaxed), Ordering::Release);
    }
}

/// Everybody who is believed.
#[derive(Clone, Debug, Default)]
pub struct Roster {
    /// The consumers.
    pub consumers: Arc<Directory>,
    /// The issuers, by their names in the configuration.
    pub issuers: HashMap<Name, Arc<Issuer>>,
    /// The keys of signatures, by their ids.
    pub signature_keys: Arc<HashMap<Box<str>, SignatureKey>>,
    /// The logins, by their names.
    pub logins: HashMap<Name, Arc<Login>>,
}

impl Roster {
    /// The sets of keys that are fetched for issuers.
    pub fn remotes(&self) -> impl Iterator<Item = &Arc<Remote>> {
        self.issuers.values().filter_map(|issuer| match &issuer.keys {
            Some(Keys::Remote(remote)) => Some(remote),
            Some(Keys::Fixed(_)) | None => None,
        })
    }

    /// The endpoints of issuers that are asked about tokens.
    pub fn introspections(&self) -> impl Iterator<Item = &Arc<Introspection>> {
        self.issuers.values().filter_map(|issuer| issuer.introspection.as_ref())
    }
}
