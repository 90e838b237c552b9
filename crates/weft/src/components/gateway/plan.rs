//! What the sections of the edge come to.

use std::sync::Arc;

use weft_gateway::Directory;

/// The edge of a node.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// The consumers of the configuration.
    pub directory: Arc<Directory>,
}
