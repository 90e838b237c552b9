//! Looks over one segment after the other, so that damage is known before somebody needs what it hit.

use std::{error::Error as _, io, time::Duration};

use weft_kernel::{Error, Tick};

use super::House;
use crate::{disk::passes, record::LogId, segment::Visited};

/// How long between two segments.
const EVERY: Duration = Duration::from_secs(60);

/// Where the round is.
#[derive(Debug, Default)]
pub(crate) struct Scrub {
    last: Tick,
    next: u32,
}

/// Whether a segment cannot be opened only for now.
fn passing(error: &Error) -> bool {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(inner) = inner.downcast_ref::<io::Error>() {
            return passes(inner);
        }
        cause = inner.source();
    }
    false
}

impl Scrub {
    /// Reads one segment if it is time, and tells of the records in it that are damaged.
    pub(crate) fn step(&mut self, house: &House<'_>) {
        if house.now.tick.since(self.last) < EVERY {
            return;
        }
        self.last = house.now.tick;
        let all = house.files.segments.all();
        let next = all.iter().map(|(number, _)| *number).find(|number| *number >= self.next);
        let Some(number) = next else {
            self.next = 0;
            return;
        };
        self.next = number + 1;
        let read = house.files.segments.get(number).and_then(|segment| {
            let extents: Vec<_> = segment.extents().copied().collect();
            let mut torn = Vec::new();
            for extent in extents {
                segment.visit(extent.log, extent.first, extent.last, u64::MAX, &mut |visited| {
                    match visited {
                        Visited::Record(_) => {}
                        Visited::Torn(range) => torn.push(range),
                        Visited::Lost { position, why } => {
                            super::tell(house, LogId(extent.log), position, &why);
                        }
                    }
                    true
                })?;
            }
            torn.into_iter().for_each(|range| house.files.set_segment_aside(&segment, range));
            Ok(())
        });
        if let Err(error) = read {
            if passing(&error) {
                self.next = number;
                return;
            }
            let path = crate::segment::name(number);
            house.files.damages.tell(format!("{path} cannot be read: {}", error.detail()));
        }
    }
}
