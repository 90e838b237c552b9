//! The ids of a log's last records, in two generations.
//!
//! An id counts as known for the window's time from when it was appended, and no longer, whatever else
//! comes or does not: each is kept with its time. New ids enter the present generation; when it is as old
//! or as large as the window, it becomes the former one, and the memory of the former one is given back.
//! So an id is known for less than the window's time only if more than `ids_max` others came after it.
//! Whoever keeps house does the same for a log that nothing comes to ([`Dedupe::forget`]): memory holds no
//! id for longer than twice the window's time.
//!
//! Times are of the wall clock, because they outlive a restart; a jump of that clock while the ledger is
//! open is seen by the monotonic one, and moves them along ([`Dedupe::observe`]).

use super::{Now, fast::Numbers};
use crate::options::DedupeWindow;

/// The least difference of the two clocks that is a jump and not their drift, in milliseconds.
const JUMP_MS: u64 = 1_000;

/// Where and when an id was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    position: u64,
    at_ms: u64,
}

#[derive(Debug, Default)]
struct Generation {
    number: u64,
    began_ms: u64,
    ids: Numbers<u128, Seen>,
}

/// The window.
#[derive(Debug)]
pub(crate) struct Dedupe {
    window: DedupeWindow,
    present: Generation,
    former: Generation,
    /// What no checkpoint has yet: ids of the present generation in order.
    fresh: Vec<(u128, u64, u64)>,
    /// Chunks of the present and the former generation that checkpoints have.
    chunks: [u32; 2],
    /// Generations that checkpoints have and that were forgotten since.
    gone: Vec<(u64, u32)>,
    /// By how much the wall clock is ahead of the monotonic one, as far as times reckon with it.
    skew_ms: Option<i64>,
}

