//! Weft's own API: batches of CloudEvents in, batches of deliveries out, and a log streamed line by line.
//!
//! One request is in flight; messages gather meanwhile and are the next batch.

use std::{fmt::Write, net::SocketAddr};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::{Confirmed, Delivered, Mode, Place};
use crate::{
    broker::socket::Socket,
    http1::{head, request, response},
};

const SOURCE: &str = "/bench";

fn path(place: Place, name: &str) -> String {
    match place {
        Place::Queue => format!("/v1/queues/{name}"),
        Place::Log => format!("/v1/topics/{name}"),
    }
}

/// One request on a connection of its own.
fn call(to: SocketAddr, method: &str, path: &str, body: &[u8]) -> Result<Vec<u8>> {
    let mut socket = Socket::connect(to)?;
    let mut out = Vec::new();
    request(&mut out, to, method, path, "content-type: application/json", body);
    socket.send(&out)?;
    loop {
        if let Some((body, _)) = response(socket.rest()).with_context(|| path.to_owned())? {
            return Ok(body.to_vec());
        }
        socket.fill()?;
    }
}

pub(super) fn create(to: SocketAddr, place: Place, name: &str) -> Result<()> {
    call(to, "PUT", &path(place, name), b"{}").map(drop)
}

pub(super) fn delete(to: SocketAddr, place: Place, name: &str) -> Result<()> {
    call(to, "DELETE", &path(place, name), b"").map(drop)
}

pub(super) fn depth(to: SocketAddr, name: &str) -> Result<u64> {
    let found: serde_json::Value =
        serde_json::from_slice(&call(to, "GET", &path(Place::Queue, name), b"")?)?;
    found["ready"].as_u64().context("a queue without a count")
}

/// Publishes what has gathered while the last batch was on its way.
pub(super) struct Publisher {
    host: SocketAddr,
    path: String,
    /// The beginning of a JSON array.
    batch: String,
    /// Numbers of the first message that gathers, and of the one after the last.
    gathering: (u64, u64),
    in_flight: Option<(u64, u64)>,
}

impl Publisher {
    /// Batches go to one place, the first of the names.
    pub(super) fn new(host: SocketAddr, place: Place, names: &[String]) -> Self {
        let name = names.first().map(String::as_str).unwrap_or_default();
        let path = format!("{}/messages", path(place, name));
        Self { host, path, batch: String::new(), gathering: (0, 0), in_flight: None }
    }
}

#[derive(Deserialize)]
struct Answer {
    count: u64,
    duplicates: Vec<(u64, u64)>,
    durability: String,
}

impl super::Publisher for Publisher {
    fn put(&mut self, _: &mut Vec<u8>, number: u64, body: &[u8]) -> Result<()> {
        if self.batch.is_empty() {
            self.gathering.0 = number;
        }
        self.batch.push(if self.batch.is_empty() { '[' } else { ',' });
        // Writing to a string cannot fail.
        let _ = write!(
            self.batch,
            "{{\"specversion\":\"1.0\",\"id\":\"{number}\",\"source\":\"{SOURCE}\",\"type\":\"b\",\
             \"datacontenttype\":\"text/plain\",\"data\":\"{}\"}}",
            std::str::from_utf8(body)?
        );
        self.gathering.1 = number + 1;
        Ok(())
    }

    fn flush(&mut self, out: &mut Vec<u8>) -> Result<()> {
        if self.in_flight.is_none() && !self.batch.is_empty() {
            self.batch.push(']');
            let kind = "content-type: application/cloudevents-batch+json";
            request(out, self.host, "POST", &self.path, kind, self.batch.as_bytes());
            self.batch.clear();
            self.in_flight = Some(self.gathering);
        }
        Ok(())
    }

    fn confirmed(&mut self, socket: &mut Socket, each: Confirmed<'_>) -> Result<()> {
        while let Some((body, size)) = response(socket.rest())? {
            let answer: Answer = serde_json::from_slice(body)?;
            let (from, to) = self.in_flight.take().context("an answer to nothing")?;
            ensure!(answer.count == to - from, "{} of {} were kept", answer.count, to - from);
            ensure!(
                answer.duplicates.is_empty(),
                "{} were taken for doubles",
                answer.duplicates.len()
            );
            ensure!(answer.durability == "fsync", "durability is {}", answer.durability);
            (from..to).for_each(&mut *each);
            socket.take(size);
        }
        Ok(())
    }
}

/// Begins to consume.
pub(super) fn consumer(
    socket: &mut Socket,
    host: SocketAddr,
    mode: Mode,
    name: &str,
    most: u16,
) -> Result<Box<dyn super::Consumer>> {
    let mut out = Vec::new();
    let consumer: Box<dyn super::Consumer> = match mode {
        Mode::Take => {
            let path = path(Place::Queue, name);
            let taker = Taker { host, path, most, settling: 0 };
            taker.receive(&mut out);
            Box::new(taker)
        }
        Mode::Replay => {
            let path = format!("{}/messages?from=first", path(Place::Log, name));
            request(&mut out, host, "GET", &path, "accept: application/x-ndjson", b"");
            Box::new(Replay { begun: false, chunk: 0, line: Vec::new(), ended: false })
        }
    };
    socket.send(&out)?;
    Ok(consumer)
}

