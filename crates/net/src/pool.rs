//! The connections of one worker to the endpoints of services.
//!
//! Every worker has a pool of its own, so that lending a connection is a look into a table and takes no
//! lock. An HTTP/1.1 connection is lent to one exchange at a time, newest first; an HTTP/2 connection is
//! shared by streams. A connection is retired when it is idle or old or has served enough, when its
//! endpoint is gone, and when the service said how long it keeps one open.

mod shared;
mod slot;

use std::{
    cell::RefCell,
    collections::BTreeMap,
    rc::{Rc, Weak},
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};

use weft_kernel::{Error, Reason, Result, Tick};
use weft_wire::h1::HeadLimits;

use self::slot::{Slot, goes_on};
use crate::{
    age::retires,
    clock,
    connect::{Connect, ConnectTarget, Connected},
    h1, h2,
    io::Alpn,
    tasks::Stop,
};

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
    pub async fn connect(&self, target: &ConnectTarget, timeout: Duration) -> Result<Connected> {
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
        target: impl Fn() -> ConnectTarget,
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
        target: impl Fn() -> ConnectTarget,
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
        target: &ConnectTarget,
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
