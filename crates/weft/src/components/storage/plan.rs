//! What a checked configuration asks for of the store.

use std::path::PathBuf;

/// The ledger.
#[derive(Clone, Debug, PartialEq)]
pub struct Ledger {
    /// The folder of its files.
    pub path: PathBuf,
    /// What it may use, and its keys.
    pub options: weft_ledger::Options,
}
