//! What is due next, of one kind of work, with a bound on how much of it runs at once: pure.

use std::{cmp::Reverse, collections::BinaryHeap};

use weft_kernel::Tick;

/// Keys by when they are due. A key may be noted several times; whoever takes it out knows which
/// of them counts.
#[derive(Debug)]
pub(crate) struct Agenda<K> {
    due: BinaryHeap<Reverse<(Tick, K)>>,
    running: usize,
    running_max: usize,
}

impl<K: Ord> Agenda<K> {
    pub(crate) fn new(running_max: usize) -> Self {
        Self { due: BinaryHeap::new(), running: 0, running_max }
    }

    pub(crate) fn note(&mut self, at: Tick, key: K) {
        self.due.push(Reverse((at, key)));
    }

    /// The next key that is due, unless enough is running; with the tick it was noted for.
    pub(crate) fn take(&mut self, now: Tick) -> Option<(Tick, K)> {
        if self.running >= self.running_max || self.next()? > now {
            return None;
        }
        self.due.pop().map(|Reverse(entry)| entry)
    }

    /// When the next key is due; `None` while nothing more may run.
    pub(crate) fn next(&self) -> Option<Tick> {
        if self.running >= self.running_max {
            return None;
        }
        self.due.peek().map(|Reverse((at, _))| *at)
    }

    pub(crate) fn started(&mut self) {
        self.running += 1;
    }

    pub(crate) fn ended(&mut self) {
        self.running = self.running.saturating_sub(1);
    }

    /// Forgets what is not kept, when that is most of it.
    pub(crate) fn prune(&mut self, kept: usize, keep: impl Fn(Tick, &K) -> bool) {
        if self.due.len() > 64 + kept * 2 {
            self.due.retain(|Reverse((at, key))| keep(*at, key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_in_order_and_not_too_many_at_once() {
        let tick = Tick::from_nanos;
        let mut agenda = Agenda::new(2);
        for (at, key) in [(30, 'c'), (10, 'a'), (20, 'b')] {
            agenda.note(tick(at), key);
        }
        assert_eq!(agenda.next(), Some(tick(10)));
        assert_eq!(agenda.take(tick(9)), None);
        for key in ['a', 'b'] {
            assert_eq!(agenda.take(tick(99)).map(|(_, key)| key), Some(key));
            agenda.started();
        }
        assert_eq!((agenda.take(tick(99)), agenda.next()), (None, None));
        agenda.ended();
        assert_eq!(agenda.take(tick(99)), Some((tick(30), 'c')));
    }
}
