//! The connections of one worker to the endpoints of services.
//!
//! Every worker has a pool of its own, so that lending a connection is a look into a table and takes no
//! lock. An HTTP/1.1 connection is lent to one exchange at a time, newest first; an HTTP/2 connection is
//! shared by streams. A connection is retired when it is idle or old or has served enough, when its
//! endpoint is gone, and when the service said how long it keeps one open.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    rc::{Rc, Weak},
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};

use tokio::sync::{Notify, oneshot};
use weft_kernel::{Error, Reason, Result, SystemClock, Tick};
use weft_wire::h1::HeadLimits;

use crate::{
    connect::{Target, connect},
    h1, h2,
    io::Alpn,
    tasks::Stop,
};

/// How many may wait for a place at an endpoint, for each connection that it may have.
const WAITERS_PER_CONNECTION: usize = 16;
/// How many may wait however few connections there may be.
const WAITERS_MIN: usize = 1024;

/// How many streams a service is taken to allow before one of its connections has said so; RFC 9113 section
/// 6.5.2 recommends that it be no fewer.
const STREAMS_FIRST: usize = 100;

/// How many connections there may be to one endpoint, and for how long.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Most open connections; who needs another waits for one, as long as its request may.
    pub connections_max: usize,
    /// Most idle connections that are kept.
    pub idle_max: usize,
    /// An idle connection is retired after this.
    pub idle_timeout: Duration,
    /// A connection is retired at this age, ± 10 %.
    pub age_max: Option<Duration>,
    /// A connection is retired after this many requests.
    pub requests_max: Option<u64>,
    /// Most concurrent streams on one HTTP/2 connection.
    pub streams_max: usize,
    /// Limits of a response head.
    pub head: HeadLimits,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connections_max: 1024,
            idle_max: 256,
            idle_timeout: Duration::from_secs(55),
            age_max: None,
            requests_max: None,
            streams_max: 100,
            head: HeadLimits { bytes_max: 60 * 1024, count_max: 100 },
        }
    }
}

/// What connections lead to.
pub trait Destination {
    /// Its number, which no other ever has.
    fn id(&self) -> u64;
    /// Whether it has left for good, so that connections to it are closed once they are idle.
    fn is_gone(&self) -> bool;
}

/// Which version of HTTP is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// HTTP/1.1.
    H1,
    /// HTTP/2, by ALPN under TLS, by prior knowledge without.
    H2,
    /// What TLS agrees on; HTTP/1.1 without TLS.
    Either,
}

/// A connection that was lent.
pub enum Lent {
    /// For one exchange.
    H1 {
        /// The connection.
        connection: Box<h1::client::Connection>,
        /// Where it goes afterwards.
        home: Home,
    },
    /// For one stream.
    H2 {
        /// The connection.
        connection: h2::client::Connection,
        /// The stream, counted.
        stream: h2::client::Stream,
    },
}

impl Lent {
    /// Whether it has served before.
    pub fn is_reused(&self) -> bool {
        match self {
            Self::H1 { connection, .. } => connection.served > 0,
            Self::H2 { connection, .. } => connection.served.get() > 1,
        }
    }
}

/// Where an HTTP/1.1 connection goes when its exchange has ended cleanly.
#[derive(Clone)]
pub struct Home(Weak<Slot>);

impl Home {
    /// A home that keeps nothing.
    pub const fn nowhere() -> Self {
        Self(Weak::new())
    }

    pub(crate) fn welcome(self, connection: Box<h1::client::Connection>) {
        if let Some(slot) = self.0.upgrade() {
            slot.take_back(connection);
        }
    }
}

/// Counts a connection as open for as long as it lives.
pub(crate) struct Lease(Weak<Slot>);

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(slot) = self.0.upgrade() {
            slot.open.set(slot.open.get().saturating_sub(1));
            slot.call_next();
        }
    }
}

