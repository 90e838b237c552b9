//! The certificate for a server name.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::certificate::Loaded;

/// The table in use; handshakes read it while a reload replaces it.
#[derive(Debug)]
pub(crate) struct Resolver(ArcSwap<Table>);

impl Resolver {
    pub(crate) fn new(table: Table) -> Self {
        Self(ArcSwap::from_pointee(table))
    }

    pub(crate) fn show(&self, table: Table) {
        self.0.store(Arc::new(table));
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let table = self.0.load();
        let candidates = table.find(hello.server_name());
        let fitting = candidates
            .iter()
            .find(|key| key.key.choose_scheme(hello.signature_schemes()).is_some());
        // If none fits, the handshake says so with any of them.
        fitting.or(candidates.first()).cloned()
    }
}

type Keys = Vec<Arc<CertifiedKey>>;

/// Names to certificates, each list in the order of the options.
#[derive(Debug, Default)]
pub(crate) struct Table {
    exact: HashMap<String, Keys>,
    /// By the parent: `example.com` for `*.example.com`.
    wildcard: HashMap<String, Keys>,
    first: Keys,
}

impl Table {
    pub(crate) fn new(certificates: &[Loaded]) -> Self {
        let mut table = Self::default();
        for loaded in certificates {
            for name in &loaded.dns {
                let (names, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut table.wildcard, parent),
                    None => (&mut table.exact, name.as_str()),
                };
                names.entry(name.to_owned()).or_default().push(Arc::clone(&loaded.key));
            }
        }
        // Beside the first stand those for the same names with a key of another kind.
        if let Some(first) = certificates.first() {
            let twins = certificates.iter().filter(|loaded| loaded.dns == first.dns);
            table.first = twins.map(|loaded| Arc::clone(&loaded.key)).collect();
        }
        table
    }

    fn find(&self, name: Option<&str>) -> &[Arc<CertifiedKey>] {
        let Some(name) = name else { return &self.first };
        let name = name.strip_suffix('.').unwrap_or(name);
        let name = if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Cow::Owned(name.to_ascii_lowercase())
        } else {
            Cow::Borrowed(name)
        };
        self.exact
            .get(&*name)
            // A wildcard stands for one label alone (RFC 9525 section 6.3).
            .or_else(|| self.wildcard.get(name.split_once('.')?.1))
            .unwrap_or(&self.first)
    }
}
