//! Waits for any of several groups.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use weft_ledger::{ConsumerId, EmbeddedStore, GroupId};

/// Waits for any of several groups, and answers which; passes its turns on if it is dropped before.
pub(super) struct Waiting<'a> {
    pub(super) store: &'a dyn EmbeddedStore,
    pub(super) groups: &'a [GroupId],
    pub(super) id: ConsumerId,
    pub(super) waiting: bool,
}

impl Future for Waiting<'_> {
    type Output = usize;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<usize> {
        let ready = self
            .groups
            .iter()
            .position(|group| self.store.poll_ready(*group, self.id, context).is_ready());
        self.waiting = true;
        let Some(at) = ready else { return Poll::Pending };
        // The others are waited for no more; those behind it were asked in an earlier poll.
        let others = self.groups.iter().enumerate().filter(|(other, _)| *other != at);
        for (_, group) in others {
            self.store.pass_turn(*group, self.id);
        }
        self.waiting = false;
        Poll::Ready(at)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.waiting {
            for group in self.groups {
                self.store.pass_turn(*group, self.id);
            }
        }
    }
}
