//! For tests: a front-end on a disk in memory, and a service that answers by a script.

use std::{cell::RefCell, collections::VecDeque, sync::Arc};

use bytes::Bytes;
use tokio::sync::Notify;
use weft_broker::{Broker, engine::Engines};
use weft_kernel::{ByteSize, Error, Name, Reason, Result, Rng, SystemClock};
use weft_ledger::{Ledger, Options, disk::SimulatedDisk};
use weft_net::Stop;
use weft_proxy::{Answered, BodyEnd, LocalFuture, Reading};
use weft_wire::{Fields, RequestHead};

use crate::{Handle, Hooks, Sender};

/// A front-end and what it stands on.
pub(crate) struct Fixture {
    pub(crate) handle: Handle,
    pub(crate) broker: Broker,
    pub(crate) stop: Stop,
    ledger: Ledger,
}

impl Fixture {
    pub(crate) async fn new(hooks: Hooks) -> Self {
        Self::on(SimulatedDisk::new(), hooks).await
    }

    /// A front-end on a disk that may hold something.
    pub(crate) async fn on(disk: SimulatedDisk, hooks: Hooks) -> Self {
        let options = Options {
            wal_file_bytes: ByteSize(8 << 20),
            transaction_bytes_max: ByteSize(6 << 20),
            recent_bytes: ByteSize(1 << 20),
            ..Options::default()
        };
        let clock = Arc::new(SystemClock);
        let (ledger, _) = Ledger::open(Arc::new(disk), options, Arc::clone(&clock) as _).unwrap();
        ledger.start().unwrap();
        let store = Arc::new(ledger.clone());
        let broker = Broker::open(store, clock, Rng::seeded(1)).await.unwrap();
        let stop = Stop::new();
        let engines = Engines::open(broker.clone(), Vec::new()).await.unwrap();
        let handle = Handle::open(engines, 1, hooks, stop.clone()).await.unwrap();
        Self { handle, broker, stop, ledger }
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let _ = self.ledger.close();
    }
}

/// A request that a script was sent.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) route: Name,
    pub(crate) head: RequestHead,
    pub(crate) body: Bytes,
}

/// What a script answers.
#[derive(Clone, Debug)]
pub(crate) enum Line {
    /// A service's answer.
    Status(u16, &'static [(&'static str, &'static str)], &'static str),
    /// Weft's own.
    Weft(Reason),
    /// An error: the request could not be led along its route.
    Nowhere(Reason),
    /// A service's answer whose body does not end well.
    Ends(u16, BodyEnd),
    /// Never.
    Silent,
}

/// A service that answers line by line, and then the last line for ever.
pub(crate) struct Script {
    lines: RefCell<VecDeque<Line>>,
    sent: RefCell<Vec<Sent>>,
    told: Notify,
}

impl Script {
    pub(crate) fn new(lines: &[Line]) -> Self {
        Self {
            lines: RefCell::new(lines.iter().cloned().collect()),
            sent: RefCell::default(),
            told: Notify::new(),
        }
    }

    /// What was sent so far.
    pub(crate) fn sent(&self) -> Vec<Sent> {
        self.sent.borrow().clone()
    }

    /// Waits until so many requests were sent.
    pub(crate) async fn until_sent(&self, count: usize) {
        while self.sent.borrow().len() < count {
            self.told.notified().await;
        }
    }
}

impl Sender for Script {
    fn send<'a>(
        &'a self,
        route: &'a Name,
        head: RequestHead,
        body: Bytes,
        _reading: Reading,
    ) -> LocalFuture<'a, Result<Answered>> {
        self.sent.borrow_mut().push(Sent { route: route.clone(), head, body });
        self.told.notify_one();
        let mut lines = self.lines.borrow_mut();
        let line = if lines.len() > 1 { lines.pop_front() } else { lines.front().cloned() };
        Box::pin(async move {
            match line.unwrap_or(Line::Silent) {
                Line::Status(status, given, body) => {
                    let mut fields = Fields::new();
                    for (name, value) in given {
                        fields.append(name, value.as_bytes());
                    }
                    Ok(Answered {
                        trailers: None,
                        status,
                        fields,
                        body: body.into(),
                        end: BodyEnd::Whole,
                        reason: None,
                    })
                }
                Line::Weft(reason) => Ok(Answered {
                    trailers: None,
                    status: reason.http(),
                    fields: Fields::new(),
                    body: Bytes::new(),
                    end: BodyEnd::Whole,
                    reason: Some(reason),
                }),
                Line::Nowhere(reason) => Err(Error::new(reason, "it leads nowhere")),
                Line::Ends(status, end) => Ok(Answered {
                    trailers: None,
                    status,
                    fields: Fields::new(),
                    body: Bytes::from_static(b"some"),
                    end,
                    reason: None,
                }),
                Line::Silent => std::future::pending().await,
            }
        })
    }
}
