//! What is for who is there when it comes: records without any time to live.
//!
//! Such a record is over before it is seen, and would reach nobody. So what becomes visible while there
//! are consumers is theirs for a moment, however long the disk took; whoever comes later, and who asks
//! for a single record, finds it expired.

use std::{collections::VecDeque, time::Duration};

use weft_kernel::Tick;

use super::{Group, Now};

/// How long something stays for the consumers that were there.
const OFFER: Duration = Duration::from_millis(250);
/// What comes within this time is offered together.
const TOGETHER: Duration = Duration::from_millis(50);

/// Runs of positions with the end of their time, both ascending; a handful at most.
#[derive(Debug, Default)]
pub(crate) struct Offers(VecDeque<(u64, u64, Tick)>);

impl Group {
    /// Positions from `from` to below `to` have become visible: whoever is there may have them.
    pub(crate) fn offer(&mut self, from: u64, to: u64, now: Now) {
        if self.consumers.len() == 0 || self.consumers.paused {
            return;
        }
        let offers = &mut self.offers.0;
        while offers.front().is_some_and(|(_, _, until)| *until <= now.tick) {
            offers.pop_front();
        }
        let until = now.tick.plus(OFFER);
        match offers.back_mut() {
            Some((_, end, last)) if *end == from && last.plus(TOGETHER) > until => *end = to,
            _ => offers.push_back((from, to, until)),
        }
    }

    /// Whether a position is offered now.
    pub(crate) fn offered(&self, position: u64, now: Now) -> bool {
        self.offers
            .0
            .iter()
            .any(|(from, to, until)| (*from..*to).contains(&position) && now.tick < *until)
    }
}
