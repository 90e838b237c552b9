//! What a node tells about itself.

use std::{sync::Arc, time::SystemTime};

use super::Node;

/// Why the last configuration was refused.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// When.
    pub at: SystemTime,
    /// Why.
    pub reason: String,
}

/// The state of a node.
#[derive(Clone, Debug)]
pub struct Status {}

pub(super) fn publish(_node: &Arc<Node>) {}
