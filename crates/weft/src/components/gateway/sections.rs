//! What is said about consumers.

use weft_kernel::Name;

use crate::config::{
    catalogue::KeyOf,
    leaf::{Many, Named, Secret, Some1},
    setting::{At, Field, settings},
};

/// Consumers.
pub const CONSUMERS: KeyOf<Named<Consumer>> =
    KeyOf::new("consumers", "Consumers by name: clients that the node knows by their credentials.");

/// All of them.
pub const ALL: &[Field] = &[CONSUMERS.field()];

settings! {
    /// Consumer: a client that the node knows.
    pub struct Consumer = "consumer" {
        /// Groups that it is in.
        groups: Many<Name>,
        /// API keys; `file:PATH` reads one from a file. With more than one, a key is rotated without a pause.
        api_keys: Many<At<Secret>>,
        /// User name and password.
        basic: Option<Basic>,
    }

    /// User name and password.
    pub struct Basic = "user name and password", short "passwords" {
        /// User name; the name of the consumer if it is left out.
        username: Option<At<String>>,
        /// Passwords that are taken; `file:PATH` reads one from a file.
        passwords: Some1<At<Secret>>,
    }
}
