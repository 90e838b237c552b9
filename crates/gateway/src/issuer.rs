//! Issuer: somebody whose tokens are believed, and where its keys come from.

use std::sync::Arc;

use weft_identity::token::{KeySet, Rules};
use weft_kernel::{Name, Tick};

use crate::{introspection::Introspection, jwks::Remote};

/// Keys of an issuer.
#[derive(Clone, Debug)]
pub enum Keys {
    /// They are in the configuration.
    Fixed(Arc<KeySet>),
    /// They are fetched.
    Remote(Arc<Remote>),
}

/// Issuer of tokens.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// Its name in the configuration.
    pub name: Name,
    /// What its tokens must be; their audience is for policies to ask for.
    pub rules: Rules,
    /// Audiences of which a token must name one where a policy names none; `None` if any will do.
    pub audiences: Option<Box<[String]>>,
    /// Its keys, if it signs tokens.
    pub keys: Option<Keys>,
    /// What is asked about its tokens, if it can be asked.
    pub introspection: Option<Arc<Introspection>>,
    /// The claim that names the consumer, who must then be there.
    pub consumer_claim: Option<Box<str>>,
    /// The consumers that it may name; any if none is named.
    pub consumers: Box<[Name]>,
}

impl Issuer {
    /// Its keys, as far as they are known and not too old.
    pub(crate) fn keys(&self, now: Tick) -> Option<Arc<KeySet>> {
        match self.keys.as_ref()? {
            Keys::Fixed(keys) => Some(Arc::clone(keys)),
            Keys::Remote(remote) => remote.keys(now),
        }
    }
}
