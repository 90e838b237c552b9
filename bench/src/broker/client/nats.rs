//! NATS with JetStream: publishes that ask for an acknowledgement, a durable pull consumer that
//! acknowledges each message, and an ephemeral push consumer that replays with flow control.

use std::{collections::HashMap, io::Write, net::SocketAddr, str};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::{Confirmed, Delivered, Mode, Place};
use crate::broker::socket::{Socket, line_end};

/// What acknowledgements are sent to, followed by the number of the message.
const NUMBERS: &str = "_INBOX.p.n.";

/// One protocol message that is wholly there.
#[derive(Debug, PartialEq, Eq)]
enum Frame<'a> {
    Message {
        subject: &'a str,
        reply: &'a str,
        head: &'a [u8],
        body: &'a [u8],
    },
    Ping,
    /// What needs no answer.
    Other,
}

/// The next one and how many bytes it takes; nothing while it is not wholly there.
fn next(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>> {
    let Some(end) = line_end(bytes) else { return Ok(None) };
    let line = str::from_utf8(&bytes[..end])?;
    let mut words = line.split_ascii_whitespace();
    let kind = words.next().unwrap_or_default();
    let with_head = match kind {
        "MSG" => false,
        "HMSG" => true,
        "PING" => return Ok(Some((Frame::Ping, end + 2))),
        "-ERR" => bail!("NATS says {line}"),
        _ => return Ok(Some((Frame::Other, end + 2))),
    };
    let subject = words.next().context("a message without a subject")?;
    // The subscription's number, perhaps a reply, perhaps the head's size, the whole size.
    let rest: [Option<&str>; 4] = std::array::from_fn(|_| words.next());
    let (reply, head, size) = match (with_head, rest) {
        (false, [Some(_), Some(size), None, _]) => ("", 0, size),
        (false, [Some(_), Some(reply), Some(size), _]) => (reply, 0, size),
        (true, [Some(_), Some(head), Some(size), None]) => ("", head.parse()?, size),
        (true, [Some(_), Some(reply), Some(head), Some(size)]) => (reply, head.parse()?, size),
        _ => bail!("NATS says {line}"),
    };
    let (from, size) = (end + 2, size.parse::<usize>()?);
    ensure!(head <= size, "NATS says {line}");
    if bytes.len() < from + size + 2 {
        return Ok(None);
    }
    let (head, body) = bytes[from..from + size].split_at(head);
    Ok(Some((Frame::Message { subject, reply, head, body }, from + size + 2)))
}

fn publish(out: &mut Vec<u8>, subject: &str, reply: &str, body: &[u8]) {
    // Writing to a buffer cannot fail.
    let _ = write!(out, "PUB {subject} {reply} {}\r\n", body.len());
    out.extend(body);
    out.extend(b"\r\n");
}

fn subject(stream: &str) -> String {
    format!("b.{stream}")
}

/// A connection that hears what is sent to its own inbox.
pub(super) struct Session {
    socket: Socket,
    inbox: &'static str,
}

impl Session {
    pub(super) fn open(to: SocketAddr, inbox: &'static str) -> Result<Self> {
        let mut socket = Socket::connect(to)?;
        let info = socket.line()?;
        ensure!(info.starts_with("INFO"), "NATS begins with {info}");
        let connect = "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\
                       \"no_responders\":true,\"protocol\":1,\"lang\":\"weft-bench\",\"version\":\"0\"}";
        // Answers and deliveries. A push consumer sees no interest in a wildcard.
        let hear = format!("SUB _INBOX.{inbox}.x 1\r\nSUB _INBOX.{inbox}.d 2");
        socket.send(format!("{connect}\r\n{hear}\r\n").as_bytes())?;
        Ok(Self { socket, inbox })
    }

    /// Hears the acknowledgements of what is published.
    pub(super) fn hear_numbers(&mut self) -> Result<()> {
        self.socket.send(format!("SUB {NUMBERS}* 3\r\n").as_bytes())
    }

    pub(super) fn into_socket(self) -> Socket {
        self.socket
    }

    /// Asks JetStream.
    fn ask(&mut self, verb: &str, question: &Value) -> Result<Value> {
        let mut out = Vec::new();
        let (to, reply) = (format!("$JS.API.{verb}"), format!("_INBOX.{}.x", self.inbox));
        let question = if question.is_null() { String::new() } else { question.to_string() };
        publish(&mut out, &to, &reply, question.as_bytes());
        self.socket.send(&out)?;
        loop {
            match next(self.socket.rest())? {
                None => self.socket.fill()?,
                Some((frame, size)) => {
                    let answer = match frame {
                        Frame::Message { subject, body, head, .. } if subject == reply => {
                            ensure!(head.is_empty(), "{to}: {}", head.escape_ascii());
                            Some(serde_json::from_slice::<Value>(body)?)
                        }
                        _ => None,
                    };
                    self.socket.take(size);
                    if let Some(answer) = answer {
                        let error = &answer["error"];
                        ensure!(error.is_null(), "{to}: {error}");
                        return Ok(answer);
                    }
                }
            }
        }
    }

    pub(super) fn create(&mut self, place: Place, name: &str) -> Result<()> {
        let retention = match place {
            Place::Queue => "workqueue",
            Place::Log => "limits",
        };
        let stream = json!({
            "name": name, "subjects": [subject(name)], "storage": "file", "retention": retention,
            "max_msgs": -1, "max_bytes": -1, "num_replicas": 1,
        });
        self.ask(&format!("STREAM.CREATE.{name}"), &stream).map(drop)
    }

    pub(super) fn delete(&mut self, name: &str) -> Result<()> {
        self.ask(&format!("STREAM.DELETE.{name}"), &Value::Null).map(drop)
    }

    pub(super) fn depth(&mut self, name: &str) -> Result<u64> {
        let found = self.ask(&format!("STREAM.INFO.{name}"), &Value::Null)?;
        found["state"]["messages"].as_u64().context("a stream without a count")
    }

    pub(super) fn consume(&mut self, mode: Mode, name: &str, most: u16) -> Result<Consumer> {
        let config = match mode {
            Mode::Take => json!({
                "durable_name": "C", "ack_policy": "explicit", "deliver_policy": "all",
                "max_ack_pending": 20_000, "ack_wait": 60_000_000_000_u64,
            }),
            // A millisecond's flow control is what its own clients ask for when they replay in order.
            Mode::Replay => json!({
                "name": "C", "ack_policy": "none", "deliver_policy": "all", "replay_policy": "instant",
                "deliver_subject": format!("_INBOX.{}.d", self.inbox), "flow_control": true,
                "idle_heartbeat": 5_000_000_000_u64, "inactive_threshold": 60_000_000_000_u64,
                "mem_storage": true,
            }),
        };
        let mut consumer = Consumer { mode, ask: Vec::new(), most: u64::from(most), due: 0 };
        let question = json!({ "stream_name": name, "config": config });
        // Deliveries of a push consumer may come before the answer, and would be lost to a question.
        match mode {
            Mode::Take => {
                self.ask(&format!("CONSUMER.CREATE.{name}.C"), &question)?;
                let batch = json!({ "batch": most }).to_string();
                let to = format!("$JS.API.CONSUMER.MSG.NEXT.{name}.C");
                let reply = format!("_INBOX.{}.d", self.inbox);
                publish(&mut consumer.ask, &to, &reply, batch.as_bytes());
                let mut out = Vec::new();
                consumer.ask_more(&mut out);
                self.socket.send(&out)?;
            }
            Mode::Replay => {
                let mut out = Vec::new();
                let to = format!("$JS.API.CONSUMER.CREATE.{name}.C");
                let reply = format!("_INBOX.{}.x", self.inbox);
                publish(&mut out, &to, &reply, question.to_string().as_bytes());
                self.socket.send(&out)?;
            }
        }
        Ok(consumer)
    }
}

/// Publishes with a reply subject that carries the message's number.
pub(super) struct Publisher {
    subjects: Vec<String>,
    digits: String,
    /// The last sequence of each stream's acknowledgements, which rise one by one.
    sequences: HashMap<usize, u64>,
}

impl Publisher {
    pub(super) fn new(names: &[String]) -> Self {
        let subjects = names.iter().map(|name| subject(name)).collect();
        Self { subjects, digits: String::new(), sequences: HashMap::new() }
    }
}

impl super::Publisher for Publisher {
    fn put(&mut self, out: &mut Vec<u8>, number: u64, body: &[u8]) -> Result<()> {
        self.digits.clear();
        // Writing to a string cannot fail.
        let _ = std::fmt::Write::write_fmt(&mut self.digits, format_args!("{NUMBERS}{number}"));
        publish(out, &self.subjects[number as usize % self.subjects.len()], &self.digits, body);
        Ok(())
    }

    fn confirmed(&mut self, socket: &mut Socket, each: Confirmed<'_>) -> Result<()> {
        let mut pong = false;
        while let Some((frame, size)) = next(socket.rest())? {
            match frame {
                Frame::Message { subject, head, body, .. } => {
                    let said = || String::from_utf8_lossy(body).into_owned();
                    ensure!(head.is_empty(), "no acknowledgement: {}", head.escape_ascii());
                    let number = subject.strip_prefix(NUMBERS).context("a reply to nobody")?;
                    let number: u64 = number.parse()?;
                    let sequence = sequence(body).with_context(said)?;
                    let stream = number as usize % self.subjects.len();
                    let last = self.sequences.insert(stream, sequence);
                    ensure!(last.is_none_or(|last| last < sequence), "{sequence} after {last:?}");
                    each(number);
                }
                Frame::Ping => pong = true,
                Frame::Other => {}
            }
            socket.take(size);
        }
        if pong {
            socket.send(b"PONG\r\n")?;
        }
        Ok(())
    }
}

/// The sequence of `{"stream":"S","seq":7}`; no error has one.
fn sequence(answer: &[u8]) -> Option<u64> {
    let answer = str::from_utf8(answer).ok()?;
    let (_, rest) = answer.split_once("\"seq\":")?;
    let digits = rest.trim_start().bytes().take_while(u8::is_ascii_digit).count();
    rest.trim_start()[..digits].parse().ok()
}

/// Takes by pulling, replays by being pushed to.
pub(super) struct Consumer {
    mode: Mode,
    /// The request for one more batch.
    ask: Vec<u8>,
    most: u64,
    /// Messages that were asked for and have not come.
    due: u64,
}

impl Consumer {
    /// Keeps two requests out, so that none is waited for.
    fn ask_more(&mut self, out: &mut Vec<u8>) {
        while self.due <= self.most {
            out.extend(&self.ask);
            self.due += self.most;
        }
    }
}

impl super::Consumer for Consumer {
    fn delivered(
        &mut self,
        socket: &mut Socket,
        out: &mut Vec<u8>,
        each: Delivered<'_>,
    ) -> Result<()> {
        while let Some((frame, size)) = next(socket.rest())? {
            match frame {
                Frame::Ping => out.extend(b"PONG\r\n"),
                Frame::Other => {}
                Frame::Message { reply, head, body, .. } if !head.is_empty() => {
                    // Flow control waits for an answer; a stalled one is named in a heartbeat.
                    let head = str::from_utf8(head)?;
                    let stalled =
                        head.lines().find_map(|line| line.strip_prefix("Nats-Consumer-Stalled: "));
                    match stalled {
                        Some(stalled) => publish(out, stalled.trim(), "", b""),
                        None if !reply.is_empty() => publish(out, reply, "", b""),
                        None => {}
                    }
                    let status = head.starts_with("NATS/1.0 100");
                    ensure!(status, "NATS says {head} {}", body.escape_ascii());
                }
                Frame::Message { subject, body, .. } if subject.ends_with(".x") => {
                    ensure!(!body.starts_with(b"{\"error"), "{}", body.escape_ascii());
                    let answer: Value = serde_json::from_slice(body)?;
                    ensure!(answer["error"].is_null(), "{}", answer["error"]);
                }
                Frame::Message { reply, body, .. } => {
                    each(body);
                    if self.mode == Mode::Take {
                        publish(out, reply, "", b"+ACK");
                        self.due -= 1;
                    }
                }
            }
            socket.take(size);
        }
        if self.mode == Mode::Take {
            self.ask_more(out);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_messages_with_and_without_heads() {
        let plain = b"MSG a.b 1 5\r\nhello\r\nPING\r\n";
        let message = Frame::Message { subject: "a.b", reply: "", head: b"", body: b"hello" };
        assert_eq!(next(plain).expect("fine"), Some((message, 20)));
        assert_eq!(next(&plain[20..]).expect("fine"), Some((Frame::Ping, 6)));
        let headed = b"HMSG a 1 r 4 6\r\nhead12\r\n";
        let message = Frame::Message { subject: "a", reply: "r", head: b"head", body: b"12" };
        assert_eq!(next(headed).expect("fine"), Some((message, headed.len())));
        for cut in 0..headed.len() {
            assert_eq!(next(&headed[..cut]).expect("not yet"), None, "{cut}");
        }
        assert!(next(b"-ERR 'no'\r\n").is_err());
        assert!(next(b"MSG a 1 r 5 6 7\r\n").is_ok_and(|found| found.is_none()));
        assert!(next(b"HMSG a 1 9 6\r\n").is_err());
    }

    #[test]
    fn reads_acknowledgements() {
        assert_eq!(sequence(b"{\"stream\":\"S\", \"seq\": 71}"), Some(71));
        assert_eq!(sequence(b"{\"error\":{\"code\":503}}"), None);
    }
}
