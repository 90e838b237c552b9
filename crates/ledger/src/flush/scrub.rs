//! Looks over one segment after the other, so that damage is known before somebody needs what it hit.

use std::time::Duration;

use weft_kernel::Tick;

use super::House;
use crate::segment::Visited;

/// How long between two segments.
const EVERY: Duration = Duration::from_secs(60);

/// Where the round is.
#[derive(Debug, Default)]
pub(crate) struct Scrub {
    last: Tick,
    next: u32,
}

impl Scrub {
    /// Reads one segment if it is time; gives how many of its records are damaged.
    pub(crate) fn step(&mut self, house: &House<'_>) -> u64 {
        if house.now.tick.since(self.last) < EVERY {
            return 0;
        }
        self.last = house.now.tick;
        let all = house.files.segments.all();
        let next = all.iter().map(|(number, _)| *number).find(|number| *number >= self.next);
        let Some(number) = next else {
            self.next = 0;
            return 0;
        };
        self.next = number + 1;
        let mut damaged = 0;
        let read = house.files.segments.get(number).and_then(|segment| {
            let extents: Vec<_> = segment.extents().copied().collect();
            for extent in extents {
                segment.visit(extent.log, extent.first, extent.last, u64::MAX, &mut |visited| {
                    if let Visited::Lost { position, why } = visited {
                        damaged += 1;
                        tracing::error!(log = extent.log, position, segment = number, why);
                    }
                    true
                })?;
            }
            Ok(())
        });
        if let Err(error) = read {
            damaged += 1;
            tracing::error!(segment = number, error = %error.detail(), "a segment cannot be read");
        }
        damaged
    }
}
