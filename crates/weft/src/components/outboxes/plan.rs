//! What the section of outboxes comes to.

use std::path::PathBuf;

use weft_outbox::Options;

/// The outboxes of a node.
#[derive(Clone, Debug, PartialEq)]
pub struct Outboxes {
    /// All of them.
    pub outboxes: Vec<Outbox>,
}

/// One outbox.
#[derive(Clone, Debug, PartialEq)]
pub struct Outbox {
    /// What it reads, and where to.
    pub options: Options,
    /// Authority of the server's certificate; those of the system if there is none.
    pub ca_file: Option<PathBuf>,
    /// Whether the node is not ready while it stands still.
    pub required: bool,
}
