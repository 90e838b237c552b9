//! A sliding window of ten slots in atomics, under the budget, the breaker and the ejection.
//!
//! A slot is one word: the turn of the window that it belongs to, and forty bits of its owner. A
//! slot of an older turn counts as empty and is begun anew by whoever writes first, so an idle window
//! expires without anybody sweeping it. Orderings are sequentially consistent because the budget
//! writes one slot and then reads all (two writers must not both miss the other).

use std::{
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    time::Duration,
};

use weft_kernel::Tick;

/// Slots in a window.
pub(crate) const SLOTS: usize = 10;
const PAYLOAD_BITS: u32 = 40;
const PAYLOAD: u64 = (1 << PAYLOAD_BITS) - 1;
const TURNS: u64 = u64::MAX >> PAYLOAD_BITS;
/// Shorter slots would let the turn counter come round within hours.
const SLOT_NANOS_MIN: u64 = 1_000_000;

/// The payload that stands for nothing in a window of signed amounts.
pub(crate) const SIGNED_ZERO: u64 = 1 << (PAYLOAD_BITS - 1);

const COUNT_BITS: u32 = PAYLOAD_BITS / 2;
const COUNT: u64 = (1 << COUNT_BITS) - 1;

#[derive(Debug)]
pub(crate) struct Ring {
    slots: [AtomicU64; SLOTS],
    slot_nanos: u64,
    zero: u64,
}

impl Ring {
    /// A window of `window` (at least 10 ms) whose slots begin as `zero`.
    pub(crate) fn new(window: Duration, zero: u64) -> Self {
        let nanos = u64::try_from(window.as_nanos()).unwrap_or(u64::MAX) / SLOTS as u64;
        let slot = || AtomicU64::new(zero & PAYLOAD);
        Self {
            slots: std::array::from_fn(|_| slot()),
            slot_nanos: nanos.max(SLOT_NANOS_MIN),
            zero: zero & PAYLOAD,
        }
    }

    /// Changes the payload of the slot that `now` falls into.
    pub(crate) fn update(&self, now: Tick, change: impl Fn(u64) -> u64) {
        self.write(now, true, change);
    }

    /// Like [`Ring::update`], but leaves a slot alone that has moved on to a later turn meanwhile.
    pub(crate) fn amend(&self, now: Tick, change: impl Fn(u64) -> u64) {
        self.write(now, false, change);
    }

    fn write(&self, now: Tick, late: bool, change: impl Fn(u64) -> u64) {
        let count = now.nanos() / self.slot_nanos;
        let turn = count & TURNS;
        let slot = &self.slots[(count % SLOTS as u64) as usize];
        let mut word = slot.load(SeqCst);
        loop {
            let behind = turn.wrapping_sub(word >> PAYLOAD_BITS) & TURNS;
            // More than half the circle behind means that another thread's clock reading is later.
            let ahead = behind > TURNS / 2;
            if ahead && !late {
                return;
            }
            let (keeps, base) = if behind == 0 || ahead {
                (word >> PAYLOAD_BITS, word & PAYLOAD)
            } else {
                (turn, self.zero)
            };
            let next = keeps << PAYLOAD_BITS | change(base) & PAYLOAD;
            match slot.compare_exchange_weak(word, next, SeqCst, SeqCst) {
                Ok(_) => return,
                Err(current) => word = current,
            }
        }
    }

    /// The payloads of the slots that the window at `now` covers.
    pub(crate) fn live(&self, now: Tick) -> impl Iterator<Item = u64> + '_ {
        let turn = (now.nanos() / self.slot_nanos) & TURNS;
        self.slots.iter().filter_map(move |slot| {
            let word = slot.load(SeqCst);
            let behind = turn.wrapping_sub(word >> PAYLOAD_BITS) & TURNS;
            (behind < SLOTS as u64 || behind > TURNS - SLOTS as u64).then_some(word & PAYLOAD)
        })
    }

    /// Empties the window.
    pub(crate) fn clear(&self) {
        for slot in &self.slots {
            slot.store(self.zero, SeqCst);
        }
    }
}

/// A window that counts two kinds of things exactly: what went well and what did not.
#[derive(Debug)]
pub(crate) struct Counts(Ring);

impl Counts {
    pub(crate) fn new(window: Duration) -> Self {
        Self(Ring::new(window, 0))
    }

    /// Counts one; a slot that is full (a million of one kind) stops counting both kinds, so that
    /// their ratio stands.
    pub(crate) fn record(&self, good: bool, now: Tick) {
        self.0.update(now, |payload| {
            if payload & COUNT == COUNT || payload >> COUNT_BITS == COUNT {
                return payload;
            }
            payload + if good { 1 << COUNT_BITS } else { 1 }
        });
    }

    /// How many good and bad ones the window at `now` holds.
    pub(crate) fn tally(&self, now: Tick) -> (u64, u64) {
        self.0.live(now).fold((0, 0), |(good, bad), payload| {
            (good + (payload >> COUNT_BITS), bad + (payload & COUNT))
        })
    }

    pub(crate) fn clear(&self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Tick {
        Tick::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn what_is_older_than_the_window_counts_no_more() {
        let counts = Counts::new(Duration::from_secs(10));
        for second in 3600..3605 {
            counts.record(true, at(second));
            counts.record(false, at(second));
        }
        assert_eq!(counts.tally(at(3605)), (5, 5));
        assert_eq!(counts.tally(at(3611)), (3, 3));
        assert_eq!(counts.tally(at(3700)), (0, 0));
        counts.record(false, at(3700));
        assert_eq!(counts.tally(at(3700)), (0, 1));
        counts.clear();
        assert_eq!(counts.tally(at(3700)), (0, 0));
    }

    #[test]
    fn a_writer_whose_clock_reading_is_late_erases_nothing() {
        let counts = Counts::new(Duration::from_secs(10));
        counts.record(true, at(3620));
        counts.record(false, at(3610));
        assert_eq!(counts.tally(at(3620)), (1, 1));
    }

    #[test]
    fn a_full_slot_keeps_its_ratio() {
        let ring = Counts(Ring::new(Duration::from_secs(10), COUNT << COUNT_BITS | 7));
        ring.record(false, at(3600));
        let (good, bad) =
            ring.0.live(at(3600)).next().map_or((0, 0), |p| (p >> COUNT_BITS, p & COUNT));
        assert_eq!((good, bad), (COUNT, 7));
    }
}