/// The connections to one endpoint.
pub(crate) struct Slot {
    options: RefCell<Arc<Options>>,
    /// Idle HTTP/1.1 connections, the newest last; boxed, since they are lent whole and are large.
    #[expect(clippy::vec_box, reason = "a lent connection keeps its box")]
    idle: RefCell<Vec<Box<h1::client::Connection>>>,
    open: Cell<usize>,
    waiters: RefCell<VecDeque<oneshot::Sender<()>>>,
    shared: RefCell<Vec<(h2::client::Connection, Rc<Lease>)>>,
    /// An HTTP/2 connection is being opened.
    opening: Cell<bool>,
    opened: Notify,
    /// What TLS agreed on last.
    speaks: Cell<Option<Alpn>>,
    /// How many streams the last shared connection allowed.
    allowed: Cell<usize>,
    destination: Arc<dyn Destination>,
}

impl Slot {
    fn new(options: Arc<Options>, destination: Arc<dyn Destination>) -> Self {
        Self {
            options: RefCell::new(options),
            idle: RefCell::default(),
            open: Cell::new(0),
            waiters: RefCell::default(),
            shared: RefCell::default(),
            opening: Cell::new(false),
            opened: Notify::new(),
            speaks: Cell::new(None),
            allowed: Cell::new(STREAMS_FIRST),
            destination,
        }
    }

    fn call_next(&self) {
        while let Some(waiter) = self.waiters.borrow_mut().pop_front() {
            if waiter.send(()).is_ok() {
                break;
            }
        }
    }

    /// Waits for a place at the end of the queue; at its head, if it has waited already and another was
    /// faster. Whether there may be one now: `false` after `until`.
    async fn queue(self: &Rc<Self>, until: Tick, again: bool) -> bool {
        let (call, called) = oneshot::channel();
        {
            let mut waiters = self.waiters.borrow_mut();
            if again {
                waiters.push_front(call);
            } else {
                // Who has given up leaves a dead entry behind.
                if waiters.len() >= self.waiters_max() {
                    waiters.retain(|waiter| !waiter.is_closed());
                }
                if waiters.len() >= self.waiters_max() {
                    return false;
                }
                waiters.push_back(call);
            }
        }
        let mut place = Place { slot: self.clone(), called };
        let left = until.since(SystemClock::tick());
        matches!(tokio::time::timeout(left, &mut place.called).await, Ok(Ok(())))
    }

    fn waiters_max(&self) -> usize {
        let connections = self.options.borrow().connections_max;
        connections.saturating_mul(WAITERS_PER_CONNECTION).max(WAITERS_MIN)
    }

    fn take_back(&self, connection: Box<h1::client::Connection>) {
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

    fn wants_h2(&self, wanted: Wanted) -> bool {
        match wanted {
            Wanted::H1 => false,
            Wanted::H2 => true,
            Wanted::Either => self.speaks.get() == Some(Alpn::H2),
        }
    }

    fn is_full(&self) -> bool {
        self.open.get() >= self.options.borrow().connections_max
    }

    fn take_idle(&self, now: Tick) -> Option<Box<h1::client::Connection>> {
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

    fn take_shared(&self, now: Tick) -> Option<Lent> {
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
                connection.streams() < most
                    && !connection.is_worn()
                    && !is_old(connection.opened, options.age_max, now)
                    && options.requests_max.is_none_or(|most| connection.served.get() < most)
            })
            .min_by_key(|(connection, _)| connection.streams())
            .map(|(connection, _)| connection.clone())?;
        let stream = connection.begin();
        Some(Lent::H2 { connection, stream })
    }
}

/// One who waits. A call that comes when it has given up goes to the next.
struct Place {
    slot: Rc<Slot>,
    called: oneshot::Receiver<()>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.called.close();
        if self.called.try_recv().is_ok() {
            self.slot.call_next();
        }
    }
}

/// Tells the pool that a stream of a shared connection has ended.
#[derive(Clone, Default)]
pub(crate) struct Freed(Weak<Slot>);

impl Freed {
    pub(crate) fn tell(&self) {
        if let Some(slot) = self.0.upgrade()
            && !slot.waiters.borrow().is_empty()
        {
            slot.call_next();
        }
    }
}

