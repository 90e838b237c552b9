//! Roughly when the records of a log were appended, for those that only the disk knows.

use std::collections::VecDeque;

/// Of records so near in time one is noted.
const STEP_MS: u64 = 1000;

/// Times of some positions; what lies behind one of them was appended within [`STEP_MS`] of it.
#[derive(Debug, Default)]
pub(crate) struct Times(VecDeque<(u64, u64)>);

impl Times {
    /// Notes a record behind all that are noted.
    pub(crate) fn note(&mut self, position: u64, time_ms: u64) {
        match self.0.back() {
            Some(&(last, at_ms)) if position <= last || time_ms.abs_diff(at_ms) < STEP_MS => {}
            _ => self.0.push_back((position, time_ms)),
        }
    }

    /// When about the record at a position was appended; 0 if nothing tells.
    pub(crate) fn at(&self, position: u64) -> u64 {
        let behind = self.0.partition_point(|&(at, _)| at <= position);
        behind.checked_sub(1).and_then(|index| self.0.get(index)).map_or(0, |&(_, time_ms)| time_ms)
    }

    /// Forgets what only positions below `first` need.
    pub(crate) fn advance(&mut self, first: u64) {
        while self.0.get(1).is_some_and(|&(at, _)| at <= first) {
            self.0.pop_front();
        }
        if self.0.len() * 8 < self.0.capacity() {
            self.0.shrink_to(self.0.len() * 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_position_has_a_time_within_a_second_of_its_own() {
        let own = |position: u64| 5_000 + position * 300;
        let mut times = Times::default();
        assert_eq!(times.at(7), 0);
        for position in 0..1_000 {
            times.note(position, own(position));
        }
        assert!(times.0.len() <= 300, "{}", times.0.len());
        times.advance(500);
        for position in 500..1_000 {
            let about = times.at(position);
            assert!(
                about <= own(position) && about + STEP_MS > own(position),
                "{position}: {about}"
            );
        }
        times.advance(999);
        assert_eq!(times.0.len(), 1);
    }

    #[test]
    fn a_clock_that_was_set_back_is_believed() {
        let mut times = Times::default();
        times.note(0, 90_000);
        times.note(1, 20_000);
        assert_eq!((times.at(0), times.at(1), times.at(2)), (90_000, 20_000, 20_000));
    }
}
