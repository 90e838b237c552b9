//! Which append comes when, and the heads of streams that are in use.
//!
//! Whoever appends knows under one lock where in the log its events will stand, so that heads can say so in the same
//! transaction. The lock is held while a transaction is made and submitted, which is work in memory, and never
//! while anybody waits: a head that is not here is read from the disk before, by one of those that need it.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use tokio::sync::Notify;

use crate::{head::Head, index::Recent, name::StreamName};

/// Heads that are kept in memory.
const HEADS_MAX: usize = 16_384;

/// What is known under the lock.
#[derive(Debug)]
pub(crate) struct Order {
    /// The position of the next event.
    pub(crate) next: u64,
    /// The newest events.
    pub(crate) recent: Recent,
    heads: HashMap<StreamName, Slot>,
    /// Those that are known, the oldest first.
    queue: VecDeque<StreamName>,
}

#[derive(Clone, Debug)]
enum Slot {
    /// Somebody reads it.
    Loading(Arc<Notify>),
    Known(Arc<Head>),
}

/// What is known of a head.
#[derive(Clone, Debug)]
pub(crate) enum Seen {
    /// All of it.
    Known(Arc<Head>),
    /// Somebody reads it, and will tell.
    Loading(Arc<Notify>),
    /// Nothing: who asks is to read it, and to put it in.
    Mine,
}

impl Order {
    /// Of a log whose next event has this position, with the newest events.
    pub(crate) fn at(next: u64, recent: Recent) -> Self {
        Self { next, recent, heads: HashMap::new(), queue: VecDeque::new() }
    }

    /// A head, if it is here.
    pub(crate) fn head(&self, name: &StreamName) -> Option<&Arc<Head>> {
        match self.heads.get(name) {
            Some(Slot::Known(head)) => Some(head),
            _ => None,
        }
    }

    /// A head, or who reads it. If nobody does, who asks has to.
    pub(crate) fn claim(&mut self, name: &StreamName) -> Seen {
        match self.heads.get(name) {
            Some(Slot::Known(head)) => Seen::Known(Arc::clone(head)),
            Some(Slot::Loading(notify)) => Seen::Loading(Arc::clone(notify)),
            None => {
                self.heads.insert(name.clone(), Slot::Loading(Arc::default()));
                Seen::Mine
            }
        }
    }

    /// What was read of a head, or `None` if it could not be; those that wait for it are told.
    pub(crate) fn loaded(&mut self, name: &StreamName, head: Option<Head>) {
        let slot = match head {
            Some(head) => {
                self.queue.push_back(name.clone());
                self.heads.insert(name.clone(), Slot::Known(Arc::new(head)))
            }
            None => self.heads.remove(name),
        };
        if let Some(Slot::Loading(notify)) = slot {
            notify.notify_waiters();
        }
        while self.queue.len() > HEADS_MAX {
            // What is on the way to the disk is shown by the store as soon as it is there.
            let oldest = self.queue.pop_front();
            oldest.map(|name| self.heads.remove(&name));
        }
    }

    /// A head has changed.
    pub(crate) fn changed(&mut self, name: StreamName, head: Head) {
        if let Some(slot) = self.heads.get_mut(&name) {
            *slot = Slot::Known(Arc::new(head));
        }
    }
}
