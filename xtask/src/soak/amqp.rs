//! AMQP 0-9-1, as little of it as the operations need.

use std::{
    io::{BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Result, bail, ensure};

use super::testbed::Testbed;

const PATIENCE: Duration = Duration::from_secs(20);
const FRAME_MAX: u32 = 1 << 20;
const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const END: u8 = 0xce;
/// The name of the queue that messages pass through.
const PASSED: &str = "soak-passed";

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: BufReader<TcpStream>,
}

/// A connection that is opened and closed in order or, every other time, cut.
pub(super) fn connection(testbed: &mut Testbed) -> Result<()> {
    let mut connection = testbed.connect()?;
    connection.open_channel(1)?;
    if testbed.next().is_multiple_of(2) {
        connection.call(0, (10, 50), &[0; 7], (10, 51))?;
    }
    Ok(())
}

/// A channel that is opened and closed.
pub(super) fn channel(testbed: &mut Testbed) -> Result<()> {
    let amqp = testbed.amqp()?;
    amqp.open_channel(2)?;
    amqp.call(2, (20, 40), &[0; 7], (20, 41))
}

/// A durable queue that is declared and deleted.
pub(super) fn queue(testbed: &mut Testbed) -> Result<()> {
    let name = format!("soak-amqp-{}", testbed.next());
    let amqp = testbed.amqp()?;
    amqp.declare(&name, 0b10)?;
    amqp.call(1, (50, 40), &[&[0, 0], &*short(&name), &[0]].concat(), (50, 41))
}

/// A message that is published to an empty queue and got from there.
pub(super) fn message(testbed: &mut Testbed) -> Result<()> {
    let amqp = testbed.amqp()?;
    amqp.declare(PASSED, 0b10)?;
    let to = [&[0, 0], &*short(""), &*short(PASSED), &[0]].concat();
    amqp.send(METHOD, 1, &[&method(60, 40), &*to].concat())?;
    let length = 5_u64.to_be_bytes();
    amqp.send(HEADER, 1, &[&[0, 60, 0, 0], &length[..], &[0, 0]].concat())?;
    amqp.send(BODY, 1, b"hello")?;
    let get = [&[0, 0], &*short(PASSED), &[1]].concat();
    amqp.call(1, (60, 70), &get, (60, 71))?;
    for expect in [HEADER, BODY] {
        let (kind, _, _) = amqp.read()?;
        ensure!(kind == expect, "frame {kind}, not {expect}");
    }
    Ok(())
}

impl Connection {
    /// Opens one as the guest, without heartbeats.
    pub(super) fn open(to: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let mut it = Self { stream: BufReader::new(stream) };
        it.stream.get_mut().write_all(b"AMQP\0\0\x09\x01")?;
        it.expect((10, 10))?;
        let secret = b"\0guest\0guest";
        let answer = [&[0; 4], &*short("PLAIN"), &long(secret), &short("en_US")].concat();
        it.send(METHOD, 0, &[&method(10, 11), &*answer].concat())?;
        let mut tuned = it.expect((10, 30))?;
        ensure!(tuned.len() >= 8, "tune is too short");
        // The limits are the server's; a heartbeat of 0 is none.
        tuned.truncate(6);
        tuned.extend([0, 0]);
        it.send(METHOD, 0, &[&method(10, 31), &*tuned].concat())?;
        it.call(0, (10, 40), &[&*short("/"), &[0, 0]].concat(), (10, 41))?;
        Ok(it)
    }

    pub(super) fn open_channel(&mut self, number: u16) -> Result<()> {
        self.call(number, (20, 10), &[0], (20, 11))
    }

    fn declare(&mut self, queue: &str, bits: u8) -> Result<()> {
        let arguments = [&[0, 0], &*short(queue), &[bits], &[0; 4]].concat();
        self.call(1, (50, 10), &arguments, (50, 11))
    }

    /// Sends a method and waits for the one that answers it.
    fn call(
        &mut self,
        channel: u16,
        (class, id): (u16, u16),
        arguments: &[u8],
        answer: (u16, u16),
    ) -> Result<()> {
        self.send(METHOD, channel, &[&method(class, id), arguments].concat())?;
        self.expect(answer)?;
        Ok(())
    }

    fn send(&mut self, kind: u8, channel: u16, payload: &[u8]) -> Result<()> {
        let length = u32::try_from(payload.len())?.to_be_bytes();
        let frame = [&[kind], &channel.to_be_bytes()[..], &length, payload, &[END]].concat();
        Ok(self.stream.get_mut().write_all(&frame)?)
    }

    /// The arguments of the next method, which must be this one.
    fn expect(&mut self, (class, id): (u16, u16)) -> Result<Vec<u8>> {
        let (kind, channel, payload) = self.read()?;
        match payload.strip_prefix(&method(class, id)) {
            Some(arguments) if kind == METHOD => Ok(arguments.to_vec()),
            _ => {
                let told = String::from_utf8_lossy(&payload);
                bail!("not method {class}.{id}, but frame {kind} on channel {channel}: {told:?}")
            }
        }
    }

    fn read(&mut self) -> Result<(u8, u16, Vec<u8>)> {
        let mut head = [0; 7];
        self.stream.read_exact(&mut head)?;
        let [kind, c1, c2, l1, l2, l3, l4] = head;
        let length = u32::from_be_bytes([l1, l2, l3, l4]);
        ensure!(length <= FRAME_MAX, "a frame of {length} bytes");
        let mut payload = vec![0; length as usize + 1];
        self.stream.read_exact(&mut payload)?;
        ensure!(payload.pop() == Some(END), "a frame without its end");
        Ok((kind, u16::from_be_bytes([c1, c2]), payload))
    }
}

fn method(class: u16, id: u16) -> [u8; 4] {
    let ([c1, c2], [i1, i2]) = (class.to_be_bytes(), id.to_be_bytes());
    [c1, c2, i1, i2]
}

/// A short string; every name here is.
fn short(text: &str) -> Vec<u8> {
    let mut bytes = vec![u8::try_from(text.len()).unwrap_or(u8::MAX)];
    bytes.extend(text.bytes().take(usize::from(u8::MAX)));
    bytes
}

/// A long string of few bytes.
fn long(bytes: &[u8]) -> Vec<u8> {
    [&[0, 0, 0, u8::try_from(bytes.len()).unwrap_or(u8::MAX)], bytes].concat()
}
