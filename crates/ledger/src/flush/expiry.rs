//! What expires. Entries of maps are deleted a few at a time. When the records of queues expire that are in
//! segments, memory knows while the ledger is open, and it is read again once after each opening.

use weft_kernel::Reason;

use super::House;
use crate::{format::Image, segment::Visited};

/// The most entries that are deleted in one transaction.
const ENTRIES_MAX: usize = 256;

/// Deletes entries of maps whose time is over; whether there were any.
pub(super) fn entries(house: &House<'_>) -> bool {
    let (expired, missing, generation) = {
        let mut core = house.shared.core.lock();
        let (expired, missing) = core.expire_entries(house.now, ENTRIES_MAX);
        (expired, missing, core.generation())
    };
    let more = !missing.is_empty();
    if more && let Err(error) = house.shared.fetch_now(generation, missing) {
        tracing::warn!(error = %error.detail(), "it cannot be read which entries of maps have expired");
        return false;
    }
    let Some(wakes) = expired else { return more };
    wakes.wake();
    house.service.kick();
    true
}

/// Reads one run of records; whether there was any.
pub(super) fn look(house: &House<'_>) -> bool {
    let next = house.shared.core.lock().next_unseen();
    let Some((log, segment, first, last)) = next else { return false };
    let mut times = Vec::new();
    let read = house.files.segments.get(segment).and_then(|segment| {
        segment.visit(log.0, first, last, u64::MAX, &mut |visited| {
            if let Visited::Record(image) = visited
                && let Ok(image) = Image::parse(&image)
                && image.expires_ms != 0
            {
                times.push((image.position, image.expires_ms));
            }
            true
        })
    });
    if let Err(error) = &read {
        tracing::warn!(%log, error = %error.detail(), "it cannot be read when records expire");
    }
    // What is damaged will not be readable the next time either.
    let over =
        read.as_ref().map_or_else(|error| error.reason() == Reason::StorageCorrupt, |()| true);
    let times = over.then_some(times);
    let wakes = house.shared.core.lock().seen(log, (first, last), times, house.now);
    wakes.wake();
    over
}
