//! AMQP 0-9-1, for RabbitMQ and Weft alike: persistent messages through the default exchange with
//! confirms, and an acknowledgement for each delivery.

use std::{collections::VecDeque, net::SocketAddr};

use anyhow::{Context, Result, bail, ensure};

use super::{Confirmed, Delivered, Mode, Place};
use crate::broker::socket::Socket;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const FRAME_END: u8 = 0xCE;
/// Bytes of a frame beside its payload.
const FRAME_REST: usize = 8;
const FRAME_MAX: u32 = 131_072;
/// The channel that everything happens on.
const CHANNEL: u16 = 1;

const CONNECTION: u16 = 10;
const QUEUE: u16 = 50;
const BASIC: u16 = 60;
const CONFIRM: u16 = 85;

/// What sort of queue is declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::broker) enum Kind {
    /// Durable, without a word of the sort.
    Classic,
    Quorum,
    /// A log that is read without taking.
    Stream,
}

impl Kind {
    /// The sort for a place: what is read again is a stream in RabbitMQ.
    pub(super) fn of(self, place: Place) -> Self {
        match place {
            Place::Queue => self,
            Place::Log => Self::Stream,
        }
    }

    fn word(self) -> Option<&'static str> {
        match self {
            Self::Classic => None,
            Self::Quorum => Some("quorum"),
            Self::Stream => Some("stream"),
        }
    }
}

fn frame(out: &mut Vec<u8>, kind: u8, channel: u16, payload: &[u8]) {
    out.push(kind);
    out.extend(channel.to_be_bytes());
    out.extend((payload.len() as u32).to_be_bytes());
    out.extend(payload);
    out.push(FRAME_END);
}

/// The arguments of a method, one after the other.
struct Arguments(Vec<u8>);

impl Arguments {
    fn of(class: u16, method: u16) -> Self {
        let mut bytes = class.to_be_bytes().to_vec();
        bytes.extend(method.to_be_bytes());
        Self(bytes)
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    fn short(mut self, text: &str) -> Self {
        self.0.push(text.len() as u8);
        self.bytes(text.as_bytes())
    }

    fn long(self, bytes: &[u8]) -> Self {
        self.bytes(&(bytes.len() as u32).to_be_bytes()).bytes(bytes)
    }
}

/// A connection with one channel, on which methods are called one by one.
pub(super) struct Session {
    socket: Socket,
}

impl Session {
    pub(super) fn open(to: SocketAddr) -> Result<Self> {
        let mut session = Self { socket: Socket::connect(to)? };
        session.socket.send(b"AMQP\x00\x00\x09\x01")?;
        session.want(CONNECTION, 10)?;
        let start = Arguments::of(CONNECTION, 11);
        session.send(0, start.long(b"").short("PLAIN").long(b"\0guest\0guest").short("en_US"))?;
        session.want(CONNECTION, 30)?;
        let tune = Arguments::of(CONNECTION, 31).bytes(&2047_u16.to_be_bytes());
        session.send(0, tune.bytes(&FRAME_MAX.to_be_bytes()).bytes(&[0, 0]))?;
        session.send(0, Arguments::of(CONNECTION, 40).short("/").short("").bytes(&[0]))?;
        session.want(CONNECTION, 41)?;
        session.call(Arguments::of(20, 10).short(""), 20, 11)?;
        Ok(session)
    }

    pub(super) fn into_socket(self) -> Socket {
        self.socket
    }

    fn send(&mut self, channel: u16, method: Arguments) -> Result<()> {
        let mut out = Vec::new();
        frame(&mut out, METHOD, channel, &method.0);
        self.socket.send(&out)
    }

    fn call(&mut self, method: Arguments, class: u16, answer: u16) -> Result<Vec<u8>> {
        self.send(CHANNEL, method)?;
        self.want(class, answer)
    }

    /// The arguments of the next method, which must be this one.
    fn want(&mut self, class: u16, method: u16) -> Result<Vec<u8>> {
        loop {
            if let Some((kind, size)) = complete(self.socket.rest())? {
                let payload = self.socket.rest()[7..7 + size].to_vec();
                self.socket.take(size + FRAME_REST);
                if kind != METHOD {
                    continue;
                }
                let found = (word(&payload)?, word(&payload[2..])?);
                if found != (class, method) {
                    bail!("{found:?} instead of {class}.{method}: {}", printable(&payload));
                }
                return Ok(payload[4..].to_vec());
            }
            self.socket.fill()?;
        }
    }

