//! Streams of HTTP/2 connections: waited for, and the connections opened that they need.
//!
//! A connection is opened beside the requests that need it, so that each of them may have a stream of
//! whichever connection has one first: the new one, or one that is there and on which a stream has ended.
//! As many are opened side by side as those who wait will fill.

use std::{cell::Cell, error::Error as _, rc::Rc, time::Duration};

use weft_kernel::{Error, Result, Tick};

use super::{Lease, Lent, Opened, Opener, Pool, Slot, Wanted, goes_on};
use crate::{clock, connect::ConnectTarget};

/// The pause after a connection could not be opened though others to the endpoint are there or on their
/// way: those who wait have these to wait for.
const PAUSE: Duration = Duration::from_millis(250);

impl Pool {
    /// Waits until `patience` for a stream of a connection that is there or being opened, and opens one
    /// unless those that are being opened will do. That it cannot be opened within `timeout` is told to
    /// those who have no other to wait for.
    pub(super) async fn lend_shared(
        &self,
        slot: &Rc<Slot>,
        (timeout, patience): (Duration, Tick),
        target: impl Fn() -> ConnectTarget,
    ) -> Result<Lent> {
        let began = clock::now();
        let mut again = false;
        loop {
            if slot.needs_another() {
                let opening = Opening::new(slot.clone(), timeout);
                tokio::task::spawn_local(opening.run(target(), self.opener.clone()));
            }
            slot.queue((began, patience), again, true).await?;
            again = true;
            if let Some(lent) = slot.take_shared(clock::now()) {
                return Ok(lent);
            }
        }
    }
}

impl Slot {
    /// How many streams a connection that is being opened is good for, as far as is known.
    pub(super) fn streams_expected(&self) -> usize {
        let options = self.options.borrow();
        let requests = options.requests_max.and_then(|most| usize::try_from(most).ok());
        let streams = self.allowed.get().min(options.streams_max);
        streams.min(requests.unwrap_or(usize::MAX)).max(1)
    }

    /// Whether there is to be another connection, for one who is about to wait.
    fn needs_another(&self) -> bool {
        let due = self.opening.get().saturating_mul(self.streams_expected());
        self.sharing.get() >= due && !self.is_full() && clock::now() >= self.opens_again.get()
    }

    /// Whether a connection is there, or on its way, that may have a stream sooner or later.
    fn has_another(&self) -> bool {
        let (now, options) = (clock::now(), self.options.borrow());
        self.opening.get() > 0
            || self.shared.borrow_mut().iter_mut().any(|(connection, _)| {
                connection.streams_allowed() > 0
                    && !connection.is_closed()
                    && goes_on(connection, &options, now)
            })
    }

    /// Tells that a connection could not be opened: to whoever waits for a stream first, and to all who
    /// have waited since `before`.
    fn tell_failed(&self, error: Error, before: Tick) {
        let mut waiters = self.waiters.borrow_mut();
        let mut error = Some(error);
        let (reason, retry, say, cause) = {
            let Some(error) = &error else { return };
            let cause = error.source().map(ToString::to_string);
            (error.reason(), error.retryable(), error.said().to_owned(), cause)
        };
        let another = || {
            let error = Error::new(reason, say.clone()).retry(retry);
            match &cause {
                Some(cause) => error.because(cause.clone()),
                None => error,
            }
        };
        for waiter in std::mem::take(&mut *waiters) {
            let told = waiter.shares
                && !waiter.call.is_closed()
                && (error.is_some() || waiter.since <= before);
            if told {
                let _ = waiter.call.send(Err(error.take().unwrap_or_else(another)));
            } else {
                waiters.push_back(waiter);
            }
        }
    }
}

/// A connection that is being opened.
struct Opening {
    slot: Rc<Slot>,
    timeout: Duration,
    over: Cell<bool>,
    /// Counted from the beginning, so that no more are opened than there may be.
    lease: Option<Lease>,
}

impl Opening {
    fn new(slot: Rc<Slot>, timeout: Duration) -> Self {
        slot.opening.set(slot.opening.get() + 1);
        let lease = Some(slot.lease());
        Self { slot, timeout, over: Cell::new(false), lease }
    }

    fn end(&self) {
        if !self.over.replace(true) {
            self.slot.opening.set(self.slot.opening.get() - 1);
        }
    }

    async fn run(mut self, target: ConnectTarget, opener: Opener) {
        let lease = self.lease.take();
        let slot = &self.slot;
        let opened = opener.open(slot, Wanted::H2, self.timeout, &target).await;
        self.end();
        let now = clock::now();
        let error = match opened {
            Ok(Opened::H2(connection)) => {
                if let Some(lease) = lease {
                    slot.shared.borrow_mut().push((connection, Rc::new(lease)));
                }
                // As many as may find a stream, if so many wait.
                let called = slot.streams_expected().min(slot.sharing.get());
                for _ in 0..called {
                    slot.call_next();
                }
                return;
            }
            // Nothing else was wanted.
            Ok(Opened::H1(_)) => return,
            Err(error) => error,
        };
        if !slot.has_another() {
            // Those who have waited for about as long as it took at most have waited for this one.
            slot.tell_failed(error, now.minus(self.timeout / 2));
            return;
        }
        slot.opens_again.set(now.plus(PAUSE));
        drop(lease);
        tokio::time::sleep(PAUSE).await;
        slot.call_next();
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.end();
    }
}
