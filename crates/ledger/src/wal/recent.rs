//! What was written last, kept in memory: fresh records are read as slices of it, without a system call.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::format::Place;

/// What a group takes beside its bytes: its place in the queue, and what the allocator and the counts
/// of its references need.
pub(super) const EXTRA: usize = 96;

#[derive(Debug)]
struct Group {
    file: u32,
    offset: u32,
    bytes: Bytes,
}

/// The groups that were written last, up to a number of bytes.
#[derive(Debug)]
pub(crate) struct Recent {
    groups: VecDeque<Group>,
    bytes: usize,
    bytes_max: usize,
}

impl Recent {
    /// Keeps up to `bytes_max`.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { groups: VecDeque::new(), bytes: 0, bytes_max }
    }

    /// Keeps a group that lies at `offset` of `file`; groups come in the order in which they are written.
    pub(crate) fn push(&mut self, file: u32, offset: u32, bytes: Bytes) {
        self.bytes += bytes.len() + EXTRA;
        self.groups.push_back(Group { file, offset, bytes });
        while self.bytes > self.bytes_max
            && let Some(oldest) = self.groups.pop_front()
        {
            self.bytes -= oldest.bytes.len() + EXTRA;
        }
    }

    /// Lets go of everything, which readers find in the files; whether there was anything.
    pub(crate) fn clear(&mut self) -> bool {
        self.bytes = 0;
        !std::mem::take(&mut self.groups).is_empty()
    }

    /// The image at `place`, if it is still here.
    pub(crate) fn get(&self, place: &Place) -> Option<Bytes> {
        let at = (place.file, place.frame);
        let after = self.groups.partition_point(|group| (group.file, group.offset) <= at);
        let group = self.groups.get(after.checked_sub(1)?)?;
        if group.file != place.file {
            return None;
        }
        let from = (place.frame - group.offset) as usize + place.record as usize;
        let to = from + place.len as usize;
        (to <= group.bytes.len()).then(|| group.bytes.slice(from..to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_go_when_all_that_they_take_is_more_than_the_bound() {
        let mut recent = Recent::new(10_000);
        for number in 0..1000 {
            recent.push(1, number * 8, Bytes::from_static(b"12345678"));
        }
        assert!(recent.groups.len() <= 10_000 / EXTRA, "{}", recent.groups.len());
        assert!(recent.clear() && !recent.clear());
        assert_eq!((recent.groups.len(), recent.bytes), (0, 0));
    }
}
