//! What the section of quotas comes to.

use std::sync::Arc;

use weft_gateway::quota::Quota;

/// The quotas of a node.
#[derive(Clone, Debug)]
pub struct Quotas {
    /// All of them.
    pub quotas: Vec<Arc<Quota>>,
}
