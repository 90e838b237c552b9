//! Keys that are fetched: the JWK set of an issuer (RFC 7517), refreshed ahead of its time.
//!
//! One future refreshes a set ([`Remote::refresh`]), on the control runtime; workers read what it has found. So
//! there is one fetch at a time, whoever asks. A set is fetched again before its time is over, so that no request
//! waits for it; while that fails, the one there is stays in use up to a bound, after which nothing is
//! believed any more. A token whose key is not there has the set fetched at once, but no sooner than
//! [`ASK_MIN`] after the last time, so that made-up names of keys cost the issuer nothing.

use std::{fmt, path::PathBuf, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::{Notify, watch};
use weft_identity::token::{Algorithm, KeySet};
use weft_kernel::{Name, Result, Tick};
use weft_net::clock;

use crate::roster::Generation;

/// The pause between the end of a fetch and the next that a token asks for.
pub const ASK_MIN: Duration = Duration::from_secs(10);
/// The longest time for which a request waits for keys.
pub const WAIT_MAX: Duration = Duration::from_secs(5);
/// The most bytes of a set.
pub const SET_BYTES_MAX: usize = 512 * 1024;
/// The first and the longest pause after a fetch that failed.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// Where a set is, and how long it may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The name of the issuer.
    pub issuer: Name,
    /// The URL.
    pub url: String,
    /// The authority that its certificate must be of; those of the system without one.
    pub ca_file: Option<PathBuf>,
    /// The algorithms for which keys are taken.
    pub algorithms: Vec<Algorithm>,
    /// For how long a set is fresh.
    pub cache: Duration,
    /// For how much longer it is used while it cannot be fetched.
    pub stale: Duration,
}

/// Fetches a set, in bounded time and size.
pub trait Fetch: Send + Sync {
    /// The body of a successful answer.
    fn get<'a>(&'a self, url: &'a str) -> Pin<Box<dyn Future<Output = Result<Bytes>> + Send + 'a>>;
}

/// A set that is fetched.
pub struct Remote {
    options: Options,
    fetch: Box<dyn Fetch>,
    generation: Generation,
    state: watch::Sender<State>,
    asked: Notify,
}

/// What is known of a set.
#[derive(Clone, Debug, Default)]
struct State {
    keys: Option<Fetched>,
    /// How often it was fetched, and how often that failed; and in a row.
    fetched: u64,
    failed: u64,
    failures: u32,
    is_fetching: bool,
    /// When the last fetch ended.
    ended: Option<Tick>,
    /// When the next one begins.
    due: Option<Tick>,
}

#[derive(Clone, Debug)]
struct Fetched {
    set: Arc<KeySet>,
    /// As it came, to know whether another is the same.
    text: Bytes,
    at: Tick,
}

/// What a fetch came to.
type Outcome = Result<(KeySet, Bytes), String>;

impl State {
    /// The set, unless it is too old.
    fn keys(&self, options: &Options, now: Tick) -> Option<&Fetched> {
        let last = |fetched: &&Fetched| fetched.at.plus(options.cache).plus(options.stale);
        self.keys.as_ref().filter(|fetched| now < last(fetched))
    }

    /// Whether a token may have it fetched now.
    fn may_be_asked(&self, now: Tick) -> bool {
        self.is_fetching || self.ended.is_none_or(|ended| now >= ended.plus(ASK_MIN))
    }

    /// Takes what a fetch came to; whether the keys are others than before.
    fn end(&mut self, outcome: Outcome, options: &Options, now: Tick) -> bool {
        self.is_fetching = false;
        self.ended = Some(now);
        match outcome {
            Ok((set, text)) => {
                self.fetched += 1;
                self.failures = 0;
                // Ahead of its time, with room for a few tries.
                self.due = Some(now.plus(options.cache.mul_f64(0.8)));
                let same = self.keys.as_ref().is_some_and(|before| before.text == text);
                match &mut self.keys {
                    Some(before) if same => before.at = now,
                    _ => self.keys = Some(Fetched { set: Arc::new(set), text, at: now }),
                }
                !same
            }
            Err(_) => {
                self.failed += 1;
                let pause = RETRY_MIN.saturating_mul(1 << self.failures.min(10)).min(RETRY_MAX);
                self.failures += 1;
                self.due = Some(now.plus(pause));
                false
            }
        }
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Remote {
    /// A set that nobody has fetched yet.
    pub fn new(options: Options, fetch: impl Fetch + 'static, generation: Generation) -> Self {
        let (fetch, state) = (Box::new(fetch), watch::Sender::default());
        Self { options, fetch, generation, state, asked: Notify::new() }
    }

    /// Where it is.
    pub const fn options(&self) -> &Options {
        &self.options
    }

    /// How often it was fetched, how often that failed, and for how long the keys there are have been.
    pub fn counts(&self, now: Tick) -> (u64, u64, Option<Duration>) {
        let state = self.state.borrow();
        let age = state.keys(&self.options, now).map(|fetched| now.since(fetched.at));
        (state.fetched, state.failed, age)
    }

    /// The keys, unless they are too old.
    pub(crate) fn keys(&self, now: Tick) -> Option<Arc<KeySet>> {
        let state = self.state.borrow();
        state.keys(&self.options, now).map(|fetched| Arc::clone(&fetched.set))
    }

    /// Whether it could not be fetched the last time.
    pub(crate) fn is_away(&self) -> bool {
        self.state.borrow().failures > 0
    }

    /// Has the set fetched for a token that needs it; `None` if that has just been done.
    pub(crate) fn ask(&self, now: Tick) -> Option<impl Future<Output = ()> + use<>> {
        let mut state = self.state.subscribe();
        let before = {
            let seen = state.borrow_and_update();
            if !seen.may_be_asked(now) {
                return None;
            }
            seen.fetched + seen.failed
        };
        self.asked.notify_one();
        Some(async move {
            // Nobody fetches any more if the sender is gone.
            let _ = state.wait_for(|state| state.fetched + state.failed > before).await;
        })
    }

    /// Keeps the set fresh, for ever. Dropped at any point, it can be begun anew.
    pub async fn refresh(&self) {
        loop {
            let due = self.state.borrow().due;
            if let Some(due) = due.filter(|due| *due > clock::now()) {
                let asked = async {
                    loop {
                        self.asked.notified().await;
                        if self.state.borrow().may_be_asked(clock::now()) {
                            return;
                        }
                    }
                };
                tokio::select! {
                    () = tokio::time::sleep(due.since(clock::now())) => {}
                    () = asked => {}
                }
            }
            self.state.send_modify(|state| state.is_fetching = true);
            let outcome = self.fetch().await;
            if let Err(why) = &outcome {
                let Options { issuer, url, .. } = &self.options;
                tracing::warn!("issuer {issuer}: the keys at {url} could not be fetched: {why}");
            }
            let mut changed = false;
            self.state.send_modify(|state| {
                changed = state.end(outcome, &self.options, clock::now());
            });
            if changed {
                self.generation.advance();
            }
        }
    }

    async fn fetch(&self) -> Outcome {
        let text = self.fetch.get(&self.options.url).await.map_err(|error| error.detail())?;
        if text.len() > SET_BYTES_MAX {
            return Err(format!("the answer is longer than {SET_BYTES_MAX} bytes"));
        }
        let set = KeySet::of_jwks(&text, &self.options.algorithms, false)?;
        Ok((set, text))
    }
}

#[cfg(test)]
mod tests;
