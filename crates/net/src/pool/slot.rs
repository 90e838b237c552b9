//! The connections to one endpoint, and who waits for one.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    sync::Arc,
    task::{Context, Waker},
};

use tokio::sync::oneshot;
use weft_kernel::{Error, Reason, Result, Tick};

use super::{Destination, Lease, Lent, Options, Wanted, is_old};
use crate::{clock, h1, h2, io::Alpn};

/// How many may wait for a place at an endpoint, for each connection that it may have.
const WAITERS_PER_CONNECTION: usize = 16;

/// How many may wait however few connections there may be.
const WAITERS_MIN: usize = 1024;

/// How many streams a service is taken to allow before one of its connections has said so; RFC 9113 section
/// 6.5.2 recommends that it be no fewer.
const STREAMS_FIRST: usize = 100;

/// The connections to one endpoint.
pub(crate) struct Slot {
    pub(super) options: RefCell<Arc<Options>>,
    /// Idle HTTP/1.1 connections, the newest last; boxed, since they are lent whole and are large.
    #[expect(clippy::vec_box, reason = "a lent connection keeps its box")]
    pub(super) idle: RefCell<Vec<Box<h1::client::Connection>>>,
    pub(super) open: Cell<usize>,
    pub(super) waiters: RefCell<VecDeque<Waiter>>,
    /// How many of those who wait want a stream.
    pub(super) sharing: Cell<usize>,
    pub(super) shared: RefCell<Vec<(h2::client::Connection, Rc<Lease>)>>,
    /// How many HTTP/2 connections are being opened.
    pub(super) opening: Cell<usize>,
    /// No further one is opened before, since one could not be.
    pub(super) opens_again: Cell<Tick>,
    /// What TLS agreed on last.
    pub(super) speaks: Cell<Option<Alpn>>,
    /// How many streams the last shared connection allowed.
    pub(super) allowed: Cell<usize>,
    pub(super) destination: Arc<dyn Destination>,
}

impl Slot {
    pub(super) fn new(options: Arc<Options>, destination: Arc<dyn Destination>) -> Self {
        Self {
            options: RefCell::new(options),
            idle: RefCell::default(),
            open: Cell::new(0),
            waiters: RefCell::default(),
            sharing: Cell::new(0),
            shared: RefCell::default(),
            opening: Cell::new(0),
            opens_again: Cell::new(Tick::default()),
            speaks: Cell::new(None),
            allowed: Cell::new(STREAMS_FIRST),
            destination,
        }
    }

    pub(super) fn call_next(&self) {
        loop {
            let Some(waiter) = self.waiters.borrow_mut().pop_front() else { break };
            if waiter.call.send(Ok(())).is_ok() {
                break;
            }
        }
    }

    /// Counts a connection that is about to be opened.
    pub(super) fn lease(self: &Rc<Self>) -> Lease {
        self.open.set(self.open.get() + 1);
        Lease(Rc::downgrade(self))
    }

    /// Waits for a place at the end of the queue; at its head, if it has waited already and another was
    /// faster. There may be one now, unless the wait, which began at `since`, was in vain or is over.
    pub(super) async fn queue(
        self: &Rc<Self>,
        (since, until): (Tick, Tick),
        again: bool,
        shares: bool,
    ) -> Result<()> {
        let (call, called) = oneshot::channel();
        {
            let mut waiters = self.waiters.borrow_mut();
            let waiter = Waiter { call, since, shares };
            if again {
                waiters.push_front(waiter);
            } else {
                // Who has given up leaves a dead entry behind.
                if waiters.len() >= self.waiters_max() {
                    waiters.retain(|waiter| !waiter.call.is_closed());
                }
                if waiters.len() >= self.waiters_max() {
                    return Err(self.exhausted());
                }
                waiters.push_back(waiter);
            }
        }
        let mut place = Place::new(self.clone(), called, shares);
        let left = until.since(clock::now());
        match tokio::time::timeout(left, &mut place.called).await {
            Ok(Ok(called)) => called,
            _ => Err(self.exhausted()),
        }
    }

