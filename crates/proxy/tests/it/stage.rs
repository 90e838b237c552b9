//! Services that follow a script, over streams in memory and in the time of the runtime.
//!
//! A service has one script, whichever of its endpoints is asked: each try that reaches it takes the next
//! act. What it sees is told as it happens, with the time since the beginning, so that a test compares
//! the whole story. The endpoints are called `a`, `b`, … (`A`, `B`, … of the second service) in the order
//! in which they were first asked.

use std::{
    cell::RefCell,
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    time::sleep,
};
use weft_discovery::{EndpointOptions, Location, ServiceOptions};
use weft_kernel::{Error, Reason, Tick};
use weft_net::{Address, Connect, ConnectTarget, Connected, Io, clock, connect::Connecting};
use weft_proxy::plan;

use crate::node::name;

/// What a service does with one try.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Act {
    /// Lets nobody connect.
    Refuse,
    /// Never says whether one may connect.
    Silent,
    /// Answers after so many milliseconds with this status, these fields, and the id of the request.
    Answer(u64, u16, &'static str),
    /// Closes the connection after so many milliseconds without an answer.
    Close(u64),
    /// Reads the request and never answers.
    Stall,
    /// Sends half a head after so many milliseconds, and closes.
    HalfHead(u64),
    /// Answers 200 after so many milliseconds, and closes within the body.
    Cut(u64),
    /// Reads nothing of the body.
    Deaf,
    /// Answers at once with this status, before it reads the body.
    Early(u16),
}

impl Act {
    /// Whether nobody can connect.
    const fn shuts(&self) -> bool {
        matches!(self, Self::Refuse | Self::Silent)
    }
}

/// A try as a service saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// The id of the request.
    pub(crate) id: String,
    /// Whether it is the first on its connection.
    pub(crate) fresh: bool,
    /// The first service, or the second.
    pub(crate) second: bool,
    pub(crate) at: Duration,
    pub(crate) act: Act,
    /// The body, once it was whole.
    pub(crate) body: Rc<RefCell<Option<Vec<u8>>>>,
}

/// The services and what they saw.
pub(crate) struct Stage {
    began: Tick,
    scripts: [RefCell<VecDeque<Act>>; 2],
    labels: RefCell<Vec<IpAddr>>,
    /// The fields of requests that are told.
    tells: &'static [&'static str],
    story: RefCell<Vec<String>>,
    pub(crate) seen: RefCell<Vec<Seen>>,
}

/// A service with so many endpoints.
pub(crate) fn service(second: bool, endpoints: u8) -> plan::Service {
    let mut discovery = ServiceOptions::new(name(if second { "second" } else { "first" }));
    let address = |last| SocketAddr::from(([10, 0, u8::from(second), last], 80));
    discovery.endpoints = (1..=endpoints)
        .map(|last| EndpointOptions::new(Location::Address(Address::Tcp(address(last)))))
        .collect();
    plan::Service {
        discovery,
        protocol: plan::UpstreamProtocol::Http1,
        tls: None,
        proxy_protocol: None,
        pool: plan::Pool::default(),
        hash: Vec::new(),
        breaker: None,
        adaptive: None,
        bulkhead: None,
        retry_budget: weft_resilience::budget::Options::default(),
    }
}

