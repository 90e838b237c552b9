//! The segments that are there; the indexes of those that were read last stay in memory.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use weft_kernel::Result;

use super::{FOLDER, Segment};
use crate::{
    crypt::Keys,
    disk::{Disk, failed},
};

/// How many indexes stay in memory.
const OPEN_MAX: usize = 64;

/// The path of a segment.
pub(crate) fn name(number: u32) -> String {
    format!("{FOLDER}/{number:010}.seg")
}

/// The number in the name of a file.
pub(crate) fn number(name: &str) -> Option<u32> {
    name.strip_suffix(".seg").filter(|digits| digits.len() == 10)?.parse().ok()
}

/// The segments of a ledger.
#[derive(Debug)]
pub(crate) struct SegmentSet {
    disk: Arc<dyn Disk>,
    keys: Keys,
    state: Mutex<State>,
}

/// How large a segment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// The whole file.
    pub(crate) file: u64,
    /// The records that it was written with.
    pub(crate) records: u64,
}

#[derive(Debug, Default)]
struct State {
    there: BTreeMap<u32, Sizes>,
    open: BTreeMap<u32, (u64, Arc<Segment>)>,
    uses: u64,
}

impl SegmentSet {
    /// None yet.
    pub(crate) fn new(disk: Arc<dyn Disk>, keys: Keys) -> Self {
        Self { disk, keys, state: Mutex::default() }
    }

    /// Takes in a segment that is safe.
    pub(crate) fn insert(&self, number: u32, sizes: Sizes) {
        self.state.lock().there.insert(number, sizes);
    }

    /// The numbers and sizes of all.
    pub(crate) fn all(&self) -> Vec<(u32, Sizes)> {
        self.state.lock().there.iter().map(|(number, sizes)| (*number, *sizes)).collect()
    }

    /// The bytes of all together.
    pub(crate) fn bytes(&self) -> u64 {
        self.state.lock().there.values().map(|sizes| sizes.file).sum()
    }

    /// An open segment.
    pub(crate) fn get(&self, number: u32) -> Result<Arc<Segment>> {
        {
            let mut state = self.state.lock();
            state.uses += 1;
            let now = state.uses;
            if let Some((used, segment)) = state.open.get_mut(&number) {
                *used = now;
                return Ok(segment.clone());
            }
        }
        // Read without the lock: who wants another segment does not wait for this one.
        let segment = Arc::new(Segment::open(&*self.disk, number, &self.keys)?);
        let mut state = self.state.lock();
        let now = state.uses;
        if state.there.contains_key(&number) {
            state.open.insert(number, (now, segment.clone()));
        }
        if state.open.len() > OPEN_MAX {
            let oldest = state.open.iter().min_by_key(|(_, (used, _))| *used).map(|(&id, _)| id);
            oldest.map(|number| state.open.remove(&number));
        }
        Ok(segment)
    }

    /// Removes a segment that nothing points to, also after a crash; who reads it still may go on.
    pub(crate) fn remove(&self, number: u32) -> Result<()> {
        {
            let mut state = self.state.lock();
            state.there.remove(&number);
            state.open.remove(&number);
        }
        let path = name(number);
        self.disk.remove(&path).map_err(|error| failed("cannot remove a segment", &path, error))
    }
}
