//! The ids of a log's last records, in two generations.
//!
//! New ids enter the present generation; when it is as old or as large as the window, it becomes the
//! former one, and the former one is forgotten. So an id is known for at least the window's time,
//! unless more than `ids_max` others came after it.

use super::fast::Numbers;
use crate::options::DedupeWindow;

#[derive(Debug, Default)]
struct Generation {
    number: u64,
    began_ms: u64,
    ids: Numbers<u128, u64>,
}

/// The window.
#[derive(Debug)]
pub(crate) struct Dedupe {
    window: DedupeWindow,
    present: Generation,
    former: Generation,
    /// What no checkpoint has yet: ids of the present generation in order.
    fresh: Vec<(u128, u64)>,
    /// Chunks of the present and the former generation that checkpoints have.
    chunks: [u32; 2],
    /// Generations that checkpoints have and that were forgotten since.
    gone: Vec<(u64, u32)>,
}

/// Ids that a checkpoint keeps in one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) generation: u64,
    pub(crate) number: u32,
    pub(crate) began_ms: u64,
    pub(crate) ids: Vec<(u128, u64)>,
}

impl Dedupe {
    pub(crate) fn new(window: DedupeWindow) -> Self {
        Self {
            window,
            present: Generation { number: 1, ..Generation::default() },
            former: Generation::default(),
            fresh: Vec::new(),
            chunks: [0; 2],
            gone: Vec::new(),
        }
    }

    /// The position of a known id.
    pub(crate) fn find(&self, id: u128) -> Option<u64> {
        self.present.ids.get(&id).or_else(|| self.former.ids.get(&id)).copied()
    }

    /// Remembers an id.
    pub(crate) fn insert(&mut self, id: u128, position: u64, wall_ms: u64) {
        let age = wall_ms.saturating_sub(self.present.began_ms);
        if self.present.ids.is_empty() {
            self.present.began_ms = wall_ms;
        } else if u128::from(age) >= self.window.time.as_millis()
            || self.present.ids.len() >= self.window.ids_max as usize
        {
            self.turn(wall_ms);
        }
        self.present.ids.insert(id, position);
        self.fresh.push((id, position));
    }

    fn turn(&mut self, wall_ms: u64) {
        // Ids that no checkpoint has are in the write-ahead log still: the row of the former
        // generation is completed by the next capture, from the whole of it.
        if self.chunks[1] > 0 {
            self.gone.push((self.former.number, self.chunks[1]));
        }
        let number = self.present.number + 1;
        let present = Generation { number, began_ms: wall_ms, ids: Numbers::default() };
        self.former = std::mem::replace(&mut self.present, present);
        self.chunks = [0, self.chunks[0]];
        if !self.fresh.is_empty() {
            // All of it anew, in place of its chunks.
            self.gone.push((self.former.number, self.chunks[1]));
            self.chunks[1] = 0;
            self.fresh.clear();
        }
    }

    /// What the next checkpoint has to write and to forget: (generation, chunks) that are gone first,
    /// then chunks.
    pub(crate) fn capture(&mut self) -> (Vec<(u64, u32)>, Vec<Chunk>) {
        let mut chunks = Vec::new();
        if self.chunks[1] == 0 && !self.former.ids.is_empty() {
            self.chunks[1] = 1;
            chunks.push(Chunk {
                generation: self.former.number,
                number: 0,
                began_ms: self.former.began_ms,
                ids: self.former.ids.iter().map(|(&id, &position)| (id, position)).collect(),
            });
        }
        if !self.fresh.is_empty() {
            chunks.push(Chunk {
                generation: self.present.number,
                number: self.chunks[0],
                began_ms: self.present.began_ms,
                ids: std::mem::take(&mut self.fresh),
            });
            self.chunks[0] += 1;
        }
        (std::mem::take(&mut self.gone), chunks)
    }

    /// Takes up a chunk that a checkpoint had; chunks come in order of generation and number.
    pub(crate) fn restore(&mut self, chunk: Chunk) {
        if chunk.generation != self.present.number {
            let number = chunk.generation;
            let present = Generation { number, began_ms: chunk.began_ms, ids: Numbers::default() };
            self.former = std::mem::replace(&mut self.present, present);
            self.chunks = [0, self.chunks[0]];
        }
        self.present.began_ms = chunk.began_ms;
        self.present.ids.extend(chunk.ids);
        self.chunks[0] = self.chunks[0].max(chunk.number + 1);
    }

    /// Whether a checkpoint would find anything to do.
    pub(crate) fn dirty(&self) -> bool {
        !self.fresh.is_empty()
            || !self.gone.is_empty()
            || (self.chunks[1] == 0 && !self.former.ids.is_empty())
    }

    /// The window was altered.
    pub(crate) fn set_window(&mut self, window: DedupeWindow) {
        self.window = window;
    }

    /// Every row that checkpoints have of it: (generation, chunks).
    pub(crate) fn rows(&self) -> Vec<(u64, u32)> {
        let mut rows = self.gone.clone();
        rows.push((self.present.number, self.chunks[0]));
        rows.push((self.former.number, self.chunks[1]));
        rows
    }
}
