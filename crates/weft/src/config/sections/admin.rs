//! How Weft is looked at and steered while it runs.

use weft_net::Address;

use crate::config::{
    leaf::Named,
    leaf::{Secret, Switch},
    sections::{
        listener::Listener, policy::Policy, route::Route, service::Service, telemetry::Telemetry,
    },
    setting::{At, settings},
};

settings! {
    /// The admin API, metrics and readiness; beyond the machine itself only with a token.
    pub struct Admin = "admin", short "listen" {
        /// Where it listens.
        listen: At<Address> = "127.0.0.1:9901",
        /// What callers must send as `Authorization: Bearer …`; `file:PATH`.
        token: Option<At<Secret>>,
    }

    /// One file, or a folder of files that are merged. `${NAME}` and `${NAME:-default}` are replaced
    /// by environment variables, `$${` is the text itself.
    pub struct Root = "configuration" {
        /// Sockets that Weft accepts on, by name.
        listeners: Named<Listener>,
        /// Named sets of running instances.
        services: Named<Service>,
        /// Named settings that routes refer to.
        policies: Named<Policy>,
        /// Matches, their policies and their targets.
        routes: Vec<Route>,
        /// What Weft tells about itself.
        telemetry: Telemetry,
        /// How it is looked at and steered while it runs.
        admin: Switch<Admin> = "on",
    }
}