impl Stage {
    /// Two services with their scripts. An act beyond the end of a script is its last one again.
    pub(crate) fn new(first: &[Act], second: &[Act], tells: &'static [&'static str]) -> Rc<Self> {
        let script = |acts: &[Act]| RefCell::new(acts.iter().cloned().collect());
        Rc::new(Self {
            began: clock::now(),
            scripts: [script(first), script(second)],
            labels: RefCell::default(),
            tells,
            story: RefCell::default(),
            seen: RefCell::default(),
        })
    }

    /// The time since the beginning.
    pub(crate) fn at(&self) -> Duration {
        clock::now().since(self.began)
    }

    /// Adds to the story what happened now.
    pub(crate) fn tell(&self, what: &str) {
        self.story.borrow_mut().push(format!("{what} @{}", self.at().as_millis()));
    }

    /// What has happened.
    pub(crate) fn story(&self) -> String {
        self.story.borrow().join(", ")
    }

    fn label(&self, ip: IpAddr) -> String {
        let second = is_second(ip);
        let mut labels = self.labels.borrow_mut();
        if !labels.contains(&ip) {
            labels.push(ip);
        }
        let of_service = labels.iter().filter(|known| is_second(**known) == second);
        let number = of_service.take_while(|known| **known != ip).count();
        let first = if second { b'A' } else { b'a' };
        char::from(first + u8::try_from(number).unwrap()).to_string()
    }

    /// The next act of a service, taken if it is `wanted`.
    fn next(&self, second: bool, wanted: fn(&Act) -> bool) -> Option<Act> {
        let mut script = self.scripts[usize::from(second)].borrow_mut();
        let act = script.front().cloned().expect("a service without a script was asked");
        if !wanted(&act) {
            return None;
        }
        if script.len() > 1 {
            script.pop_front();
        }
        Some(act)
    }

    fn next_shuts(&self, second: bool) -> bool {
        let script = self.scripts[usize::from(second)].borrow();
        script.front().is_some_and(Act::shuts)
    }

    async fn serve(self: Rc<Self>, ip: IpAddr, mut io: DuplexStream) {
        let _ = self.requests(ip, &mut io).await;
    }

    async fn requests(&self, ip: IpAddr, io: &mut DuplexStream) -> Option<()> {
        let (label, second) = (self.label(ip), is_second(ip));
        let (mut buffer, mut fresh) = (Vec::new(), true);
        loop {
            let head = read_head(io, &mut buffer).await?;
            let act = self.next(second, |_| true)?;
            let told = self.tells.iter().filter_map(|field| value(&head, field));
            let told: String = told.map(|value| format!(" {value}")).collect();
            self.tell(&format!("{label}{told}"));
            let body = Rc::default();
            let id = value(&head, "x-request-id").unwrap_or_default();
            self.seen.borrow_mut().push(Seen {
                id: id.clone(),
                fresh: std::mem::take(&mut fresh),
                second,
                at: self.at(),
                act: act.clone(),
                body: Rc::clone(&body),
            });
            if let Act::Early(status) = act {
                io.write_all(&answer(status, "", &id)).await.ok()?;
            }
            if act == Act::Deaf {
                sleep(Duration::from_secs(3600)).await;
                return None;
            }
            let read = read_body(io, &head, &mut buffer).await;
            let Some(read) = read else {
                self.tell(&format!("{label} loses its client"));
                return None;
            };
            *body.borrow_mut() = Some(read);
            let (after, sends) = match act {
                Act::Answer(after, status, fields) => (after, answer(status, fields, &id)),
                Act::HalfHead(after) => (after, b"HTTP/1.1 200 OK\r\ncontent-".to_vec()),
                Act::Cut(after) => {
                    (after, b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nok".to_vec())
                }
                Act::Close(after) => (after, Vec::new()),
                Act::Early(_) => continue,
                _ => (3_600_000, Vec::new()),
            };
            let left = async {
                let mut more = [0; 64];
                while !matches!(io.read(&mut more).await, Ok(0) | Err(_)) {}
            };
            tokio::select! {
                biased;
                () = left => {
                    self.tell(&format!("{label} is left"));
                    return None;
                }
                () = sleep(Duration::from_millis(after)) => {}
            }
            io.write_all(&sends).await.ok()?;
            // Who lets nobody connect any more closes what is open.
            if !matches!(act, Act::Answer(..)) || self.next_shuts(second) {
                return None;
            }
        }
    }
}

/// Opens connections to the services of a stage.
pub(crate) struct Connector(pub(crate) Rc<Stage>);

impl Connect for Connector {
    fn connect<'a>(&'a self, target: &'a ConnectTarget, timeout: Duration) -> Connecting<'a> {
        Box::pin(async move {
            let stage = &self.0;
            let Address::Tcp(address) = &target.address else { panic!("no other is used") };
            let ip = address.ip();
            let label = stage.label(ip);
            match stage.next(is_second(ip), Act::shuts) {
                Some(Act::Refuse) => {
                    stage.tell(&format!("{label} refuses"));
                    return Err(Error::new(Reason::ConnectRefused, "connection refused"));
                }
                Some(_) => {
                    stage.tell(&format!("{label} is silent"));
                    sleep(timeout).await;
                    return Err(Error::new(Reason::ConnectTimeout, "connect timed out"));
                }
                None => {}
            }
            let (ours, theirs) = tokio::io::duplex(16 * 1024);
            tokio::task::spawn_local(stage.clone().serve(ip, theirs));
            Ok(Connected { io: Io::Memory(ours), alpn: None })
        })
    }
}

fn is_second(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(ip) if ip.octets()[2] == 1)
}

/// An answer with the id of its request as its body.
fn answer(status: u16, fields: &str, id: &str) -> Vec<u8> {
    let length = id.len();
    format!("HTTP/1.1 {status} x\r\ncontent-length: {length}\r\n{fields}\r\n{id}").into_bytes()
}

/// The value of a field of a head.
fn value(head: &str, field: &str) -> Option<String> {
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    lines
        .filter(|(name, _)| name.eq_ignore_ascii_case(field))
        .map(|(_, value)| value.trim().to_owned())
        .next()
}

async fn read_head(io: &mut DuplexStream, buffer: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            let head: Vec<u8> = buffer.drain(..end + 4).collect();
            return Some(String::from_utf8(head).unwrap());
        }
        if io.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

async fn read_body(io: &mut DuplexStream, head: &str, buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
    let length: Option<usize> = value(head, "content-length").and_then(|text| text.parse().ok());
    let chunked = value(head, "transfer-encoding").is_some();
    loop {
        let end = match length {
            None if chunked => {
                buffer.windows(5).position(|five| five == b"0\r\n\r\n").map(|at| at + 5)
            }
            length => Some(length.unwrap_or(0)).filter(|length| buffer.len() >= *length),
        };
        if let Some(end) = end {
            return Some(buffer.drain(..end).collect());
        }
        if io.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}