    pub(super) fn waiters_max(&self) -> usize {
        let connections = self.options.borrow().connections_max;
        let queued = connections.saturating_mul(WAITERS_PER_CONNECTION).max(WAITERS_MIN);
        // Beside those who wait for what is being opened.
        queued.saturating_add(self.opening.get().saturating_mul(self.streams_expected()))
    }

    pub(super) fn exhausted(&self) -> Error {
        let say = match self.is_full() {
            true => format!(
                "all {} connections to the endpoint are in use",
                self.options.borrow().connections_max
            ),
            false => "no stream on a connection to the endpoint became free".to_owned(),
        };
        Error::new(Reason::PoolExhausted, say)
    }

    pub(super) fn take_back(&self, connection: Box<h1::client::Connection>) {
        let options = self.options.borrow().clone();
        let worn = self.destination.is_gone()
            || options.requests_max.is_some_and(|most| connection.served >= most)
            || is_old(connection.opened, options.age_max, connection.idle_since)
            || self.idle.borrow().len() >= options.idle_max;
        if worn {
            return;
        }
        self.idle.borrow_mut().push(connection);
        self.call_next();
    }

    pub(super) fn wants_h2(&self, wanted: Wanted) -> bool {
        match wanted {
            Wanted::H1 => false,
            Wanted::H2 => true,
            Wanted::Either => self.speaks.get() == Some(Alpn::H2),
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.open.get() >= self.options.borrow().connections_max
    }

    pub(super) fn take_idle(&self, now: Tick) -> Option<Box<h1::client::Connection>> {
        loop {
            let mut connection = self.idle.borrow_mut().pop()?;
            let mut cx = Context::from_waker(Waker::noop());
            if now < connection.idle_until(self.options.borrow().idle_timeout)
                && connection.is_quiet(&mut cx)
            {
                return Some(connection);
            }
        }
    }

    pub(super) fn take_shared(&self, now: Tick) -> Option<Lent> {
        let options = self.options.borrow().clone();
        let mut shared = self.shared.borrow_mut();
        // One that allows no stream is being drained: it is left to those that it has.
        shared.retain_mut(|(connection, _)| {
            let allowed = connection.streams_allowed();
            if allowed > 0 {
                self.allowed.set(allowed);
            }
            !connection.is_closed() && (allowed > 0 || connection.streams() > 0)
        });
        let most = options.streams_max;
        let connection = shared
            .iter()
            .filter(|(connection, _)| {
                let most = most.min(connection.streams_max).min(connection.streams_allowed());
                connection.streams() < most && goes_on(connection, &options, now)
            })
            .min_by_key(|(connection, _)| connection.streams())
            .map(|(connection, _)| connection.clone())?;
        let stream = connection.begin();
        Some(Lent::H2 { connection, stream })
    }
}

/// Whether a shared connection may carry further streams, once there is room for them.
pub(super) fn goes_on(connection: &h2::client::Connection, options: &Options, now: Tick) -> bool {
    !connection.is_worn()
        && !is_old(connection.opened, options.age_max, now)
        && options.requests_max.is_none_or(|most| connection.served.get() < most)
}

/// One who waits, to be called when there may be a place, or told why there is none.
pub(super) struct Waiter {
    pub(super) call: oneshot::Sender<Result<()>>,
    pub(super) since: Tick,
    /// It waits for a stream of a connection that others have too.
    pub(super) shares: bool,
}

/// The side of one who waits. A call that comes when it has given up goes to the next.
struct Place {
    slot: Rc<Slot>,
    called: oneshot::Receiver<Result<()>>,
    shares: bool,
}

impl Place {
    pub(super) fn new(slot: Rc<Slot>, called: oneshot::Receiver<Result<()>>, shares: bool) -> Self {
        slot.sharing.set(slot.sharing.get() + usize::from(shares));
        Self { slot, called, shares }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.slot.sharing.set(self.slot.sharing.get() - usize::from(self.shares));
        self.called.close();
        if matches!(self.called.try_recv(), Ok(Ok(()))) {
            self.slot.call_next();
        }
    }
}