    pub(super) fn declare(&mut self, kind: Kind, name: &str) -> Result<()> {
        let mut table = Vec::new();
        if let Some(word) = kind.word() {
            table.extend(b"\x0cx-queue-typeS");
            table.extend((word.len() as u32).to_be_bytes());
            table.extend(word.as_bytes());
        }
        // Durable, and nothing else.
        let declare = Arguments::of(QUEUE, 10).bytes(&[0, 0]).short(name).bytes(&[2]).long(&table);
        self.call(declare, QUEUE, 11).map(drop)
    }

    pub(super) fn delete(&mut self, name: &str) -> Result<()> {
        let delete = Arguments::of(QUEUE, 40).bytes(&[0, 0]).short(name).bytes(&[0]);
        self.call(delete, QUEUE, 41).map(drop)
    }

    pub(super) fn depth(&mut self, name: &str) -> Result<u64> {
        let passive = Arguments::of(QUEUE, 10).bytes(&[0, 0]).short(name).bytes(&[1]).long(b"");
        let found = self.call(passive, QUEUE, 11)?;
        let after = 1 + usize::from(*found.first().context("a name")?);
        let count: [u8; 4] = found.get(after..after + 4).context("a count")?.try_into()?;
        Ok(u64::from(u32::from_be_bytes(count)))
    }

    pub(super) fn confirm(&mut self) -> Result<()> {
        self.call(Arguments::of(CONFIRM, 10).bytes(&[0]), CONFIRM, 11).map(drop)
    }

    pub(super) fn consume(&mut self, mode: Mode, name: &str, most: u16) -> Result<()> {
        let qos = Arguments::of(BASIC, 10).bytes(&[0; 4]).bytes(&most.to_be_bytes()).bytes(&[0]);
        self.call(qos, BASIC, 11)?;
        let table: &[u8] = match mode {
            Mode::Take => b"",
            Mode::Replay => b"\x0fx-stream-offsetS\0\0\0\x05first",
        };
        let consume = Arguments::of(BASIC, 20).bytes(&[0, 0]).short(name).short("c").bytes(&[0]);
        // Not waited for: deliveries may come in the same read.
        self.send(CHANNEL, consume.long(table))
    }
}

/// The type and the payload's size of a frame that is wholly there.
fn complete(bytes: &[u8]) -> Result<Option<(u8, usize)>> {
    let Some(&[kind, _, _, a, b, c, d]) = bytes.first_chunk::<7>() else { return Ok(None) };
    let size = u32::from_be_bytes([a, b, c, d]) as usize;
    match bytes.get(size + 7) {
        None => Ok(None),
        Some(&FRAME_END) => Ok(Some((kind, size))),
        Some(_) => bail!("a frame that does not end"),
    }
}

fn word(bytes: &[u8]) -> Result<u16> {
    Ok(u16::from_be_bytes(*bytes.first_chunk().context("a method cut short")?))
}

fn tag(bytes: &[u8]) -> Result<u64> {
    Ok(u64::from_be_bytes(*bytes.first_chunk().context("no delivery tag")?))
}

fn printable(payload: &[u8]) -> String {
    payload.escape_ascii().to_string().chars().take(300).collect()
}

/// Publishes with confirms.
pub(super) struct Publisher {
    /// For each queue what comes before the body: the method, the head, the start of the body's frame.
    before: Vec<Vec<u8>>,
    /// Delivery tags confirmed from `lowest` on, which is not.
    seen: VecDeque<bool>,
    lowest: u64,
    /// The number of the message with tag 1.
    first: Option<u64>,
}

impl Publisher {
    pub(super) fn new(names: &[String], size: usize) -> Self {
        let before = |name: &String| {
            let mut out = Vec::new();
            let publish = Arguments::of(BASIC, 40).bytes(&[0, 0]).short("").short(name).bytes(&[0]);
            frame(&mut out, METHOD, CHANNEL, &publish.0);
            // Of the properties only delivery-mode 2.
            let head = Arguments::of(BASIC, 0).bytes(&(size as u64).to_be_bytes());
            frame(&mut out, HEADER, CHANNEL, &head.bytes(&[0x10, 0, 2]).0);
            out.push(BODY);
            out.extend(CHANNEL.to_be_bytes());
            out.extend((size as u32).to_be_bytes());
            out
        };
        let before = names.iter().map(before).collect();
        Self { before, seen: VecDeque::new(), lowest: 1, first: None }
    }
}

impl super::Publisher for Publisher {
    fn put(&mut self, out: &mut Vec<u8>, number: u64, body: &[u8]) -> Result<()> {
        self.first.get_or_insert(number);
        out.extend(&self.before[number as usize % self.before.len()]);
        out.extend(body);
        out.push(FRAME_END);
        Ok(())
    }