/// Ids that a checkpoint keeps in one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) generation: u64,
    pub(crate) number: u32,
    pub(crate) began_ms: u64,
    /// Each with its position and its time.
    pub(crate) ids: Vec<(u128, u64, u64)>,
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
            skew_ms: None,
        }
    }

    /// Moves the times along if the wall clock was set since they were taken.
    pub(crate) fn observe(&mut self, now: Now) {
        let tick_ms = i64::try_from(now.tick.nanos() / 1_000_000).unwrap_or(i64::MAX);
        let skew = i64::try_from(now.wall_ms).unwrap_or(i64::MAX).saturating_sub(tick_ms);
        let by = match self.skew_ms {
            Some(had) if skew.abs_diff(had) <= JUMP_MS => return,
            Some(had) => skew.saturating_sub(had),
            // What was set while nobody looked is not known; but nothing was seen in the future.
            None => 0,
        };
        self.skew_ms = Some(skew);
        let moved = |ms: u64| ms.saturating_add_signed(by).min(now.wall_ms);
        for generation in [&mut self.present, &mut self.former] {
            generation.began_ms = moved(generation.began_ms);
            generation.ids.values_mut().for_each(|seen| seen.at_ms = moved(seen.at_ms));
        }
        self.fresh.iter_mut().for_each(|(_, _, at_ms)| *at_ms = moved(*at_ms));
    }

    /// The position of a known id.
    pub(crate) fn find(&self, id: u128, wall_ms: u64) -> Option<u64> {
        let seen = self.present.ids.get(&id).or_else(|| self.former.ids.get(&id))?;
        (wall_ms.saturating_sub(seen.at_ms) < self.window_ms()).then_some(seen.position)
    }

    /// Remembers an id.
    pub(crate) fn insert(&mut self, id: u128, position: u64, wall_ms: u64) {
        let age = wall_ms.saturating_sub(self.present.began_ms);
        if self.is_empty() {
            self.present.began_ms = wall_ms;
        } else if age >= self.window_ms() || self.present.ids.len() >= self.window.ids_max as usize
        {
            self.turn(wall_ms);
        }
        self.present.ids.insert(id, Seen { position, at_ms: wall_ms });
        self.fresh.push((id, position, wall_ms));
    }

    /// Turns the generations of a log that nothing comes to, as an id that comes would; whether there was
    /// any id left.
    pub(crate) fn forget(&mut self, now: Now) -> bool {
        self.observe(now);
        if self.is_empty() || now.wall_ms.saturating_sub(self.present.began_ms) < self.window_ms() {
            return false;
        }
        self.turn(now.wall_ms);
        true
    }

    fn is_empty(&self) -> bool {
        self.present.ids.is_empty() && self.former.ids.is_empty()
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
            self.fresh = Vec::new();
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
                ids: self
                    .former
                    .ids
                    .iter()
                    .map(|(&id, seen)| (id, seen.position, seen.at_ms))
                    .collect(),
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
        let ids = chunk.ids.into_iter();
        self.present.ids.extend(ids.map(|(id, position, at_ms)| (id, Seen { position, at_ms })));
        self.chunks[0] = self.chunks[0].max(chunk.number + 1);
    }

    /// Its time in milliseconds.
    pub(crate) fn window_ms(&self) -> u64 {
        u64::try_from(self.window.time.as_millis()).unwrap_or(u64::MAX)
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use weft_kernel::Tick;

    use super::*;

    fn at(tick_s: u64, wall_s: i64) -> Now {
        let tick = Tick::ZERO.plus(Duration::from_secs(tick_s));
        Now { tick, wall_ms: 1_000_000_000_u64.saturating_add_signed(wall_s * 1_000) }
    }

    fn window() -> Dedupe {
        Dedupe::new(DedupeWindow { time: Duration::from_secs(60), ids_max: 3 })
    }

    fn append(dedupe: &mut Dedupe, id: u128, now: Now) -> bool {
        dedupe.observe(now);
        if dedupe.find(id, now.wall_ms).is_some() {
            return false;
        }
        dedupe.insert(id, id as u64, now.wall_ms);
        true
    }

    #[test]
    fn an_id_is_known_for_its_time_whatever_else_comes() {
        for others in [false, true] {
            let mut dedupe = window();
            assert!(append(&mut dedupe, 1, at(0, 0)));
            for second in 1..60 {
                if others && second % 20 == 0 {
                    append(&mut dedupe, 100 + u128::from(second), at(second, second as i64));
                }
                assert!(!append(&mut dedupe, 1, at(second, second as i64)), "{second}");
            }
            assert!(append(&mut dedupe, 1, at(60, 60)));
            assert!(!append(&mut dedupe, 1, at(61, 61)), "and begins anew");
        }
    }

    #[test]
    fn ids_are_let_go_once_their_time_is_over_though_nothing_comes() {
        for stored in [false, true] {
            let mut dedupe = window();
            assert!(!dedupe.forget(at(0, 0)));
            for (id, second) in [(1, 0), (2, 30), (3, 59)] {
                assert!(append(&mut dedupe, id, at(second, second as i64)));
            }
            let rows = if stored { dedupe.capture().1.len() } else { 0 };
            for second in 59..119 {
                let now = at(second, second as i64);
                assert_eq!(dedupe.forget(now), second == 60, "{second}");
                assert_eq!(dedupe.find(3, now.wall_ms), Some(3), "{second}");
            }
            assert!(!dedupe.forget(at(119, 119)));
            assert!(dedupe.forget(at(120, 120)));
            assert!(dedupe.present.ids.capacity() == 0 && dedupe.former.ids.capacity() == 0);
            assert!(dedupe.fresh.capacity() == 0 && !dedupe.forget(at(900, 900)));
            // The next checkpoint forgets what former ones have.
            let (gone, chunks) = dedupe.capture();
            assert_eq!(
                (gone.iter().map(|(_, chunks)| *chunks).sum(), chunks.len()),
                (rows as u32, 0)
            );
            assert!(!dedupe.dirty());
            assert!(append(&mut dedupe, 3, at(901, 901)) && !append(&mut dedupe, 3, at(960, 960)));
        }
    }

    #[test]
    fn no_id_is_held_for_longer_than_two_windows() {
        for gap in 1..60 {
            let mut dedupe = window();
            assert!(append(&mut dedupe, 1, at(0, 0)) && dedupe.forget(at(60, 60)));
            // It begins no window anew.
            assert!(append(&mut dedupe, 2, at(60 + gap, 60 + gap as i64)));
            assert!(dedupe.forget(at(120, 120)) && dedupe.former.ids.len() == 1, "{gap}");
            assert!(dedupe.find(1, 0).is_none() && dedupe.find(2, 0).is_some(), "{gap}");
        }
    }

    #[test]
    fn a_wall_clock_that_is_set_changes_nothing() {
        for jump in [-7_200, -30, 30, 7_200] {
            let mut dedupe = window();
            assert!(append(&mut dedupe, 1, at(0, 0)));
            assert!(!append(&mut dedupe, 1, at(59, 59 + jump)), "{jump}");
            assert!(append(&mut dedupe, 1, at(60, 60 + jump)), "{jump}");
        }
    }

    #[test]
    fn times_outlive_a_restart() {
        let mut dedupe = window();
        for (id, second) in [(1, 0), (2, 50), (3, 70), (4, 71)] {
            assert!(append(&mut dedupe, id, at(second, second as i64)));
        }
        let (_, chunks) = dedupe.capture();
        let mut again = window();
        chunks.into_iter().for_each(|chunk| again.restore(chunk));
        // Its monotonic clock begins anew.
        for (id, known) in [(1, false), (2, true), (3, true), (4, true)] {
            let now = at(1, 80);
            again.observe(now);
            assert_eq!(again.find(id, now.wall_ms).is_some(), known, "{id}");
        }
        let later = at(31, 110);
        again.observe(later);
        assert_eq!([2, 3].map(|id| again.find(id, later.wall_ms)), [None, Some(3)]);
    }
}
