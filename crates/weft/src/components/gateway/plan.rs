//! What the sections of the edge come to.

use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Duration};

use weft_gateway::{Directory, SignatureKey, introspection, login, token_client};
use weft_identity::token::{KeySet, Rules};
use weft_kernel::Name;

use super::stores;

/// The edge of a node.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// The consumers of the configuration.
    pub consumers: Arc<Directory>,
    /// The issuers whose tokens are believed.
    pub issuers: Vec<Issuer>,
    /// What the node is to authorization servers.
    pub clients: Vec<token_client::Options>,
    /// The stores that rate limits of several nodes are counted in.
    pub stores: Vec<stores::Plan>,
    /// The keys by which requests are signed, by their ids.
    pub signature_keys: Arc<HashMap<Box<str>, SignatureKey>>,
    /// The logins of browsers.
    pub logins: Vec<login::Options>,
}

impl Gateway {
    /// Whether an issuer that is there does not have something.
    pub fn lacks(&self, name: &Name, has: fn(&Issuer) -> bool) -> bool {
        self.issuers.iter().any(|issuer| issuer.name == *name && !has(issuer))
    }
}

/// Issuer of tokens.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// Its name.
    pub name: Name,
    /// What its tokens must be.
    pub rules: Rules,
    /// Audiences of which a token must name one where a policy names none.
    pub audiences: Option<Vec<String>>,
    /// Its keys, if it signs tokens.
    pub keys: Option<Keys>,
    /// What is asked about its tokens, if it can be asked.
    pub introspection: Option<introspection::Options>,
    /// The claim that names the consumer.
    pub consumer_claim: Option<String>,
    /// The consumers that it may name; any if none is named.
    pub consumers: Vec<Name>,
}

/// Where keys come from.
#[derive(Clone, Debug)]
pub enum Keys {
    /// They are here.
    Fixed(Arc<KeySet>),
    /// They are fetched.
    Url {
        /// From there.
        url: String,
        /// The authority of its certificate, if it is not one of the system's.
        ca_file: Option<PathBuf>,
        /// For how long they are fresh.
        cache: Duration,
        /// For how much longer they are used while they cannot be fetched.
        stale: Duration,
    },
}