    fn confirmed(&mut self, socket: &mut Socket, each: Confirmed<'_>) -> Result<()> {
        let first = self.first.unwrap_or(0);
        while let Some((kind, size)) = complete(socket.rest())? {
            let payload = &socket.rest()[7..7 + size];
            if kind == METHOD {
                ensure!(
                    (word(payload)?, word(&payload[2..])?) == (BASIC, 80),
                    "no confirm: {}",
                    printable(payload)
                );
                let (to, several) = (tag(&payload[4..])?, payload.get(12) == Some(&1));
                ensure!(to >= self.lowest, "{to} was confirmed twice");
                let from = if several { self.lowest } else { to };
                for one in from..=to {
                    let at = (one - self.lowest) as usize;
                    if self.seen.len() <= at {
                        self.seen.resize(at + 1, false);
                    }
                    if !std::mem::replace(&mut self.seen[at], true) {
                        each(first + one - 1);
                    } else if !several {
                        bail!("{one} was confirmed twice");
                    }
                }
                while self.seen.front() == Some(&true) {
                    self.seen.pop_front();
                    self.lowest += 1;
                }
            }
            socket.take(size + FRAME_REST);
        }
        Ok(())
    }
}

/// Takes and acknowledges each message by itself, as most applications do; a stream, which only counts
/// credit by it, many at once.
pub(super) struct Consumer {
    mode: Mode,
    most: u16,
    tag: u64,
    unsettled: u16,
    body: Vec<u8>,
    left: usize,
}

impl Consumer {
    pub(super) fn new(mode: Mode, most: u16) -> Self {
        Self { mode, most, tag: 0, unsettled: 0, body: Vec::new(), left: 0 }
    }

    fn settle(&mut self, out: &mut Vec<u8>) {
        self.unsettled += 1;
        let several = match self.mode {
            Mode::Take => 0,
            Mode::Replay if self.unsettled >= self.most / 4 => 1,
            Mode::Replay => return,
        };
        self.unsettled = 0;
        let mut ack = [0, 60, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, several];
        ack[4..12].copy_from_slice(&self.tag.to_be_bytes());
        frame(out, METHOD, CHANNEL, &ack);
    }
}

impl super::Consumer for Consumer {
    fn delivered(
        &mut self,
        socket: &mut Socket,
        out: &mut Vec<u8>,
        each: Delivered<'_>,
    ) -> Result<()> {
        while let Some((kind, size)) = complete(socket.rest())? {
            let payload = &socket.rest()[7..7 + size];
            match kind {
                METHOD => match (word(payload)?, word(&payload[2..])?) {
                    (BASIC, 60) => {
                        let name = usize::from(*payload.get(4).context("no consumer tag")?);
                        self.tag = tag(payload.get(5 + name..).context("no delivery tag")?)?;
                    }
                    (BASIC, 21) => {}
                    _ => bail!("no delivery: {}", printable(payload)),
                },
                HEADER => {
                    let size = payload.get(4..12).context("a head cut short")?;
                    self.left = tag(size)? as usize;
                    self.body.clear();
                }
                BODY if self.body.is_empty() && payload.len() == self.left => {
                    each(payload);
                    self.settle(out);
                }
                BODY => {
                    self.body.extend(payload);
                    if self.body.len() >= self.left {
                        each(&self.body);
                        self.settle(out);
                    }
                }
                _ => {}
            }
            socket.take(size + FRAME_REST);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sees_whole_frames_only() {
        let mut out = Vec::new();
        frame(&mut out, METHOD, 1, b"abc");
        for cut in 0..out.len() {
            assert_eq!(complete(&out[..cut]).expect("no fault yet"), None, "{cut}");
        }
        assert_eq!(complete(&out).expect("whole"), Some((METHOD, 3)));
        *out.last_mut().expect("an end") = 0;
        assert!(complete(&out).is_err());
    }
}
