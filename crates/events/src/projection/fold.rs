//! The documents of a build that are in memory, and events that are applied to them: pure but for what it is given.

use std::collections::{BTreeMap, HashMap};

use super::{
    definition::Compiled,
    document::{Document, Fault},
    rows::Parked,
};
use crate::event::Recorded;

/// The most that is parked of a build: with more it waits until somebody has looked.
pub(super) const PARKED_MAX: usize = 10_000;

struct Held {
    document: Option<Document>,
    is_changed: bool,
}

/// Documents in memory, and what of them is to be written.
#[derive(Default)]
pub(super) struct Fold {
    documents: HashMap<String, Held>,
    /// About how large they all are.
    bytes: usize,
    /// By the row that it has.
    parked: BTreeMap<bytes::Bytes, Parked>,
    parked_changed: Vec<bytes::Bytes>,
    /// How much is to be written.
    pub(super) changed_bytes: usize,
    pub(super) applied: u64,
}

/// What one event is about.
pub(super) type Keys = Result<Vec<String>, Fault>;

impl Fold {
    pub(super) fn new(parked: Vec<Parked>) -> Self {
        let parked = parked.into_iter().map(|parked| (parked.row(), parked)).collect();
        Self { parked, ..Self::default() }
    }

    pub(super) fn parked(&self) -> impl Iterator<Item = &Parked> {
        self.parked.values()
    }

    pub(super) fn parked_count(&self) -> usize {
        self.parked.len()
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.documents.contains_key(key)
    }

    /// Takes a document from the disk.
    pub(super) fn load(&mut self, key: String, document: Option<Document>) {
        self.bytes += weight(&key, document.as_ref());
        self.documents.insert(key, Held { document, is_changed: false });
    }

    /// Applies an event to the documents that it is about, all of which are here; `false`, and nothing is changed, if too
    /// much is parked.
    pub(super) fn apply(&mut self, definition: &Compiled, event: &Recorded, keys: &Keys) -> bool {
        let count = keys.as_ref().map_or(1, Vec::len);
        if self.parked.len() + count > PARKED_MAX {
            return false;
        }
        let keys = match keys {
            Ok(keys) => keys,
            Err(fault) => {
                self.park(None, event.position, fault);
                return true;
            }
        };
        for key in keys {
            let row = super::rows::row(b'k', key.as_bytes());
            if let Some(parked) = self.parked.get_mut(&row) {
                parked.waiting += 1;
                self.parked_changed.push(row);
                continue;
            }
            let Some(held) = self.documents.get_mut(key) else { continue };
            let before = weight(key, held.document.as_ref());
            match definition.apply(event, &mut held.document) {
                Ok(()) => {
                    let after = weight(key, held.document.as_ref());
                    self.bytes = (self.bytes + after).saturating_sub(before);
                    self.changed_bytes += if held.is_changed { 0 } else { after };
                    held.is_changed = true;
                    self.applied += 1;
                }
                Err(fault) => self.park(Some(key.clone()), event.position, &fault),
            }
        }
        true
    }

    fn park(&mut self, key: Option<String>, position: u64, fault: &Fault) {
        let parked = Parked { key, position, why: fault.why().to_owned(), waiting: 1 };
        let row = parked.row();
        self.parked_changed.push(row.clone());
        self.parked.insert(row, parked);
    }

    /// What has changed since it was asked for last: documents by key, and what is parked by its row.
    pub(super) fn changed(&mut self) -> Changed<'_> {
        self.parked_changed.sort_unstable();
        self.parked_changed.dedup();
        let parked = std::mem::take(&mut self.parked_changed);
        let parked = parked.into_iter().map(|row| (self.parked.get(&row), row));
        let documents = self.documents.iter().filter(|(_, held)| held.is_changed);
        let mut documents: Vec<_> =
            documents.map(|(key, held)| (key.as_str(), held.document.as_ref())).collect();
        documents.sort_unstable_by_key(|(key, _)| *key);
        Changed { documents, parked: parked.map(|(parked, row)| (row, parked)).collect() }
    }

    /// All that has changed is written; what is more than there is room for goes.
    pub(super) fn written(&mut self, bytes_max: usize) {
        self.changed_bytes = 0;
        if self.bytes > bytes_max {
            self.documents.clear();
            self.bytes = 0;
        }
        self.documents.values_mut().for_each(|held| held.is_changed = false);
    }

    /// What is parked at a row becomes something else, or nothing, and a document with it.
    pub(super) fn resolve(
        &mut self,
        row: &bytes::Bytes,
        left: Option<Parked>,
        documents: Vec<(String, Option<Document>)>,
    ) {
        match left {
            Some(left) => self.parked.insert(row.clone(), left),
            None => self.parked.remove(row),
        };
        for (key, document) in documents {
            self.bytes = self.bytes.saturating_sub(
                self.documents.get(&key).map_or(0, |held| weight(&key, held.document.as_ref())),
            );
            self.load(key, document);
        }
    }
}

/// What is to be written.
pub(super) struct Changed<'a> {
    pub(super) documents: Vec<(&'a str, Option<&'a Document>)>,
    pub(super) parked: Vec<(bytes::Bytes, Option<&'a Parked>)>,
}

/// About how much memory a document takes.
fn weight(key: &str, document: Option<&Document>) -> usize {
    128 + key.len() + document.map_or(0, |document| 4 * document.len())
}
