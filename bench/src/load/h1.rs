//! HTTP/1.1 load: many connections on one event loop of its own, a request in flight on each.
//!
//! It does as little per request as it can, so that the processors are left to what is measured.

mod response;

use std::{
    collections::VecDeque,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    rc::Rc,
    sync::Arc,
    time::Instant,
};

use anyhow::{Context, Result, bail};
use rustix::event::{Timespec, epoll};
use rustls::{ClientConfig, ClientConnection, pki_types::ServerName};

use self::response::Response;
use super::{Asked, Due, LATE, Outcome, Pace, Progress, Schedule, timer::Timer};
use crate::{certificates::HOST, scenario::Scenario, stop};

/// What marks the timer among the events; connections are marked by their index.
const TIMER: u64 = u64::MAX;
/// Connections that may be lost before a run is given up.
const LOST_MAX: u32 = 1_000;

/// Open HTTP/1.1 connections.
pub(crate) struct Driver {
    to: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    length: usize,
    events: rustix::fd::OwnedFd,
    timer: Timer,
    connections: Vec<Connection>,
    lost: u32,
}

struct Connection {
    socket: TcpStream,
    /// What it sends, each time.
    request: Rc<[u8]>,
    tls: Option<ClientConnection>,
    response: Response,
    /// When the request in flight was due.
    due: Option<Instant>,
    /// Open loop: what is due behind it.
    waiting: VecDeque<Instant>,
}

impl Driver {
    pub(super) fn connect(
        scenario: &Scenario,
        asked: Asked<'_>,
        to: SocketAddr,
        tls: Option<Arc<ClientConfig>>,
    ) -> Result<Self> {
        let events = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let timer = Timer::new()?;
        epoll::add(&events, &timer, epoll::EventData::new_u64(TIMER), epoll::EventFlags::IN)?;
        let mut driver = Self {
            to,
            tls,
            length: scenario.size,
            events,
            timer,
            connections: Vec::with_capacity(scenario.connections),
            lost: 0,
        };
        for index in 0..scenario.connections {
            let connection = driver.open(index, request(asked, index, "").into())?;
            driver.connections.push(connection);
        }
        Ok(driver)
    }

