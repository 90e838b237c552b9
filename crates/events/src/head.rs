//! The head of a stream: how many events it has, and where in the log they are.
//!
//! Events that follow each other in the log are one [`Extent`]. The newest extents stand in the head itself; older
//! ones are moved out of it, sixteen at a time, into chunks, rows of their own that are found by the version that
//! they end before. A stream of a few events is one row, and one of a million costs an append no more.

use serde::{Deserialize, Serialize};

/// Extents that a head has at most; then the oldest are moved out of it.
const EXTENTS_MAX: usize = 32;
/// Extents of a chunk.
pub(crate) const MOVED: usize = 16;
/// Ids of the newest events that are remembered, to know an append again that expects nothing.
pub(crate) const IDS: usize = 8;

/// Events that stand one behind the other in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// The position of the first.
    pub position: u64,
    /// How many there are.
    pub count: u32,
}

/// Whether a stream takes events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Life {
    /// It does.
    #[default]
    Open,
    /// Its events are gone, and the next begins it again.
    Deleted,
    /// It never will again.
    Ended,
}

/// The head of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Head {
    /// The version that the next event will have: as many as there ever were.
    pub next: u64,
    /// The first version that is there.
    pub first: u64,
    /// Whether it takes events.
    pub life: Life,
    /// The newest extents, in order; they end before `next`.
    extents: Vec<Extent>,
    /// Hashes of the ids of the newest events, in order.
    ids: Vec<u64>,
}

/// Extents that were moved out of a head: those of the versions from `start` to before `end`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// The first version.
    pub start: u64,
    /// The version after the last.
    pub end: u64,
    extents: Vec<Extent>,
}

impl Head {
    /// Counts one more event, at a position with the hash of its id. Gives what is to be moved out of the head.
    pub(crate) fn push(&mut self, position: u64, id: u64) -> Option<Chunk> {
        self.life = Life::Open;
        self.next += 1;
        if self.ids.len() == IDS {
            self.ids.remove(0);
        }
        self.ids.push(id);
        match self.extents.last_mut() {
            Some(last)
                if last.position + u64::from(last.count) == position && last.count < u32::MAX =>
            {
                last.count += 1;
                return None;
            }
            _ => self.extents.push(Extent { position, count: 1 }),
        }
        if self.extents.len() <= EXTENTS_MAX {
            return None;
        }
        let start = self.inline();
        let extents: Vec<_> = self.extents.drain(..MOVED).collect();
        let end = start + count(&extents);
        Some(Chunk { start, end, extents })
    }

    /// The first version of which the head itself knows the place.
    pub(crate) fn inline(&self) -> u64 {
        self.next - count(&self.extents)
    }

    /// The places of versions, as far as the head itself knows them.
    pub(crate) fn places(&self, from: u64) -> impl Iterator<Item = Run> {
        runs(self.inline(), &self.extents, from)
    }

    /// Hashes of the ids of the newest events, in order.
    pub(crate) fn ids(&self) -> &[u64] {
        &self.ids
    }

    /// Whether it has begun, and was not deleted. All of its events may have been truncated.
    pub const fn is_there(&self) -> bool {
        self.next > 0 && matches!(self.life, Life::Open)
    }
}

impl Chunk {
    /// The places of its versions.
    pub(crate) fn places(&self, from: u64) -> impl Iterator<Item = Run> {
        runs(self.start, &self.extents, from)
    }
}

/// Versions that stand one behind the other in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) version: u64,
    pub(crate) position: u64,
    pub(crate) count: u32,
}

impl Run {
    /// What of it are versions before one; `None` for nothing.
    pub(crate) fn before(self, version: u64) -> Option<Self> {
        let left = version.checked_sub(self.version).filter(|left| *left > 0)?;
        Some(Self { count: self.count.min(u32::try_from(left).unwrap_or(u32::MAX)), ..self })
    }
}

fn runs(mut version: u64, extents: &[Extent], from: u64) -> impl Iterator<Item = Run> {
    let runs = extents.iter().map(move |extent| {
        let run = Run { version, position: extent.position, count: extent.count };
        version += u64::from(extent.count);
        run
    });
    runs.filter_map(move |run| {
        let skipped = from.saturating_sub(run.version);
        let left = u64::from(run.count).checked_sub(skipped).filter(|left| *left > 0)?;
        Some(Run {
            version: run.version + skipped,
            position: run.position + skipped,
            count: u32::try_from(left).unwrap_or(u32::MAX),
        })
    })
}

fn count(extents: &[Extent]) -> u64 {
    extents.iter().map(|extent| u64::from(extent.count)).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Wherever events come to stand, each version is found, in head or chunk, and a head stays small.
        #[test]
        fn every_version_is_found(gaps in prop::collection::vec(0_u64..3, 1..400)) {
            let (mut head, mut chunks, mut positions) = (Head::default(), Vec::new(), Vec::new());
            let mut position = 0;
            for gap in gaps {
                position += gap;
                chunks.extend(head.push(position, position));
                positions.push(position);
                position += 1;
            }
            for from in [0, 1, positions.len() as u64 / 2, positions.len() as u64 - 1] {
                let moved = chunks.iter().flat_map(|chunk: &Chunk| chunk.places(from));
                let found: Vec<_> = moved
                    .chain(head.places(from))
                    .flat_map(|run| (0..u64::from(run.count)).map(move |at| (run.version + at, run.position + at)))
                    .collect();
                let all = positions.iter().zip(0..).map(|(position, version)| (version, *position));
                prop_assert_eq!(found, all.filter(|(version, _)| *version >= from).collect::<Vec<_>>());
            }
            for pair in chunks.windows(2) {
                prop_assert_eq!(pair[0].end, pair[1].start);
            }
            let bytes = postcard::to_allocvec(&head).unwrap();
            prop_assert!(bytes.len() < 400, "{}", bytes.len());
            prop_assert_eq!(postcard::from_bytes::<Head>(&bytes).unwrap(), head);
        }
    }
}
