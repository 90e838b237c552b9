//! What is said about consumers that the node keeps itself.

use weft_gateway::key;

use crate::config::{
    catalogue::KeyOf,
    leaf::{Int, Switch},
    problem::Problem,
    setting::{At, Cx, Field, settings},
};

/// The registry of consumers.
pub const REGISTRY: KeyOf<Switch<Registry>> = KeyOf::new(
    "consumer_registry",
    "Registry of consumers and keys that are made while the node runs, and kept in the ledger.",
)
.or("off");

/// All of them.
pub const ALL: &[Field] = &[REGISTRY.field()];

settings! {
    /// Registry of consumers: `/v1/consumers` and `weft consumer` make them, and draw, rotate and revoke keys.
    pub struct Registry = "consumer registry", short "prefix" {
        /// What the keys that it draws begin with, before an underscore, so that scanners know leaked ones.
        prefix: At<String> = "weft",
        /// Maximum number of consumers.
        consumers_max: Int<1, 1_000_000> = "100000",
    }
}

/// The registry that is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What keys begin with.
    pub prefix: String,
    /// Most consumers.
    pub consumers_max: usize,
}

impl Registry {
    pub(super) fn plan(&self, cx: &mut Cx) -> Option<Plan> {
        if !key::is_prefix(&self.prefix) {
            let most = key::PREFIX_BYTES_MAX;
            let say = format!("a prefix of keys is 1 to {most} letters, digits and underscores");
            cx.report(Problem::error(self.prefix.place, say));
            return None;
        }
        let prefix = self.prefix.value.clone();
        Some(Plan { prefix, consumers_max: self.consumers_max.usize() })
    }
}