#[derive(Deserialize)]
struct Deliveries<'a> {
    #[serde(borrow)]
    deliveries: Vec<Delivery<'a>>,
}

#[derive(Deserialize)]
struct Delivery<'a> {
    id: &'a str,
    #[serde(borrow)]
    event: Event<'a>,
}

#[derive(Deserialize)]
struct Event<'a> {
    data: &'a str,
}

/// Receives batches, and accepts each while the next is asked for.
struct Taker {
    host: SocketAddr,
    path: String,
    most: u16,
    /// Settlements that were not answered yet; their answers come before the next deliveries.
    settling: usize,
}

impl Taker {
    fn receive(&self, out: &mut Vec<u8>) {
        let body = format!("{{\"max\":{},\"wait\":\"10s\"}}", self.most);
        let kind = "content-type: application/json";
        request(out, self.host, "POST", &format!("{}/receive", self.path), kind, body.as_bytes());
    }
}

impl super::Consumer for Taker {
    fn delivered(
        &mut self,
        socket: &mut Socket,
        out: &mut Vec<u8>,
        each: Delivered<'_>,
    ) -> Result<()> {
        while let Some((body, size)) = response(socket.rest())? {
            if self.settling > 0 {
                self.settling -= 1;
                let settled = body.windows(11).all(|part| part != b"\"ok\":false,");
                ensure!(settled, "not all were settled: {}", body.escape_ascii());
            } else {
                let found: Deliveries<'_> = serde_json::from_slice(body)?;
                let mut settle = String::from("{\"settle\":[");
                for (at, Delivery { id, event }) in found.deliveries.iter().enumerate() {
                    each(event.data.as_bytes());
                    let comma = if at == 0 { "" } else { "," };
                    // Writing to a string cannot fail.
                    let _ = write!(settle, "{comma}{{\"id\":\"{id}\",\"how\":\"accept\"}}");
                }
                settle.push_str("]}");
                if !found.deliveries.is_empty() {
                    let path = format!("{}/settle", self.path);
                    let kind = "content-type: application/json";
                    request(out, self.host, "POST", &path, kind, settle.as_bytes());
                    self.settling += 1;
                }
                self.receive(out);
            }
            socket.take(size);
        }
        Ok(())
    }
}

/// Reads a log that is streamed, a JSON object a line.
struct Replay {
    begun: bool,
    /// What is left of the chunk that is being read.
    chunk: usize,
    /// A line that is not whole.
    line: Vec<u8>,
    /// The last chunk was read.
    ended: bool,
}

impl super::Consumer for Replay {
    fn delivered(
        &mut self,
        socket: &mut Socket,
        _: &mut Vec<u8>,
        each: Delivered<'_>,
    ) -> Result<()> {
        if !self.begun {
            let Some(head) = head(socket.rest())? else { return Ok(()) };
            ensure!(head.status == 200, "status {}", head.status);
            ensure!(head.length.is_none(), "a log that is not streamed");
            socket.take(head.size);
            self.begun = true;
        }
        loop {
            let rest = socket.rest();
            if self.chunk == 0 {
                let Ok(httparse::Status::Complete((size, chunk))) =
                    httparse::parse_chunk_size(rest)
                else {
                    // What remains is too short, or nothing but a chunk's end.
                    return Ok(());
                };
                if chunk == 0 {
                    // Whether it ended too early is for who counts to say; nothing more may come.
                    ensure!(!self.ended, "more behind the end of the log");
                    self.ended = true;
                    socket.take(size);
                    return Ok(());
                }
                self.chunk = usize::try_from(chunk)?;
                socket.take(size);
                continue;
            }
            // A chunk and the end of its line.
            let here = rest.len().min(self.chunk);
            if here == 0 || (here == self.chunk && rest.len() < here + 2) {
                return Ok(());
            }
            let mut text = &rest[..here];
            while let Some(end) = text.iter().position(|&byte| byte == b'\n') {
                if self.line.is_empty() {
                    each(data(&text[..end])?);
                } else {
                    self.line.extend(&text[..end]);
                    each(data(&self.line)?);
                    self.line.clear();
                }
                text = &text[end + 1..];
            }
            self.line.extend(text);
            self.chunk -= here;
            socket.take(if self.chunk == 0 { here + 2 } else { here });
        }
    }
}

/// The data of an event in a line; it needs no unescaping, as it was made.
fn data(line: &[u8]) -> Result<&[u8]> {
    const BEFORE: &[u8] = b"\"data\":\"";
    let at = line.windows(BEFORE.len()).position(|part| part == BEFORE);
    let from = at.context("an event without data")? + BEFORE.len();
    let length =
        line[from..].iter().position(|&byte| byte == b'"').context("data without an end")?;
    Ok(&line[from..from + length])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_data_in_a_line() {
        let line = br#"{"position":7,"event":{"id":"1","data":"abc_-9"}}"#;
        assert_eq!(data(line).expect("data"), b"abc_-9");
        assert!(data(b"{}").is_err());
    }
}