/// Whether a connection has reached its age; each has its own, within 10 % of the limit.
fn is_old(opened: Tick, age_max: Option<Duration>, now: Tick) -> bool {
    age_max.is_some_and(|age| {
        let share = 0.9 + 0.2 * ((opened.nanos() >> 10) % 1024) as f64 / 1024.0;
        now.since(opened) > age.mul_f64(share)
    })
}

/// The connections of one worker.
pub struct Pool {
    slots: RefCell<BTreeMap<u64, Rc<Slot>>>,
    stop: Stop,
}

impl Pool {
    /// An empty pool; its HTTP/2 connections end with `stop`.
    pub fn new(stop: Stop) -> Self {
        Self { slots: RefCell::default(), stop }
    }

    fn slot<D: Destination + 'static>(&self, to: &Arc<D>, options: &Arc<Options>) -> Rc<Slot> {
        let mut slots = self.slots.borrow_mut();
        let slot =
            slots.entry(to.id()).or_insert_with(|| Rc::new(Slot::new(options.clone(), to.clone())));
        if !Arc::ptr_eq(&slot.options.borrow(), options) {
            *slot.options.borrow_mut() = options.clone();
        }
        slot.clone()
    }

    /// Lends a connection to an endpoint that is at hand: an idle one, or a stream of a shared one.
    pub fn at_hand<D: Destination + 'static>(
        &self,
        endpoint: &Arc<D>,
        wanted: Wanted,
        options: &Arc<Options>,
        now: Tick,
    ) -> Option<Lent> {
        let slot = self.slot(endpoint, options);
        if slot.wants_h2(wanted) {
            return slot.take_shared(now);
        }
        let connection = slot.take_idle(now)?;
        Some(Lent::H1 { connection, home: Home(Rc::downgrade(&slot)) })
    }

    /// Lends a connection to an endpoint when none is at hand, or to pass over those that are: a fresh one
    /// to `target` within `timeout`. If there may be no more, waits for one until `patience`.
    pub async fn lend<D: Destination + 'static>(
        &self,
        endpoint: &Arc<D>,
        wanted: Wanted,
        options: &Arc<Options>,
        (timeout, patience): (Duration, Tick),
        target: impl FnOnce() -> Target,
    ) -> Result<Lent> {
        let slot = self.slot(endpoint, options);
        if slot.wants_h2(wanted) {
            self.lend_shared(&slot, (timeout, patience), target).await
        } else {
            self.lend_own(&slot, wanted, (timeout, patience), target).await
        }
    }

    /// Waits for a connection that others have, or opens one.
    async fn lend_own(
        &self,
        slot: &Rc<Slot>,
        wanted: Wanted,
        (timeout, patience): (Duration, Tick),
        target: impl FnOnce() -> Target,
    ) -> Result<Lent> {
        let mut again = false;
        while slot.is_full() {
            if !slot.queue(patience, again).await {
                return Err(exhausted(&slot.options.borrow()));
            }
            again = true;
            if let Some(connection) = slot.take_idle(SystemClock::tick()) {
                return Ok(Lent::H1 { connection, home: Home(Rc::downgrade(slot)) });
            }
        }
        self.open(slot, wanted, timeout, target).await
    }

    /// Waits for the connection that is being opened, for a stream of one that is there, or opens one.
    async fn lend_shared(
        &self,
        slot: &Rc<Slot>,
        (timeout, patience): (Duration, Tick),
        target: impl FnOnce() -> Target,
    ) -> Result<Lent> {
        let mut limit = SystemClock::tick().plus(timeout);
        let mut again = false;
        loop {
            if slot.opening.get() {
                let left = limit.since(SystemClock::tick());
                if tokio::time::timeout(left, slot.opened.notified()).await.is_err() {
                    return Err(Error::new(
                        Reason::ConnectTimeout,
                        format!("no connection was there within {timeout:?}"),
                    ));
                }
            } else if slot.is_full() {
                if !slot.queue(patience, again).await {
                    return Err(exhausted(&slot.options.borrow()));
                }
                again = true;
                limit = SystemClock::tick().plus(timeout);
            } else {
                break;
            }
            if let Some(lent) = slot.take_shared(SystemClock::tick()) {
                return Ok(lent);
            }
        }
        slot.opening.set(true);
        let _opening = Opening(slot.clone());
        self.open(slot, Wanted::H2, timeout, target).await
    }

    async fn open(
        &self,
        slot: &Rc<Slot>,
        wanted: Wanted,
        timeout: Duration,
        target: impl FnOnce() -> Target,
    ) -> Result<Lent> {
        slot.open.set(slot.open.get() + 1);
        let lease = Lease(Rc::downgrade(slot));
        let connected = connect(&target(), timeout).await?;
        let alpn = connected.alpn;
        slot.speaks.set(alpn);
        let secure = connected.io.tls_info().is_some();
        let is_h2 = match wanted {
            Wanted::H1 => false,
            Wanted::Either => alpn == Some(Alpn::H2),
            Wanted::H2 if secure && alpn != Some(Alpn::H2) => {
                return Err(Error::new(
                    Reason::UpstreamTls,
                    "the endpoint does not speak HTTP/2: it was not agreed on by ALPN",
                ));
            }
            Wanted::H2 => true,
        };
        if !is_h2 {
            let mut connection = Box::new(h1::client::Connection::new(connected.io));
            connection.lease = Some(lease);
            return Ok(Lent::H1 { connection, home: Home(Rc::downgrade(slot)) });
        }
        let settings = {
            let options = slot.options.borrow();
            h2::client::Settings {
                header_bytes_max: options.head.bytes_max,
                streams_max: options.streams_max,
                streams_first: slot.allowed.get(),
            }
        };
        let opened = h2::client::Connection::open(connected.io, settings, &self.stop);
        let mut connection = match tokio::time::timeout(timeout, opened).await {
            Ok(opened) => opened?,
            Err(_) => {
                return Err(Error::new(
                    Reason::ConnectTimeout,
                    format!("the HTTP/2 handshake did not end within {timeout:?}"),
                ));
            }
        };
        connection.freed = Freed(Rc::downgrade(slot));
        slot.shared.borrow_mut().push((connection.clone(), Rc::new(lease)));
        let stream = connection.begin();
        Ok(Lent::H2 { connection, stream })
    }

    /// Retires what is idle for too long, old, closed by the other side, or leads to what is gone. To be
    /// called about once a second.
    pub fn sweep(&self) {
        let now = SystemClock::tick();
        self.slots.borrow_mut().retain(|_, slot| {
            let options = slot.options.borrow().clone();
            let gone = slot.destination.is_gone();
            let mut cx = Context::from_waker(Waker::noop());
            // Dropping a connection calls back into the slot: take it out first.
            let mut idle = std::mem::take(&mut *slot.idle.borrow_mut());
            idle.retain_mut(|connection| {
                !gone
                    && now < connection.idle_until(options.idle_timeout)
                    && !is_old(connection.opened, options.age_max, now)
                    && connection.is_quiet(&mut cx)
            });
            slot.idle.borrow_mut().splice(0..0, idle);
            let mut shared = std::mem::take(&mut *slot.shared.borrow_mut());
            shared.retain_mut(|(connection, _)| {
                let idle = connection.streams() == 0
                    && now.since(connection.idle_since.get()) > options.idle_timeout;
                let leaves = is_old(connection.opened, options.age_max, now)
                    || connection.is_worn()
                    || connection.streams_allowed() == 0;
                !(connection.is_closed() || gone || idle || leaves && connection.streams() == 0)
            });
            slot.shared.borrow_mut().splice(0..0, shared);
            !(gone && slot.open.get() == 0)
        });
    }

    /// How many connections are open, and how many of them idle.
    pub fn count(&self) -> (usize, usize) {
        self.slots.borrow().values().fold((0, 0), |(open, idle), slot| {
            (open + slot.open.get(), idle + slot.idle.borrow().len())
        })
    }
}

/// Lets others try once a connection has been opened, or could not be.
struct Opening(Rc<Slot>);

impl Drop for Opening {
    fn drop(&mut self) {
        self.0.opening.set(false);
        self.0.opened.notify_waiters();
    }
}

fn exhausted(options: &Options) -> Error {
    Error::new(
        Reason::PoolExhausted,
        format!("all {} connections to the endpoint are in use", options.connections_max),
    )
}
