//! Clients that speak a broker's protocol themselves, so that they cost little and the same for all.
//!
//! A publisher writes messages into a buffer and reads confirms out of what has come; a consumer reads
//! deliveries and writes what settles them. Neither waits: `flow` does.

mod amqp;
mod nats;
mod weft;

use std::net::SocketAddr;

use anyhow::Result;

pub(super) use self::amqp::Kind;

use super::{socket::Socket, target::Protocol};

/// What confirmed messages are told to.
pub(super) type Confirmed<'a> = &'a mut dyn FnMut(u64);
/// What delivered bodies are told to.
pub(super) type Delivered<'a> = &'a mut dyn FnMut(&[u8]);

/// The way in.
pub(super) trait Publisher: Send {
    /// Writes the message of a number, which is one more than the last one's.
    fn put(&mut self, out: &mut Vec<u8>, number: u64, body: &[u8]) -> Result<()>;

    /// Nothing more comes for now: what was gathered goes out.
    fn flush(&mut self, _out: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }

    /// Reads all that has come, and tells each message that was confirmed.
    fn confirmed(&mut self, socket: &mut Socket, each: Confirmed<'_>) -> Result<()>;
}

/// The way out.
pub(super) trait Consumer: Send {
    /// Reads all that has come, tells each delivery, and writes what settles them.
    fn delivered(
        &mut self,
        socket: &mut Socket,
        out: &mut Vec<u8>,
        each: Delivered<'_>,
    ) -> Result<()>;
}

/// What a consumer does with what it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Each message is accepted, and so taken.
    Take,
    /// A log is read from its beginning, and stays.
    Replay,
}

/// Where messages are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Queue,
    /// What can be read again.
    Log,
}

/// One broker as a client sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reach {
    pub(super) protocol: Protocol,
    pub(super) address: SocketAddr,
}

impl Reach {
    /// Makes sure that a queue or log is there.
    pub(super) fn create(&self, place: Place, name: &str) -> Result<()> {
        match self.protocol {
            Protocol::Amqp(kind) => {
                amqp::Session::open(self.address)?.declare(kind.of(place), name)
            }
            Protocol::Nats => nats::Session::open(self.address, "m")?.create(place, name),
            Protocol::Http => weft::create(self.address, place, name),
        }
    }

    /// Makes sure that many are there.
    pub(super) fn create_all(&self, names: &[String]) -> Result<()> {
        match self.protocol {
            Protocol::Amqp(kind) => {
                let mut session = amqp::Session::open(self.address)?;
                names.iter().try_for_each(|name| session.declare(kind.of(Place::Queue), name))
            }
            Protocol::Nats => {
                let mut session = nats::Session::open(self.address, "m")?;
                names.iter().try_for_each(|name| session.create(Place::Queue, name))
            }
            Protocol::Http => {
                names.iter().try_for_each(|name| weft::create(self.address, Place::Queue, name))
            }
        }
    }

    /// Takes queues or logs away.
    pub(super) fn delete(&self, place: Place, names: &[String]) -> Result<()> {
        match self.protocol {
            Protocol::Amqp(_) => {
                let mut session = amqp::Session::open(self.address)?;
                names.iter().try_for_each(|name| session.delete(name))
            }
            Protocol::Nats => {
                let mut session = nats::Session::open(self.address, "m")?;
                names.iter().try_for_each(|name| session.delete(name))
            }
            Protocol::Http => {
                names.iter().try_for_each(|name| weft::delete(self.address, place, name))
            }
        }
    }

    /// How many messages a queue holds that are ready.
    pub(super) fn depth(&self, name: &str) -> Result<u64> {
        match self.protocol {
            Protocol::Amqp(_) => amqp::Session::open(self.address)?.depth(name),
            Protocol::Nats => nats::Session::open(self.address, "m")?.depth(name),
            Protocol::Http => weft::depth(self.address, name),
        }
    }

    /// A publisher to these in turns, of bodies of one size.
    pub(super) fn publisher(
        &self,
        place: Place,
        names: &[String],
        size: usize,
    ) -> Result<(Socket, Box<dyn Publisher>)> {
        Ok(match self.protocol {
            Protocol::Amqp(_) => {
                let mut session = amqp::Session::open(self.address)?;
                session.confirm()?;
                (session.into_socket(), Box::new(amqp::Publisher::new(names, size)))
            }
            Protocol::Nats => {
                let mut session = nats::Session::open(self.address, "p")?;
                session.hear_numbers()?;
                (session.into_socket(), Box::new(nats::Publisher::new(names)))
            }
            Protocol::Http => {
                let socket = Socket::connect(self.address)?;
                (socket, Box::new(weft::Publisher::new(self.address, place, names)))
            }
        })
    }

    /// A consumer of one, which holds so many messages at most, or reads so many.
    pub(super) fn consumer(
        &self,
        mode: Mode,
        name: &str,
        most: u16,
    ) -> Result<(Socket, Box<dyn Consumer>)> {
        Ok(match self.protocol {
            Protocol::Amqp(_) => {
                let mut session = amqp::Session::open(self.address)?;
                session.consume(mode, name, most)?;
                (session.into_socket(), Box::new(amqp::Consumer::new(mode, most)))
            }
            Protocol::Nats => {
                let mut session = nats::Session::open(self.address, "c")?;
                let consumer = session.consume(mode, name, most)?;
                (session.into_socket(), Box::new(consumer))
            }
            Protocol::Http => {
                let mut socket = Socket::connect(self.address)?;
                let consumer = weft::consumer(&mut socket, self.address, mode, name, most)?;
                (socket, consumer)
            }
        })
    }
}