    fn open(&self, index: usize, request: Rc<[u8]>) -> Result<Connection> {
        let mut socket =
            TcpStream::connect(self.to).with_context(|| format!("connect {}", self.to))?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(LATE))?;
        let mut tls = match &self.tls {
            None => None,
            Some(config) => {
                let name = ServerName::try_from(HOST).context("server name")?;
                Some(ClientConnection::new(Arc::clone(config), name)?)
            }
        };
        if let Some(tls) = &mut tls {
            while tls.is_handshaking() {
                tls.complete_io(&mut socket).context("TLS handshake")?;
            }
        }
        socket.set_nonblocking(true)?;
        let data = epoll::EventData::new_u64(index as u64);
        epoll::add(&self.events, &socket, data, epoll::EventFlags::IN)?;
        let response = Response::new(self.length);
        Ok(Connection { socket, tls, request, response, due: None, waiting: VecDeque::new() })
    }

    pub(super) fn run(&mut self, pace: Pace) -> Result<Outcome> {
        let began = Instant::now();
        let mut schedule = Schedule::new(pace, began);
        let mut outcome = Outcome::default();
        let mut idle: VecDeque<usize> = (0..self.connections.len()).collect();
        let mut turn = 0;
        let mut scratch = vec![0; 256 * 1024];
        let mut ready = Vec::with_capacity(256);
        let mut over = false;
        let mut progress = Progress::new();
        loop {
            // Send what is due.
            while !over && (schedule.is_open() || !idle.is_empty()) {
                match schedule.next(Instant::now()) {
                    Due::Now(due) if schedule.is_open() => {
                        turn = (turn + 1) % self.connections.len();
                        self.connections[turn].waiting.push_back(due);
                        self.send_waiting(turn, &mut outcome)?;
                    }
                    Due::Now(due) => {
                        if let Some(index) = idle.pop_front() {
                            self.connections[index].waiting.push_back(due);
                            self.send_waiting(index, &mut outcome)?;
                            if self.connections[index].owed() == 0 {
                                idle.push_back(index);
                            }
                        }
                    }
                    Due::At(when) => {
                        self.timer.set(when)?;
                        break;
                    }
                    Due::Never => over = true,
                }
            }
            let owed: usize = self.connections.iter().map(Connection::owed).sum();
            if over && owed == 0 {
                break;
            }
            if progress.has_stalled(&outcome) {
                for _ in 0..owed {
                    outcome.complain(|| format!("no response within {LATE:?}"));
                }
                self.reopen_owing()?;
                break;
            }
            ready.clear();
            let wait = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
            match epoll::wait(&self.events, rustix::buffer::spare_capacity(&mut ready), Some(&wait))
            {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("wait for events"),
            }
            stop::check()?;
            for event in &ready {
                let mark = event.data.u64();
                if mark == TIMER {
                    self.timer.clear()?;
                    continue;
                }
                let index = usize::try_from(mark).context("an event without a connection")?;
                if self.receive(index, &mut scratch, &schedule, &mut outcome)? {
                    idle.push_back(index);
                }
            }
        }
        outcome.time = began.elapsed();
        Ok(outcome)
    }

    /// Sends the next waiting request, if none is in flight.
    fn send_waiting(&mut self, index: usize, outcome: &mut Outcome) -> Result<()> {
        let connection = &mut self.connections[index];
        if connection.due.is_none()
            && let Some(due) = connection.waiting.pop_front()
        {
            connection.due = Some(due);
            if let Err(error) = connection.send() {
                self.replace(index, outcome, &format!("write: {error}"))?;
            }
        }
        Ok(())
    }

    /// Reads what has come; true when the connection is without work.
    fn receive(
        &mut self,
        index: usize,
        scratch: &mut [u8],
        schedule: &Schedule,
        outcome: &mut Outcome,
    ) -> Result<bool> {
        let connection = &mut self.connections[index];
        let complete = match connection.receive(scratch) {
            Ok(complete) => complete,
            // Told by the write that follows, should there be one: an idle connection may be closed.
            Err(error) => {
                let busy = connection.due.is_some();
                self.replace(index, outcome, &error)?;
                return Ok(busy && !schedule.is_open());
            }
        };
        if !complete {
            return Ok(false);
        }
        let now = Instant::now();
        match (connection.response.take(), connection.due.take()) {
            (Ok(()), Some(due)) => {
                outcome.good += 1;
                if schedule.is_open() {
                    outcome.latencies.push(now.duration_since(due));
                }
            }
            (Ok(()), None) => outcome.complain(|| "a response without a request".into()),
            (Err(complaint), _) => outcome.complain(|| complaint),
        }
        self.send_waiting(index, outcome)?;
        Ok(!schedule.is_open())
    }

    /// Puts a new connection in the place of one that failed; its request, if any, has failed.
    fn replace(&mut self, index: usize, outcome: &mut Outcome, why: &str) -> Result<()> {
        if self.connections[index].due.is_some() {
            outcome.complain(|| why.to_owned());
        }
        self.lost += 1;
        if self.lost > LOST_MAX {
            bail!("{LOST_MAX} connections to {} were lost, the last one by {why}", self.to);
        }
        let mut fresh = self.open(index, self.connections[index].request.clone())?;
        fresh.waiting = std::mem::take(&mut self.connections[index].waiting);
        self.connections[index] = fresh;
        if self.connections[index].waiting.is_empty() {
            return Ok(());
        }
        self.send_waiting(index, outcome)
    }

    /// Connections with a response still to come are of no use to the next run.
    fn reopen_owing(&mut self) -> Result<()> {
        for index in 0..self.connections.len() {
            if self.connections[index].owed() > 0 {
                let request = self.connections[index].request.clone();
                self.connections[index] = self.open(index, request)?;
            }
        }
        Ok(())
    }
}

impl Connection {
    fn owed(&self) -> usize {
        self.waiting.len() + usize::from(self.due.is_some())
    }

    fn send(&mut self) -> std::io::Result<()> {
        let request = &*self.request;
        // The request is far smaller than the socket's buffer, which is empty: a write that would block
        // is a failure like any other.
        let Some(tls) = &mut self.tls else { return self.socket.write_all(request) };
        tls.writer().write_all(request)?;
        while tls.wants_write() {
            tls.write_tls(&mut self.socket)?;
        }
        Ok(())
    }

    /// True once a response is complete.
    fn receive(&mut self, scratch: &mut [u8]) -> Result<bool, String> {
        let Some(tls) = &mut self.tls else {
            return match self.socket.read(scratch) {
                Ok(0) => Err("closed by the server".into()),
                Ok(count) => self.response.feed(&scratch[..count]),
                Err(error) if is_transient(&error) => Ok(false),
                Err(error) => Err(format!("read: {error}")),
            };
        };
        match tls.read_tls(&mut self.socket) {
            Ok(0) => return Err("closed by the server".into()),
            Ok(_) => {}
            Err(error) if is_transient(&error) => return Ok(false),
            Err(error) => return Err(format!("read: {error}")),
        }
        tls.process_new_packets().map_err(|error| format!("TLS: {error}"))?;
        let mut complete = false;
        loop {
            match tls.reader().read(scratch) {
                Ok(0) => return Err("closed by the server".into()),
                Ok(count) => complete |= self.response.feed(&scratch[..count])?,
                Err(error) if is_transient(&error) => return Ok(complete),
                Err(error) => return Err(format!("read: {error}")),
            }
        }
    }
}

/// What a connection sends, with further fields.
pub(super) fn request(asked: Asked<'_>, connection: usize, fields: &str) -> Vec<u8> {
    let token = asked.token(connection);
    let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let path = asked.path;
    format!(
        "GET {path} HTTP/1.1\r\nHost: {HOST}\r\nUser-Agent: weft-bench\r\nAccept: */*\r\n{fields}{token}\r\n"
    )
    .into_bytes()
}

fn is_transient(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted)
}
