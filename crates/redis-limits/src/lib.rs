//! Rate limits of several nodes, counted in Redis or Valkey.
//!
//! A [`RedisLimits`] is a [`Store`] that rate limits ask. One connection carries all questions, each of which is one
//! script over one key; the clock is the server's, so that nodes need not agree about theirs.
//!
//! Invariants: who asks never waits for the network, since questions go into a bounded queue that [`RedisLimits::run`]
//! works off on a runtime of its own; a question that cannot be put, or has no answer in time, is dropped, by which
//! whoever asked learns it; an error that answers one question fails that one alone; while the server is away none are
//! kept, and while a connection that was good is opened anew, they wait; keys in the server are digests, and expire.
//! This is the only room that knows the `redis` crate. Deliberately absent: the redirections of a cluster, and the
//! look-ups of Sentinel. Address a node or a proxy that takes writes.
//!
//! Reading order: [`Options`], `take.lua`, `bounded`, `connection`, [`RedisLimits`].

mod bounded;
mod connection;

use std::{
    fmt,
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use redis::{Script, aio::MultiplexedConnection};
use tokio::{
    sync::{Mutex, Notify, mpsc},
    time::Instant,
};
use weft_kernel::Name;
use weft_net::client::{Resolver, Tls};
use weft_resilience::rate::shared::{Answer, Question, Store};

use self::connection::Connection;

/// Questions that wait to be put.
const QUEUE_MAX: usize = 4_096;
/// Questions that wait for an answer.
const IN_FLIGHT_MAX: usize = 256;
/// How often a server is asked whether it is there.
const PING: Duration = Duration::from_secs(1);
/// The shortest and the longest pause before a further attempt to connect.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// The time for connecting, with all that has to be said first.
const CONNECT: Duration = Duration::from_secs(2);
/// How often it is told that the server answers questions with the same error.
const TOLD: Duration = Duration::from_secs(60);

/// Where the server is, and how it is asked.
#[derive(Clone, PartialEq, Eq)]
pub struct Options {
    /// The name of the store, which log and metrics tell.
    pub name: Name,
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Whether TLS is spoken.
    pub tls: bool,
    /// The user, if it is not the default one.
    pub username: Option<String>,
    /// The password, if one is asked for.
    pub password: Option<String>,
    /// The number of the database.
    pub database: u32,
    /// The time for an answer.
    pub timeout: Duration,
    /// What keys begin with.
    pub prefix: String,
}

impl fmt::Debug for Options {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, host, port, tls, username, database, timeout, prefix, .. } = self;
        f.debug_struct("Options")
            .field("name", name)
            .field("host", host)
            .field("port", port)
            .field("tls", tls)
            .field("username", username)
            .field("database", database)
            .field("timeout", timeout)
            .field("prefix", prefix)
            .finish_non_exhaustive()
    }
}

/// Rate limits that a server of Redis or Valkey counts.
pub struct RedisLimits {
    options: Options,
    resolver: Arc<dyn Resolver>,
    tls: Option<Tls>,
    script: Script,
    questions: mpsc::Sender<Question>,
    asked: Mutex<mpsc::Receiver<Question>>,
    away: AtomicBool,
    answered: AtomicU64,
    failed: AtomicU64,
    /// Rings when nobody is to ask any more.
    closed: Notify,
}

/// Why a connection is of no use any more, if the server has ended it.
const CLOSED: &str = "it has closed the connection";

/// Why a question has no answer.
enum Fault {
    /// It is of this question alone.
    Question(String),
    /// The connection is of no use any more.
    Connection(String),
    /// The server has closed the connection; the question may be put again.
    Closed(Option<Question>),
}

impl Fault {
    /// One of the connection, whatever it was.
    fn whole(self) -> Self {
        match self {
            Self::Question(why) | Self::Connection(why) => Self::Connection(why),
            Self::Closed(_) => self,
        }
    }
}

impl RedisLimits {
    /// A store that is away until it [runs](Self::run). `tls` is asked with each connection that speaks it.
    pub fn new(options: Options, resolver: Arc<dyn Resolver>, tls: Option<Tls>) -> Self {
        let (questions, asked) = mpsc::channel(QUEUE_MAX);
        Self {
            options,
            resolver,
            tls,
            script: Script::new(include_str!("take.lua")),
            questions,
            asked: Mutex::new(asked),
            away: AtomicBool::new(true),
            answered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            closed: Notify::new(),
        }
    }

    /// Where the server is, and how it is asked.
    pub const fn options(&self) -> &Options {
        &self.options
    }

    /// Questions that were answered, and that were not.
    pub fn counts(&self) -> (u64, u64) {
        (self.answered.load(Relaxed), self.failed.load(Relaxed))
    }

    /// Ends its run.
    pub fn close(&self) {
        self.closed.notify_one();
    }

    /// Asks the server until it is closed, or for as long as it is polled.
    pub async fn run(&self) {
        tokio::select! {
            () = self.keep_asking() => {}
            () = self.closed.notified() => {}
        }
        self.away.store(true, Relaxed);
    }

