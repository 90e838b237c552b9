//! Streams that are ended from here while their sender is not done: the service of a client that has gone,
//! a client that is answered before it has sent all.
//!
//! What such a sender has under way is passed over for as long as the stream is remembered. Once it is
//! forgotten, each further frame counts as a fault of the connection, which the library ends after some. So
//! streams are remembered for long enough, and a connection with many of them is replaced in good time.

use std::{cell::Cell, rc::Rc, time::Duration};

/// So many are enough for one connection.
const CUT_MAX: u32 = 1000;
/// How many streams that were ended from here are remembered, all of a connection's life and those that are
/// still under way when it has had enough, and for how long.
pub(super) const KEPT: (usize, Duration) = (2 * CUT_MAX as usize, Duration::from_secs(10));

/// How many streams of a connection were cut.
#[derive(Clone, Default)]
pub(super) struct Cut(Rc<Cell<u32>>);

impl Cut {
    pub(super) fn count(&self) {
        self.0.set(self.0.get().saturating_add(1));
    }

    /// Whether the connection is to carry no more.
    pub(super) fn is_enough(&self) -> bool {
        self.0.get() >= CUT_MAX
    }
}
