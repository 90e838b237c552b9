//! Compaction: of a log that keeps the last record of each key, older ones in segments are removed.
//!
//! The records go by an ordinary transaction, so that a crash leaves either state, and their space
//! comes back when their segment is written anew.

use std::collections::HashSet;

use super::House;
use crate::{
    core::Compactable,
    format::Image,
    options::Durability,
    segment::Visited,
    transaction::{Op, Transaction},
};

/// The most keys that one round keeps in mind; the rest has its turn when these are fewer.
const KEYS_MAX: usize = 1 << 20;
/// The most records that one transaction removes.
const REMOVE_MAX: usize = 1000;

/// One round over every log that asks for it and has got new segments; one that could not be gone
/// through to its end has its turn again.
pub(super) fn compact(house: &House<'_>) {
    let logs = house.shared.core.lock().compactable();
    for log in logs {
        if !compact_one(house, &log) {
            house.shared.core.lock().compact_again(log.log);
        }
    }
}

/// Whether all of it was gone through.
fn compact_one(house: &House<'_>, log: &Compactable) -> bool {
    let (older, whole) = older(house, log);
    for chunk in older.chunks(REMOVE_MAX) {
        let mut transaction = Transaction::new(Durability::Os);
        let remove = |&position: &u64| Op::Remove { log: log.log, position, required: false };
        transaction.ops.extend(chunk.iter().map(remove));
        let mut core = house.shared.core.lock();
        let Ok((_, wakes)) = core.submit(transaction, &[], house.now) else { return false };
        drop(core);
        wakes.wake();
        house.service.kick();
    }
    whole
}

/// The positions in segments whose key came again later, and whether these are all.
fn older(house: &House<'_>, log: &Compactable) -> (Vec<u64>, bool) {
    let mut keys: HashSet<Vec<u8>> = HashSet::new();
    let mut older = Vec::new();
    let mut whole = true;
    for (position, place) in &log.tail {
        if let Ok(image) = house.files.image(log.log.0, *position, place)
            && let Ok(found) = Image::parse(&image)
            && !found.key.is_empty()
            && keys.len() < KEYS_MAX
        {
            keys.insert(found.key.to_vec());
        }
    }
    for (segment, runs) in log.segments.iter().rev() {
        let Ok(segment) = house.files.segments.get(*segment) else {
            whole = false;
            break;
        };
        let mut found: Vec<(u64, Vec<u8>)> = Vec::new();
        for &(first, last) in runs {
            let read = segment.visit(log.log.0, first, last, u64::MAX, &mut |visited| {
                if let Visited::Record(image) = visited
                    && let Ok(image) = Image::parse(&image)
                    && !image.key.is_empty()
                {
                    found.push((image.position, image.key.to_vec()));
                }
                true
            });
            whole &= read.is_ok();
        }
        if !whole {
            break;
        }
        for (position, key) in found.into_iter().rev() {
            if keys.contains(&key) {
                older.push(position);
            } else if keys.len() < KEYS_MAX {
                keys.insert(key);
            }
        }
    }
    older.sort_unstable();
    (older, whole)
}
