//! Following events: from a position on, through history, and then as they come, without a gap.

use std::{collections::VecDeque, sync::Arc};

use tokio::sync::watch;
use weft_kernel::Result;
use weft_ledger::store::until_seen;

use crate::{
    event::Recorded,
    name::StreamName,
    query::EventQuery,
    read::{Direction, PageLimits},
    store::{EventStore, Tail},
};

/// What a follower is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// An event.
    Event(Box<Recorded>),
    /// All that there was has been told; what comes now is new. Told again whenever it is so again.
    CaughtUp,
}

/// What is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Followed {
    /// All events, from a position on.
    All {
        /// The position of the first.
        from: u64,
    },
    /// The events of a stream, from a version on. It need not be there yet.
    Stream {
        /// The stream.
        name: StreamName,
        /// The version of the first.
        from: u64,
    },
    /// The events that match a query, from a position on.
    Matching {
        /// What is meant.
        query: Arc<EventQuery>,
        /// The position of the first.
        from: u64,
    },
}

/// Tells events one by one. Who drops it has followed.
pub struct Follower {
    store: EventStore,
    followed: Followed,
    limits: PageLimits,
    read: VecDeque<Recorded>,
    tail: watch::Receiver<Tail>,
    is_caught_up: bool,
}

impl EventStore {
    /// Follows events.
    pub fn follow(&self, followed: Followed, limits: PageLimits) -> Follower {
        let tail = self.0.tail();
        let (store, read) = (self.clone(), VecDeque::new());
        Follower { store, followed, limits, read, tail, is_caught_up: false }
    }
}

impl Follower {
    /// The next event, or that there is none for the moment. Waits only after that was told; cancel-safe.
    ///
    /// # Errors
    /// What the store says.
    pub async fn next(&mut self) -> Result<Told> {
        loop {
            if let Some(event) = self.read.pop_front() {
                match &mut self.followed {
                    Followed::All { from } | Followed::Matching { from, .. } => {
                        *from = event.position + 1;
                    }
                    Followed::Stream { from, .. } => *from = event.version + 1,
                }
                return Ok(Told::Event(Box::new(event)));
            }
            // Looked at before it is read: what comes after that wakes.
            let tail = *self.tail.borrow_and_update();
            until_seen(&*self.store.0.store, tail.seen).await?;
            self.read = self.page().await?;
            if !self.read.is_empty() {
                self.is_caught_up = false;
                continue;
            }
            if !self.is_caught_up {
                self.is_caught_up = true;
                return Ok(Told::CaughtUp);
            }
            if self.tail.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    async fn page(&mut self) -> Result<VecDeque<Recorded>> {
        let page = match &mut self.followed {
            Followed::All { from } => {
                self.store.read_all(*from, Direction::Forward, self.limits).await?
            }
            Followed::Matching { query, from } => {
                let (page, end) = self.store.0.find_forward(query, *from, self.limits).await?;
                if page.events.is_empty() {
                    *from = end.max(*from);
                }
                page
            }
            Followed::Stream { name, from } => {
                if self.store.stream(name).await?.is_none_or(|info| info.next <= *from) {
                    return Ok(VecDeque::new());
                }
                match self.store.read(name, *from, Direction::Forward, self.limits).await {
                    Ok(page) => page,
                    // It was deleted, and may begin again.
                    Err(error) if error.reason() == weft_kernel::Reason::NotFound => {
                        return Ok(VecDeque::new());
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        Ok(page.events.into())
    }
}
