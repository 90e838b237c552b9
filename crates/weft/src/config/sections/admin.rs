//! Settings of the admin API.

use weft_net::Address;

use crate::config::{
    leaf::{Many, Named, Secret},
    setting::{At, settings, words},
};

words! {
    /// Permission of a token.
    pub enum Permission {
        /// look at configuration, state and metrics, but not at what messages hold
        Read = "read",
        /// publish messages
        Publish = "publish",
        /// take, settle and read messages
        Consume = "consume",
        /// declare, change, steer and delete
        Manage = "manage",
    }
}

settings! {
    /// Admin API, metrics and readiness; a token is required beyond loopback.
    pub struct Admin = "admin", short "listen" {
        /// Addresses to bind.
        listen: At<Address> = "127.0.0.1:9901",
        /// Token that callers send as `Authorization: Bearer …`; `file:PATH` reads it from a file. It may do
        /// everything.
        token: Option<At<Secret>>,
        /// Tokens by name that may do some things.
        tokens: Named<AdminToken>,
    }

    /// A token of the admin API that may do some things.
    pub struct AdminToken = "admin token" {
        /// Token that callers send as `Authorization: Bearer …`; `file:PATH` reads it from a file.
        token: At<Secret>,
        /// What it may do; at least one thing.
        permissions: At<Many<Permission>>,
    }
}
