//! The connections of one worker to the endpoints of services.
//!
//! Every worker has a pool of its own, so that lending a connection is a look into a table and takes no
//! lock. An HTTP/1.1 connection is lent to one exchange at a time, newest first; an HTTP/2 connection is
//! shared by streams. A connection is retired when it is idle or old or has served enough, when its
//! endpoint is gone, and when the service said how long it keeps one open.

mod shared;

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    rc::{Rc, Weak},
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};

use tokio::sync::oneshot;
use weft_kernel::{Error, Reason, Result, Tick};
use weft_wire::h1::HeadLimits;

use crate::{
    age::retires,
    clock,
    connect::{Connect, Connected, Target},
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
    waiters: RefCell<VecDeque<Waiter>>,
    /// How many of those who wait want a stream.
    sharing: Cell<usize>,
    shared: RefCell<Vec<(h2::client::Connection, Rc<Lease>)>>,
    /// How many HTTP/2 connections are being opened.
    opening: Cell<usize>,
    /// No further one is opened before, since one could not be.
    opens_again: Cell<Tick>,
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
            sharing: Cell::new(0),
            shared: RefCell::default(),
            opening: Cell::new(0),
            opens_again: Cell::new(Tick::default()),
            speaks: Cell::new(None),
            allowed: Cell::new(STREAMS_FIRST),
            destination,
        }
    }

    fn call_next(&self) {
        loop {
            let Some(waiter) = self.waiters.borrow_mut().pop_front() else { break };
            if waiter.call.send(Ok(())).is_ok() {
                break;
            }
        }
    }

    /// Counts a connection that is about to be opened.
    fn lease(self: &Rc<Self>) -> Lease {
        self.open.set(self.open.get() + 1);
        Lease(Rc::downgrade(self))
    }

    /// Waits for a place at the end of the queue; at its head, if it has waited already and another was
    /// faster. There may be one now, unless the wait, which began at `since`, was in vain or is over.
    async fn queue(
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

    fn waiters_max(&self) -> usize {
        let connections = self.options.borrow().connections_max;
        let queued = connections.saturating_mul(WAITERS_PER_CONNECTION).max(WAITERS_MIN);
        // Beside those who wait for what is being opened.
        queued.saturating_add(self.opening.get().saturating_mul(self.streams_expected()))
    }

    fn exhausted(&self) -> Error {
        let say = match self.is_full() {
            true => format!(
                "all {} connections to the endpoint are in use",
                self.options.borrow().connections_max
            ),
            false => "no stream on a connection to the endpoint became free".to_owned(),
        };
        Error::new(Reason::PoolExhausted, say)
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
                connection.streams() < most && goes_on(connection, &options, now)
            })
            .min_by_key(|(connection, _)| connection.streams())
            .map(|(connection, _)| connection.clone())?;
        let stream = connection.begin();
        Some(Lent::H2 { connection, stream })
    }
}

/// Whether a shared connection may carry further streams, once there is room for them.
fn goes_on(connection: &h2::client::Connection, options: &Options, now: Tick) -> bool {
    !connection.is_worn()
        && !is_old(connection.opened, options.age_max, now)
        && options.requests_max.is_none_or(|most| connection.served.get() < most)
}

/// One who waits, to be called when there may be a place, or told why there is none.
struct Waiter {
    call: oneshot::Sender<Result<()>>,
    since: Tick,
    /// It waits for a stream of a connection that others have too.
    shares: bool,
}

/// The side of one who waits. A call that comes when it has given up goes to the next.
struct Place {
    slot: Rc<Slot>,
    called: oneshot::Receiver<Result<()>>,
    shares: bool,
}

impl Place {
    fn new(slot: Rc<Slot>, called: oneshot::Receiver<Result<()>>, shares: bool) -> Self {
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

/// Whether a connection has reached its age.
fn is_old(opened: Tick, age_max: Option<Duration>, now: Tick) -> bool {
    now > retires(opened, age_max)
}

/// The connections of one worker.
pub struct Pool {
    slots: RefCell<BTreeMap<u64, Rc<Slot>>>,
    opener: Opener,
}

/// How a pool opens connections.
#[derive(Clone)]
struct Opener {
    connector: Rc<dyn Connect>,
    /// Ends those of HTTP/2.
    stop: Stop,
}

impl Pool {
    /// An empty pool; its HTTP/2 connections end with `stop`.
    pub fn new(connector: Rc<dyn Connect>, stop: Stop) -> Self {
        Self { slots: RefCell::default(), opener: Opener { connector, stop } }
    }

    /// Opens a connection that is none of the pool's, in the pool's way.
    ///
    /// # Errors
    /// Why it could not be opened within `timeout`.
    pub async fn connect(&self, target: &Target, timeout: Duration) -> Result<Connected> {
        self.opener.connector.connect(target, timeout).await
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

    /// Lends a connection to an endpoint when none is at hand, or to pass over those that are, as `fresh`
    /// says: a fresh one to `target` within `timeout`. If there may be no more, waits for one until `patience`.
    pub async fn lend<D: Destination + 'static>(
        &self,
        endpoint: &Arc<D>,
        wanted: Wanted,
        options: &Arc<Options>,
        (timeout, patience): (Duration, Tick),
        fresh: bool,
        target: impl Fn() -> Target,
    ) -> Result<Lent> {
        let slot = self.slot(endpoint, options);
        let wants_h2 = slot.wants_h2(wanted);
        if wants_h2 && !fresh {
            self.lend_shared(&slot, (timeout, patience), target).await
        } else {
            let wanted = if wants_h2 { Wanted::H2 } else { wanted };
            self.lend_own(&slot, wanted, (timeout, patience), target).await
        }
    }

    /// Waits for a connection that others have, or opens one.
    async fn lend_own(
        &self,
        slot: &Rc<Slot>,
        wanted: Wanted,
        (timeout, patience): (Duration, Tick),
        target: impl Fn() -> Target,
    ) -> Result<Lent> {
        let mut again = false;
        let began = clock::now();
        while slot.is_full() {
            slot.queue((began, patience), again, false).await?;
            again = true;
            if let Some(connection) = slot.take_idle(clock::now()) {
                return Ok(Lent::H1 { connection, home: Home(Rc::downgrade(slot)) });
            }
        }
        let lease = slot.lease();
        Ok(match self.opener.open(slot, wanted, timeout, &target()).await? {
            Opened::H1(mut connection) => {
                connection.lease = Some(lease);
                Lent::H1 { connection, home: Home(Rc::downgrade(slot)) }
            }
            Opened::H2(connection) => {
                let stream = connection.begin();
                slot.shared.borrow_mut().push((connection.clone(), Rc::new(lease)));
                Lent::H2 { connection, stream }
            }
        })
    }

    /// Retires what is idle for too long, old, closed by the other side, or leads to what is gone. To be
    /// called about once a second.
    pub fn sweep(&self) {
        let now = clock::now();
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

/// A connection that was opened; it is not counted by itself.
enum Opened {
    H1(Box<h1::client::Connection>),
    H2(h2::client::Connection),
}

impl Opener {
    async fn open(
        &self,
        slot: &Rc<Slot>,
        wanted: Wanted,
        timeout: Duration,
        target: &Target,
    ) -> Result<Opened> {
        let connected = self.connector.connect(target, timeout).await?;
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
            return Ok(Opened::H1(Box::new(h1::client::Connection::new(connected.io))));
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
        Ok(Opened::H2(connection))
    }
}
