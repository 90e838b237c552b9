//! A node, over its HTTP API: one event in binary mode, several of a stream as a batch of CloudEvents,
//! several streams as one transaction.

use std::{fmt::Write, net::SocketAddr};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{Append, Found, KIND, NewEvent, Of, PAGE, SOURCE, Told, check};
use crate::http1::{request, response};

/// A connection that is kept, with one request at a time.
pub(in crate::events) struct Connection {
    host: SocketAddr,
    stream: TcpStream,
    out: Vec<u8>,
    kept: Vec<u8>,
}

#[derive(Deserialize)]
struct Appended {
    appends: Vec<Written>,
}

#[derive(Deserialize)]
struct Written {
    first: u64,
    last: u64,
    known: bool,
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    events: Vec<Recorded<'a>>,
}

#[derive(Deserialize)]
struct Recorded<'a> {
    version: u64,
    position: u64,
    #[serde(borrow)]
    event: Event<'a>,
}

#[derive(Deserialize)]
struct Event<'a> {
    /// It needs no unescaping, as it was made.
    data: &'a str,
}

impl Connection {
    pub(super) async fn open(host: SocketAddr) -> Result<Self> {
        let stream =
            TcpStream::connect(host).await.with_context(|| format!("connect to {host}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { host, stream, out: Vec::new(), kept: Vec::new() })
    }

    pub(super) async fn append(&mut self, appends: &[Append]) -> Result<()> {
        let (path, field, body);
        match appends {
            [Append { stream, next, events }] => {
                path = format!("/v1/streams/{stream}/events?expected={}", expected(*next));
                (field, body) = match events.as_slice() {
                    [NewEvent { id, body }] => (
                        format!(
                            "ce-specversion: 1.0\r\nce-id: {id:032x}\r\nce-source: {SOURCE}\r\n\
                             ce-type: {KIND}\r\ncontent-type: text/plain"
                        ),
                        body.clone(),
                    ),
                    events => {
                        let field = "content-type: application/cloudevents-batch+json".to_owned();
                        (field, batch(events)?.into_bytes())
                    }
                };
            }
            several => {
                path = "/v1/events".to_owned();
                field = "content-type: application/json".to_owned();
                body = transaction(several)?.into_bytes();
            }
        }
        self.out.clear();
        request(&mut self.out, self.host, "POST", &path, &field, &body);
        let (body, size) = self.ask().await?;
        let appended: Appended = serde_json::from_slice(&self.kept[body])?;
        self.kept.drain(..size);
        ensure!(appended.appends.len() == appends.len(), "not every append was answered");
        for (append, written) in appends.iter().zip(&appended.appends) {
            ensure!(!written.known, "{} was taken for known", append.stream);
            check(append, written.first, written.last)?;
        }
        Ok(())
    }

    pub(super) async fn page(&mut self, of: Of<'_>, told: Told<'_>) -> Result<()> {
        let path = match of {
            Of::Stream(stream, from) => {
                format!("/v1/streams/{stream}/events?from={from}&max={PAGE}")
            }
            Of::All(from) => format!("/v1/events?from={from}&max={PAGE}"),
        };
        self.get(&path, told).await
    }

    /// Positions have no gaps, so the last one tells.
    pub(super) async fn count(&mut self) -> Result<u64> {
        let mut count = 0;
        let told: Told<'_> = &mut |found| {
            count = found.position + 1;
            Ok(())
        };
        self.get("/v1/events?from=end&direction=backward&max=1", told).await?;
        Ok(count)
    }

    async fn get(&mut self, path: &str, told: Told<'_>) -> Result<()> {
        self.out.clear();
        request(&mut self.out, self.host, "GET", path, "accept: application/json", b"");
        let (body, size) = self.ask().await?;
        let page: Page<'_> = serde_json::from_slice(&self.kept[body])?;
        for Recorded { version, position, event } in page.events {
            told(Found { version, position, body: event.data.as_bytes() })?;
        }
        self.kept.drain(..size);
        Ok(())
    }

    /// Sends what is written, and waits for the whole answer: where its body is, and what it takes in all.
    async fn ask(&mut self) -> Result<(std::ops::Range<usize>, usize)> {
        self.stream.write_all(&self.out).await?;
        loop {
            if let Some((body, size)) = response(&self.kept)? {
                return Ok((size - body.len()..size, size));
            }
            self.kept.reserve(64 << 10);
            let read = self.stream.read_buf(&mut self.kept).await?;
            ensure!(read > 0, "the node closed the connection");
        }
    }
}

fn expected(next: u64) -> String {
    next.checked_sub(1).map_or_else(|| "none".to_owned(), |version| version.to_string())
}

/// Events as a JSON array.
fn batch(events: &[NewEvent]) -> Result<String> {
    let mut out = String::with_capacity(400 * events.len());
    for (at, NewEvent { id, body }) in events.iter().enumerate() {
        out.push(if at == 0 { '[' } else { ',' });
        write!(
            out,
            "{{\"specversion\":\"1.0\",\"id\":\"{id:032x}\",\"source\":\"{SOURCE}\",\"type\":\"{KIND}\",\
             \"datacontenttype\":\"text/plain\",\"data\":\"{}\"}}",
            std::str::from_utf8(body)?
        )?;
    }
    out.push(']');
    Ok(out)
}

/// Appends to several streams as one.
fn transaction(appends: &[Append]) -> Result<String> {
    let mut out = String::from("{\"appends\":[");
    for (at, Append { stream, next, events }) in appends.iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        let expected = match next.checked_sub(1) {
            None => "\"none\"".to_owned(),
            Some(version) => version.to_string(),
        };
        let events = batch(events)?;
        write!(
            out,
            "{comma}{{\"stream\":\"{stream}\",\"expected\":{expected},\"events\":{events}}}"
        )?;
    }
    out.push_str("]}");
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_json() {
        let event = |id| NewEvent { id, body: b"abc".to_vec() };
        let appends = [
            Append { stream: "a-1".into(), next: 0, events: vec![event(1)] },
            Append { stream: "a-2".into(), next: 7, events: vec![event(2), event(3)] },
        ];
        let text = transaction(&appends).expect("text");
        let found: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(found["appends"][0]["expected"], "none");
        assert_eq!(found["appends"][1]["expected"], 6);
        assert_eq!(found["appends"][1]["events"][1]["data"], "abc");
        assert_eq!(found["appends"][1]["events"][1]["id"], format!("{:032x}", 3));
    }
}