    /// Asks the server, and connects again whenever it was away.
    async fn keep_asking(&self) {
        let mut asked = self.asked.lock().await;
        let (mut pause, mut told) = (PAUSES.0, String::new());
        let name = self.options.name.as_str();
        let (mut was_good, mut again) = (false, Vec::new());
        loop {
            let connected = match std::mem::take(&mut was_good) {
                // A server closes what was idle: whoever asks now waits for the next connection.
                true => connection::open(self).await,
                false => self.refusing(&mut asked, connection::open(self)).await,
            };
            let why = match connected {
                Ok(connection) => {
                    self.away.store(false, Relaxed);
                    if !told.is_empty() {
                        tracing::info!(store = name, "the limit store is there again");
                    }
                    let (since, answered) = (Instant::now(), self.counts().0);
                    let why = self.serve(connection, &mut asked, &mut again).await;
                    if self.counts().0 > answered || since.elapsed() > PAUSES.1 {
                        (pause, told) = (PAUSES.0, String::new());
                        if why == CLOSED {
                            tracing::debug!(store = name, "the limit store {why}");
                            was_good = true;
                            continue;
                        }
                    }
                    why
                }
                Err(why) => why,
            };
            self.away.store(true, Relaxed);
            self.failed.fetch_add(again.drain(..).count() as u64, Relaxed);
            if why != told {
                tracing::warn!(store = name, "the limit store is away: {why}");
                told = why;
            }
            self.refusing(&mut asked, tokio::time::sleep(pause)).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// What comes of it; whatever is asked meanwhile is dropped.
    async fn refusing<T>(
        &self,
        asked: &mut mpsc::Receiver<Question>,
        work: impl Future<Output = T>,
    ) -> T {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                Some(question) = asked.recv() => {
                    self.failed.fetch_add(1, Relaxed);
                    drop(question);
                }
            }
        }
    }

    /// Asks over a connection until it is of no use any more; gives why. `again` are the questions that the last one
    /// did not answer when it was closed, and then those of this one; none is put a third time.
    async fn serve(
        &self,
        Connection { asks, driver }: Connection,
        asked: &mut mpsc::Receiver<Question>,
        again: &mut Vec<Question>,
    ) -> String {
        let mut driver = driver;
        let mut under_way = FuturesUnordered::new();
        for question in again.drain(..) {
            under_way.push(self.put(asks.clone(), Some(question), false));
        }
        let mut refused: Option<(String, Instant)> = None;
        let mut ping = tokio::time::interval(PING);
        ping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = &mut driver => break,
                Some(outcome) = under_way.next() => match outcome {
                    Ok(()) => {}
                    Err(Fault::Connection(why)) => return why,
                    Err(Fault::Closed(question)) => {
                        again.extend(question);
                        break;
                    }
                    Err(Fault::Question(why)) => {
                        let is_new = |(what, at): &(String, Instant)| {
                            *what != why || at.elapsed() > TOLD
                        };
                        if refused.as_ref().is_none_or(is_new) {
                            let name = self.options.name.as_str();
                            tracing::warn!(store = name, "the limit store does not count: {why}");
                            refused = Some((why, Instant::now()));
                        }
                    }
                },
                Some(question) = asked.recv(), if under_way.len() < IN_FLIGHT_MAX => {
                    under_way.push(self.put(asks.clone(), Some(question), true));
                }
                _ = ping.tick() => under_way.push(self.put(asks.clone(), None, false)),
            }
        }
        // What is under way learns that nobody carries it any more.
        drop(driver);
        while let Some(outcome) = under_way.next().await {
            if let Err(Fault::Closed(question)) = outcome {
                again.extend(question);
            }
        }
        CLOSED.into()
    }

    /// Puts a question, or asks whether anybody is there. A question is given back, if it may be put again, where the
    /// connection was closed: the server may have counted it, which costs its key some units and nobody the request.
    async fn put(
        &self,
        mut asks: MultiplexedConnection,
        question: Option<Question>,
        may_repeat: bool,
    ) -> Result<(), Fault> {
        let Some(question) = question else {
            let command = redis::cmd("PING");
            let ping = command.query_async::<String>(&mut asks);
            // A server that does not answer this is none.
            return self.within(ping).await.map(|_| ()).map_err(Fault::whole);
        };
        let (key, rate, ask) = (question.key, question.rate, question.ask);
        let per_unit = rate.per.as_secs_f64() * 1e6 / rate.units.get() as f64;
        let mut script = self.script.prepare_invoke();
        script
            .key(self.key(&key))
            .arg(per_unit)
            .arg(rate.burst.get())
            .arg(ask.units)
            .arg(ask.least)
            .arg(ask.charge);
        let invoked = script.invoke_async(&mut asks);
        match self.within::<(u64, u64, u64, u64)>(invoked).await {
            Ok((units, left, reset, wait)) => {
                self.answered.fetch_add(1, Relaxed);
                let (reset, retry_after) =
                    (Duration::from_micros(reset), Duration::from_micros(wait));
                // No more than was asked for, whatever the server says.
                let units = units.min(ask.units);
                question.answer(Answer { units, left, reset, retry_after });
                Ok(())
            }
            Err(Fault::Closed(_)) if may_repeat => Err(Fault::Closed(Some(question))),
            Err(why) => {
                self.failed.fetch_add(1, Relaxed);
                Err(why)
            }
        }
    }

    async fn within<T>(
        &self,
        work: impl Future<Output = redis::RedisResult<T>>,
    ) -> Result<T, Fault> {
        match tokio::time::timeout(self.options.timeout, work).await {
            Ok(done) => done.map_err(|error| match connection::is_answer(&error) {
                true => Fault::Question(connection::told(&error)),
                false if error.is_connection_dropped() => Fault::Closed(None),
                false => Fault::Connection(connection::told(&error)),
            }),
            Err(_elapsed) => Err(Fault::Connection("it has not answered in time".into())),
        }
    }

    fn key(&self, key: &[u8]) -> String {
        let mut text = self.options.prefix.clone();
        for byte in key {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }
}

impl Store for RedisLimits {
    fn ask(&self, question: Question) {
        // What finds no room is dropped, by which whoever asked learns it.
        if self.questions.try_send(question).is_err() {
            self.failed.fetch_add(1, Relaxed);
        }
    }

    fn is_away(&self) -> bool {
        self.away.load(Relaxed)
    }

    fn timeout(&self) -> Duration {
        self.options.timeout
    }
}
