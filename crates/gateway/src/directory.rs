//! Directory: all consumers, by name and by their credentials.
//!
//! It is made whole, off the request path, and swapped; what the node keeps itself stands beside it ([`Kept`]) and
//! is asked when nothing here is found. Invariant: no credential leads to two consumers.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, OnceLock},
};

use weft_kernel::Name;
use weft_net::clock;

use crate::{
    consumer::{Consumer, Known},
    credential::{ByDigest, Digest},
    kept::Kept,
};

/// All consumers.
#[derive(Clone, Default)]
pub struct Directory {
    consumers: HashMap<Name, Arc<Known>>,
    credentials: HashMap<Digest, Arc<Known>, ByDigest>,
    kept: OnceLock<Arc<Kept>>,
}

impl Directory {
    /// Adds a consumer; one of the same name that is there already stays.
    pub fn add(&mut self, name: Name, groups: Vec<Name>) {
        self.consumers.entry(name.clone()).or_insert_with(|| Arc::new(Known::new(name, groups)));
    }

    /// Gives a credential to a consumer that was added.
    ///
    /// # Errors
    /// The name of the consumer that has it already; that of the consumer itself if it was not added.
    pub fn give(&mut self, digest: Digest, to: &Name) -> Result<(), Name> {
        let Some(known) = self.consumers.get(to) else { return Err(to.clone()) };
        if let Some(holder) = self.credentials.get(&digest) {
            return Err(holder.name.clone());
        }
        self.credentials.insert(digest, Arc::clone(known));
        Ok(())
    }

    /// Has those be found as well that the node keeps.
    pub fn attach(&self, kept: Arc<Kept>) {
        // A node has one.
        let _ = self.kept.set(kept);
    }

    /// The names and groups of those that are not kept.
    pub fn all(&self) -> impl Iterator<Item = (&Name, &[Name])> {
        self.consumers.iter().map(|(name, known)| (name, &*known.groups))
    }

    /// The groups of a consumer that is not kept.
    pub fn groups_of(&self, name: &str) -> Option<&[Name]> {
        self.consumers.get(name).map(|known| &*known.groups)
    }

    /// Whether a consumer that is not kept has this name.
    pub fn has(&self, name: &str) -> bool {
        self.consumers.contains_key(name)
    }

    /// Whether anybody has credentials.
    pub fn has_credentials(&self) -> bool {
        !self.credentials.is_empty()
    }

    /// The consumer that has a credential.
    pub fn holder(&self, digest: &Digest) -> Option<Consumer> {
        match self.credentials.get(digest) {
            Some(known) => Some(Consumer { known: Arc::clone(known), is_anonymous: false }),
            None => self.kept.get()?.holder(digest, |name| self.named(name), clock::wall()),
        }
    }

    /// The consumer of a name.
    pub fn named(&self, name: &str) -> Option<Consumer> {
        let known = match self.consumers.get(name) {
            Some(known) => Arc::clone(known),
            None => self.kept.get()?.named(name)?,
        };
        Some(Consumer { known, is_anonymous: false })
    }

    /// The consumer of a name, for a client that showed no credentials.
    pub fn anonymous(&self, name: &str) -> Option<Consumer> {
        self.named(name).map(|consumer| Consumer { is_anonymous: true, ..consumer })
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory")
            .field("consumers", &self.consumers.len())
            .field("credentials", &self.credentials.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::name;

    #[test]
    fn a_credential_leads_to_one_consumer() {
        let mut directory = Directory::default();
        directory.add(name("ada"), vec![name("partners"), name("staff")]);
        directory.add(name("bob"), Vec::new());
        let key = Digest::of_api_key(b"one");
        assert_eq!(directory.give(key, &name("ada")), Ok(()));
        assert_eq!(directory.give(key, &name("bob")), Err(name("ada")));
        assert_eq!(directory.give(Digest::of_api_key(b"two"), &name("eve")), Err(name("eve")));
        let ada = directory.holder(&key).map(|consumer| consumer.name().clone());
        assert_eq!(ada, Some(name("ada")));
        assert!(directory.holder(&Digest::of_api_key(b"two")).is_none());
        let ada = directory.anonymous("ada").unwrap_or_else(|| panic!("ada is there"));
        assert!(ada.is_anonymous() && ada.is_in("staff") && !ada.is_in("other"));
        assert_eq!(&*ada.known.groups_line, "partners,staff");
        assert!(directory.named("eve").is_none());
    }
}
