//! The node's own sections of the top level; all others are told by components.

use crate::config::{
    catalogue::KeyOf,
    leaf::{Named, Switch},
    sections::{Admin, Listener, Policy, Route, SecretSource, Service},
    setting::Field,
};

/// What a configuration is.
pub const ABOUT: &str = "One file, or a folder of files that are merged. `${NAME}` and \
    `${NAME:-default}` are replaced by environment variables, `${secret:NAME}` by secrets, `$${` is the text \
    itself.";

/// Listeners.
pub const LISTENERS: KeyOf<Named<Listener>> =
    KeyOf::new("listeners", "Listeners by name: sockets that Weft accepts on.");
/// Services.
pub const SERVICES: KeyOf<Named<Service>> =
    KeyOf::new("services", "Services by name: sets of running instances.");
/// Policies; components add keys to their table.
pub const POLICIES: KeyOf<Named<Policy>> =
    KeyOf::new("policies", "Policies by name: settings that routes refer to.");
/// Routes; components add targets to their table.
pub const ROUTES: KeyOf<Vec<Route>> =
    KeyOf::new("routes", "Routes: matches with their policies and targets.");
/// Secrets.
pub const SECRETS: KeyOf<Named<SecretSource>> = KeyOf::new(
    "secrets",
    "Secrets by name: where `${secret:NAME}` is read from, in place of a secret, a header value or PEM text.",
);
/// The admin API.
pub const ADMIN: KeyOf<Switch<Admin>> = KeyOf::new("admin", "Admin API.").or("on");

/// The sections that pages list before policies, routes and those of components.
pub const BEFORE: &[Field] = &[LISTENERS.field(), SERVICES.field()];
/// The sections that pages list behind them.
pub const BEHIND: &[Field] = &[SECRETS.field(), ADMIN.field()];
