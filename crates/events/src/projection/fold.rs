//! The documents of a build that are in memory, and events that are applied to them: pure but for what it is given.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;

use super::{
    definition::Compiled,
    document::{Document, Fault},
    rows::{Parked, row},
};
use crate::event::Recorded;

/// The most that is parked of a build: with more it waits until somebody has looked.
pub(super) const PARKED_MAX: usize = 10_000;
/// How many rows, and how much of them, are changed before they are written; what comes last of it may be as large as a
/// document beside.
const ROWS: usize = 8_000;
const BYTES: usize = 512 << 10;
/// What a row is more than key and value.
const AROUND: usize = 64;

struct Held {
    document: Option<Document>,
    /// How much is to be written of it; 0 for nothing.
    changed: usize,
}

/// Documents in memory, and what of them is to be written.
#[derive(Default)]
pub(super) struct Fold {
    documents: HashMap<String, Held>,
    /// About how much memory they all take.
    bytes: usize,
    /// By the row that it has.
    parked: BTreeMap<Bytes, Parked>,
    /// The keys of documents, and the rows of what is parked, that have changed, and how much is to be written of them.
    changed: Vec<String>,
    changed_parked: BTreeSet<Bytes>,
    changed_bytes: usize,
    pub(super) applied: u64,
}

/// What one event is about.
pub(super) type Keys = Result<Vec<String>, Fault>;

/// How far an event was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Applied {
    /// To all of its documents.
    Whole,
    /// To so many: what has changed is to be written first, or the next document is not here.
    Part(usize),
    /// To so many, as too much is parked.
    Full(usize),
}

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

    /// Whether more memory is taken than that.
    pub(super) const fn is_above(&self, bytes_max: usize) -> bool {
        self.bytes > bytes_max
    }

    /// Whether there is something to be written.
    pub(super) const fn is_changed(&self) -> bool {
        self.changed_bytes > 0
    }

    /// Whether there is enough to be written.
    pub(super) fn is_due(&self) -> bool {
        self.changed_bytes > BYTES || self.changed.len() + self.changed_parked.len() >= ROWS
    }

    /// Takes a document from the disk.
    pub(super) fn load(&mut self, key: String, document: Option<Document>) {
        self.bytes += weight(&key, document.as_ref());
        self.documents.insert(key, Held { document, changed: 0 });
    }

    /// Applies an event to the documents that it is about, from the one with this number on.
    pub(super) fn apply(
        &mut self,
        definition: &Compiled,
        event: &Recorded,
        keys: &Keys,
        first: usize,
    ) -> Applied {
        let keys = match keys {
            Ok(keys) => keys,
            Err(fault) => {
                return match self.park(None, event.position, fault) {
                    true => Applied::Whole,
                    false => Applied::Full(0),
                };
            }
        };
        for (at, key) in keys.iter().enumerate().skip(first) {
            if self.is_due() {
                return Applied::Part(at);
            }
            if !self.parked.is_empty() {
                let row = row(b'k', key.as_bytes());
                if let Some(parked) = self.parked.get_mut(&row) {
                    parked.waiting += 1;
                    self.change_parked(row);
                    continue;
                }
            }
            let Some(held) = self.documents.get_mut(key) else { return Applied::Part(at) };
            let before = weight(key, held.document.as_ref());
            match definition.apply(event, &mut held.document) {
                Ok(()) => {
                    let document = held.document.as_ref();
                    self.bytes = (self.bytes + weight(key, document)).saturating_sub(before);
                    let changed = AROUND + key.len() + document.map_or(0, Document::len);
                    if held.changed == 0 {
                        self.changed.push(key.clone());
                    }
                    self.changed_bytes = (self.changed_bytes + changed) - held.changed;
                    held.changed = changed;
                    self.applied += 1;
                }
                Err(fault) => {
                    if !self.park(Some(key.clone()), event.position, &fault) {
                        return Applied::Full(at);
                    }
                }
            }
        }
        Applied::Whole
    }

    /// Whether there was room to park it.
    fn park(&mut self, key: Option<String>, position: u64, fault: &Fault) -> bool {
        if self.parked.len() >= PARKED_MAX {
            return false;
        }
        let parked = Parked { key, position, why: fault.why().to_owned(), waiting: 1 };
        let row = parked.row();
        self.parked.insert(row.clone(), parked);
        self.change_parked(row);
        true
    }

    fn change_parked(&mut self, row: Bytes) {
        let why = self.parked.get(&row).map_or(0, |parked| parked.why.len());
        // The key of a document stands in its row twice.
        let changed = AROUND + 2 * row.len() + why;
        if self.changed_parked.insert(row) {
            self.changed_bytes += changed;
        }
    }

    /// What is to be written: documents by key, and what is parked by its row.
    pub(super) fn changed(&mut self) -> Changed<'_> {
        self.changed.sort_unstable();
        let held = |key: &String| self.documents.get(key).and_then(|held| held.document.as_ref());
        let documents = self.changed.iter().map(|key| (key.as_str(), held(key))).collect();
        let parked = self.changed_parked.iter().map(|row| (row.clone(), self.parked.get(row)));
        Changed { documents, parked: parked.collect() }
    }

    /// All that has changed is written.
    pub(super) fn written(&mut self) {
        self.changed_bytes = 0;
        self.changed_parked.clear();
        for key in self.changed.drain(..) {
            if let Some(held) = self.documents.get_mut(&key) {
                held.changed = 0;
            }
        }
    }

    /// Forgets documents if they take more memory than that, once all that has changed is written.
    pub(super) fn forget_above(&mut self, bytes_max: usize) {
        if self.is_above(bytes_max) && !self.is_changed() {
            self.documents.clear();
            self.bytes = 0;
        }
    }

    /// What is parked at a row becomes something else, or nothing, and a document with it.
    pub(super) fn resolve(
        &mut self,
        row: &Bytes,
        left: Option<Parked>,
        document: Option<(String, Option<Document>)>,
    ) {
        match left {
            Some(left) => self.parked.insert(row.clone(), left),
            None => self.parked.remove(row),
        };
        if let Some((key, document)) = document {
            let was = self.documents.get(&key).map(|held| weight(&key, held.document.as_ref()));
            self.bytes = self.bytes.saturating_sub(was.unwrap_or(0));
            self.load(key, document);
        }
    }
}

/// What is to be written.
pub(super) struct Changed<'a> {
    pub(super) documents: Vec<(&'a str, Option<&'a Document>)>,
    pub(super) parked: Vec<(Bytes, Option<&'a Parked>)>,
}

/// About how much memory a document takes.
fn weight(key: &str, document: Option<&Document>) -> usize {
    128 + key.len() + document.map_or(0, |document| 4 * document.len())
}
