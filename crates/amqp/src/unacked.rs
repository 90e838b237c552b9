//! Deliveries of a channel that are not settled, by their tags.
//!
//! Tags rise by one, so the tag is an index; settling one and settling all up to one cost what they
//! settle and no search.

use std::collections::VecDeque;

/// Unsettled deliveries of one channel.
#[derive(Debug)]
pub(crate) struct Unacked<T> {
    /// The tag of the first place.
    first: u64,
    places: VecDeque<Option<T>>,
    count: usize,
}

impl<T> Default for Unacked<T> {
    fn default() -> Self {
        Self { first: 1, places: VecDeque::new(), count: 0 }
    }
}

impl<T> Unacked<T> {
    /// Holds a delivery, and gives it its tag.
    pub(crate) fn hold(&mut self, delivery: T) -> u64 {
        self.places.push_back(Some(delivery));
        self.count += 1;
        self.first + self.places.len() as u64 - 1
    }

    /// Gives a tag to a delivery that needs no settling.
    pub(crate) fn pass(&mut self) -> u64 {
        if self.places.is_empty() {
            self.first += 1;
            return self.first - 1;
        }
        self.places.push_back(None);
        self.first + self.places.len() as u64 - 1
    }

    /// How many are held.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Whether a tag is of a delivery that was made and is not settled.
    pub(crate) fn knows(&self, tag: u64) -> bool {
        tag.checked_sub(self.first)
            .and_then(|at| self.places.get(usize::try_from(at).ok()?))
            .is_some_and(Option::is_some)
    }

    /// Lets one go.
    pub(crate) fn take(&mut self, tag: u64) -> Option<T> {
        let at = usize::try_from(tag.checked_sub(self.first)?).ok()?;
        let taken = self.places.get_mut(at)?.take()?;
        self.count -= 1;
        self.trim();
        Some(taken)
    }

    /// Lets all up to `tag` go, in their order; 0 stands for all.
    pub(crate) fn take_until(&mut self, tag: u64, mut each: impl FnMut(u64, T)) {
        let end = match tag {
            0 => self.places.len(),
            tag => (tag + 1).saturating_sub(self.first).min(self.places.len() as u64) as usize,
        };
        for (tag, place) in (self.first..).zip(self.places.drain(..end)) {
            if let Some(delivery) = place {
                self.count -= 1;
                each(tag, delivery);
            }
        }
        self.first += end as u64;
        self.trim();
    }

    /// Holds one again that was let go, by its tag.
    pub(crate) fn put_back(&mut self, tag: u64, delivery: T) {
        while tag < self.first {
            self.places.push_front(None);
            self.first -= 1;
        }
        let at = (tag - self.first) as usize;
        if at >= self.places.len() {
            self.places.resize_with(at + 1, || None);
        }
        if let Some(place) = self.places.get_mut(at)
            && place.replace(delivery).is_none()
        {
            self.count += 1;
        }
    }

    /// The one that has been held longest.
    pub(crate) fn oldest(&self) -> Option<&T> {
        // The front is never empty: settled places are trimmed away there.
        self.places.front().and_then(Option::as_ref)
    }

    fn trim(&mut self) {
        while let Some(None) = self.places.front() {
            self.places.pop_front();
            self.first += 1;
        }
        if self.places.is_empty() && self.places.capacity() > 4096 {
            self.places.shrink_to(64);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn tags_are_settled_as_in_a_map(steps in proptest::collection::vec((0u8..7, 0u64..40), 0..120)) {
            let (mut unacked, mut model) = (Unacked::default(), BTreeMap::new());
            let mut next = 1;
            for (step, number) in steps {
                match step {
                    0 | 1 => {
                        prop_assert_eq!(unacked.hold(number), next);
                        model.insert(next, number);
                        next += 1;
                    }
                    2 => {
                        prop_assert_eq!(unacked.pass(), next);
                        next += 1;
                    }
                    3 => {
                        prop_assert_eq!(unacked.knows(number), model.contains_key(&number));
                        prop_assert_eq!(unacked.take(number), model.remove(&number));
                    }
                    4 => {
                        let mut taken = Vec::new();
                        unacked.take_until(number, |_tag, held| taken.push(held));
                        let end = if number == 0 { u64::MAX } else { number };
                        let expect: Vec<_> =
                            model.range(..=end).map(|(_, held)| *held).collect();
                        model.retain(|tag, _| *tag > end);
                        prop_assert_eq!(taken, expect);
                    }
                    5 => {
                        // Two are let go, and held again in another order.
                        let mut taken = Vec::new();
                        unacked.take_until(number, |tag, held| taken.push((tag, held)));
                        for (tag, held) in taken.into_iter().rev() {
                            prop_assert!(!unacked.knows(tag));
                            unacked.put_back(tag, held);
                        }
                    }
                    _ => prop_assert_eq!(unacked.oldest(), model.values().next()),
                }
                prop_assert_eq!(unacked.len(), model.len());
            }
        }
    }
}
