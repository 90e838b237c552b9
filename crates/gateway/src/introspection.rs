//! Introspection: the issuer is asked what a token is (RFC 7662), and its answers are remembered for a while.
//!
//! One future asks ([`Introspection::run`]), on the control runtime; workers leave tokens for it, and read what it
//! has found. A token that several requests show at once, on whatever worker, is asked about once. What is
//! remembered ends with the token, and no later than [`Options::cache`]; that a token is no good is remembered too,
//! for a shorter time. Nothing is bounded by what clients send: tokens that wait, questions under way and answers
//! that are remembered have a number each, beyond which the answer is that it cannot be said now.
//!
//! An endpoint that fails is left alone for a while after a few failures in a row; what is remembered counts on.

mod memory;

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use weft_identity::token::Claims;
use weft_kernel::{Name, Result, Tick};
use weft_net::clock;

use self::memory::Memory;
use crate::{
    credential::{ByDigest, Digest},
    oauth::{Client, Form, Post, push},
};

/// The most questions that are under way at an endpoint.
const ASKED_MAX: usize = 64;
/// The most tokens that are asked about or wait for it.
const WAITING_MAX: usize = 1024;
/// The longest answer, in bytes.
pub const ANSWER_BYTES_MAX: usize = 32 * 1024;
/// The time for which nobody asks again about a token whose question failed.
const FAILED: Duration = Duration::from_secs(1);
/// The failures in a row after which the endpoint is left alone, and the first and the longest time of that.
const FAILURES: u32 = 3;
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// Whom to ask, and for how long what it says counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The name of the issuer.
    pub issuer: Name,
    /// The URL of the endpoint.
    pub url: String,
    /// The authority that its certificate must be of; those of the system without one.
    pub ca_file: Option<PathBuf>,
    /// What the endpoint knows Weft as.
    pub client: Client,
    /// The longest time for which a good token is believed without asking again.
    pub cache: Duration,
    /// The time for which a token that is no good is refused without asking again.
    pub refused: Duration,
}

/// What is known of a token.
#[derive(Clone, Debug)]
pub(crate) enum Known {
    /// It is good, says this, and must be asked about again by then.
    Active(Arc<Claims>, Tick),
    /// It is not good.
    Inactive,
    /// It could not be said, just now.
    Failed,
}

/// How many questions ended how, and how many tokens wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The token was good.
    pub active: u64,
    /// The token was not.
    pub inactive: u64,
    /// There was no answer, or none that can be understood.
    pub failed: u64,
    /// Tokens that are asked about or wait for it.
    pub waiting: usize,
}

/// A token to ask about.
struct Question {
    digest: Digest,
    token: Box<[u8]>,
}

#[derive(Default)]
struct State {
    memory: Memory,
    /// Those that somebody waits for; the sender goes when it is known.
    waiting: HashMap<Digest, watch::Sender<()>, ByDigest>,
    queue: VecDeque<Question>,
    counts: Counts,
    failures: u32,
    /// Until when the endpoint is left alone.
    paused: Option<Tick>,
}

impl State {
    /// Whether a question may be put.
    fn may_ask(&self, now: Tick) -> bool {
        self.paused.is_none_or(|until| now >= until) && self.waiting.len() < WAITING_MAX
    }

    /// Takes what became of a question.
    fn end(&mut self, digest: Digest, known: Known, until: Tick, now: Tick, bytes: usize) {
        match &known {
            Known::Active(..) => self.counts.active += 1,
            Known::Inactive => self.counts.inactive += 1,
            Known::Failed => self.counts.failed += 1,
        }
        if !matches!(known, Known::Failed) {
            (self.failures, self.paused) = (0, None);
        } else if self.paused.is_none_or(|until| now >= until) {
            // Those that fail together are one failure.
            self.failures = self.failures.saturating_add(1);
            if let Some(over) = self.failures.checked_sub(FAILURES) {
                let pause = PAUSES.0.saturating_mul(1 << over.min(8)).min(PAUSES.1);
                self.paused = Some(now.plus(pause));
            }
        }
        self.memory.put(digest, known, until, bytes);
        self.waiting.remove(&digest);
    }
}

/// The endpoint of an issuer, and what it has said.
pub struct Introspection {
    options: Options,
    post: Box<dyn Post>,
    state: Mutex<State>,
    left: Notify,
}

impl fmt::Debug for Introspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Introspection").field("options", &self.options).finish_non_exhaustive()
    }
}

/// A question under way. Dropped before it has ended, it is put back.
struct Asking<'a> {
    of: &'a Introspection,
    question: Option<Question>,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if let Some(question) = self.question.take() {
            self.of.state.lock().queue.push_front(question);
        }
    }
}

