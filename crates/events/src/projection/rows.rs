//! Rows of projections: which builds of each there are, and of a build its documents, its state and what is parked.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// What there is of a projection: the row of its name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Control {
    /// The number of the next build.
    pub(super) next: u64,
    /// The one that answers.
    pub(super) active: Option<BuildRow>,
    /// The one that is to take its place.
    pub(super) building: Option<BuildRow>,
    /// Builds whose rows are to go.
    pub(super) removing: Vec<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BuildRow {
    pub(super) id: u64,
    /// Its definition, as JSON.
    pub(super) definition: String,
    /// The epoch of the events that it is folded of.
    pub(super) epoch: u64,
}

/// How far a build has got: a row that changes in one transaction with its documents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// The position of the next event that it looks at.
    pub(super) position: u64,
    /// Of how many of its documents that event is done already, if these do not fit one transaction.
    pub(super) keys: usize,
    /// How often an event was applied to a document.
    pub(super) applied: u64,
}

/// A document that an event could not be applied to, or an event of which nobody knows which documents it is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    /// The key of the document; `None` if that is what cannot be worked out.
    pub key: Option<String>,
    /// The position of the event.
    pub position: u64,
    /// Why it cannot be applied.
    pub why: String,
    /// How many events wait, this one among them.
    pub waiting: u64,
}

impl Parked {
    pub(super) fn row(&self) -> Bytes {
        match &self.key {
            Some(key) => row(b'k', key.as_bytes()),
            None => row(b'e', &self.position.to_be_bytes()),
        }
    }
}

/// The key of the row of a build's state.
pub(super) const STATE: &[u8] = b"s";

/// What the keys of documents begin with.
pub(super) const DOCUMENTS: u8 = b'd';

/// The key of a row of a kind.
pub(super) fn row(kind: u8, of: &[u8]) -> Bytes {
    let mut row = Vec::with_capacity(1 + of.len());
    row.push(kind);
    row.extend_from_slice(of);
    row.into()
}

/// The name of the map of a build. Names of projections have no slash.
pub(super) fn map_name(projection: &str, build: u64) -> String {
    format!("projection/{projection}/{build}")
}