impl Introspection {
    /// An endpoint that nobody has asked yet.
    pub fn new(options: Options, post: impl Post + 'static) -> Self {
        let (post, state) = (Box::new(post), Mutex::default());
        Self { options, post, state, left: Notify::new() }
    }

    /// Whom it asks.
    pub const fn options(&self) -> &Options {
        &self.options
    }

    /// How often it has asked.
    pub fn counts(&self) -> Counts {
        let state = self.state.lock();
        Counts { waiting: state.waiting.len(), ..state.counts }
    }

    /// What is known of a token.
    pub(crate) fn known(&self, digest: &Digest, now: Tick) -> Option<Known> {
        self.state.lock().memory.find(digest, now)
    }

    /// Has the endpoint asked about a token; `None` if that may not be now.
    pub(crate) fn ask(
        &self,
        digest: Digest,
        token: &[u8],
        now: Tick,
    ) -> Option<impl Future<Output = ()> + use<>> {
        let mut known = {
            let mut state = self.state.lock();
            match state.waiting.get(&digest) {
                Some(known) => known.subscribe(),
                None if state.may_ask(now) => {
                    let (sender, known) = watch::channel(());
                    state.waiting.insert(digest, sender);
                    state.queue.push_back(Question { digest, token: token.into() });
                    known
                }
                None => return None,
            }
        };
        self.left.notify_one();
        Some(async move {
            // Nothing is ever sent; the sender goes.
            let _ = known.changed().await;
        })
    }

    /// Asks about all that is left for it, for ever. Dropped at any point, it can be begun anew.
    pub async fn run(&self) {
        let mut asking = FuturesUnordered::new();
        loop {
            while asking.len() < ASKED_MAX {
                let Some(question) = self.state.lock().queue.pop_front() else { break };
                asking.push(self.carry_out(Asking { of: self, question: Some(question) }));
            }
            tokio::select! {
                () = self.left.notified() => {}
                Some(()) = asking.next() => {}
            }
        }
    }

    async fn carry_out(&self, mut asking: Asking<'_>) {
        let Some(Question { digest, token }) = &asking.question else { return };
        let (digest, said) = (*digest, self.put(token).await);
        let now = clock::now();
        let (known, until, bytes) = match said {
            Ok((Some(claims), bytes)) => {
                let left = time_left(&claims, clock::wall()).unwrap_or(Duration::MAX);
                // The clock of the issuer may be another; it has just said that the token is good.
                let until = now.plus(left.max(FAILED).min(self.options.cache));
                (Known::Active(Arc::new(claims), until), until, bytes)
            }
            Ok((None, _)) => (Known::Inactive, now.plus(self.options.refused), 0),
            Err(why) => {
                let Options { issuer, url, .. } = &self.options;
                tracing::warn!("issuer {issuer}: {url} could not be asked about a token: {why}");
                (Known::Failed, now.plus(FAILED), 0)
            }
        };
        asking.question = None;
        self.state.lock().end(digest, known, until, now, bytes);
    }

    /// Asks the endpoint (RFC 7662 section 2.1); `None` if the token is not good.
    async fn put(&self, token: &[u8]) -> Result<(Option<Claims>, usize), String> {
        let Ok(token) = std::str::from_utf8(token) else { return Ok((None, 0)) };
        let mut body = String::with_capacity(token.len() + 64);
        push(&mut body, "token", token);
        push(&mut body, "token_type_hint", "access_token");
        let authorization = self.options.client.sign(&mut body);
        let form = Form { body, authorization };
        let asked = self.post.post(&self.options.url, form, ANSWER_BYTES_MAX).await;
        let (status, body) = asked.map_err(|error| error.detail())?;
        match status {
            200 => {}
            401 | 403 => return Err(format!("status {status}: it does not take the client")),
            _ => return Err(format!("the answer has status {status}")),
        }
        let claims = Claims::of_json(&body).map_err(|_fault| "the answer is not understood")?;
        match claims.get("active").and_then(serde_json::Value::as_bool) {
            Some(true) => Ok((Some(claims), body.len())),
            Some(false) => Ok((None, 0)),
            None => Err("the answer does not say whether the token is active".into()),
        }
    }
}

/// The time that a token has left, if it says when it ends.
fn time_left(claims: &Claims, wall: SystemTime) -> Option<Duration> {
    let now = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let left = (claims.expires()? - now).clamp(0.0, 1e9);
    Some(Duration::from_secs_f64(left))
}

#[cfg(test)]
mod tests;
