//! Questions to somebody outside, such as the endpoints of an issuer: each is put once for all workers, and what is
//! answered is remembered for a while.
//!
//! One future asks ([`Questions::run`]), on the control runtime; workers leave questions for it, and read what it has
//! found. What several requests want to know at once, on whatever worker, is asked once. Nothing is bounded by what
//! clients send: questions that wait, those under way and answers that are remembered have a number each, beyond which
//! the answer is that it cannot be said now.
//!
//! Whoever fails is left alone for a while after a few failures in a row; what is remembered counts on.

mod memory;

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use weft_kernel::Tick;
use weft_net::clock;

use self::memory::{Entry, Memory};
use crate::credential::{ByDigest, Digest};

/// The most questions that are under way.
pub(crate) const ASKED_MAX: usize = 64;
/// The most questions that are under way or wait for it.
pub(crate) const WAITING_MAX: usize = 1024;
/// The time for which nobody asks again what has just failed.
pub(crate) const FAILED: Duration = Duration::from_secs(1);
/// The failures in a row after which nobody is asked for a while, and the first and the longest time of that.
const FAILURES: u32 = 3;
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// Whom to ask.
pub(crate) trait Endpoint: Send + Sync {
    /// What it answers.
    type Answer: Clone + Send + Sync;

    /// Asks it about a subject, in bounded time. That there is no answer was then told in the log.
    fn ask(
        &self,
        subject: &[u8],
    ) -> impl Future<Output = Result<Said<Self::Answer>, Unanswered>> + Send;

    /// Whether that is what the client has hoped for.
    fn is_good(answer: &Self::Answer) -> bool;
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// Whoever is asked is away, or wrong: others would be told nothing either.
    Failed,
    /// It will not hear of this subject, whatever that is, and answers others.
    Refused,
}

impl Unanswered {
    /// What a status says other than 200. Clients choose subjects, so what is said of one must not end all others.
    pub(crate) const fn of_status(status: u16) -> Self {
        match status {
            401 | 403 | 404 | 405 | 407 | 408 | 421 | 425 | 429 => Self::Failed,
            400..=499 => Self::Refused,
            _ => Self::Failed,
        }
    }
}

/// An answer, and for how long it counts.
#[derive(Clone, Debug)]
pub(crate) struct Said<A> {
    pub(crate) answer: A,
    /// From when on it is asked again, while this counts still.
    pub(crate) renew: Tick,
    /// Until when it counts.
    pub(crate) until: Tick,
    /// The bytes that it keeps.
    pub(crate) bytes: usize,
}

/// What is remembered of a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Known<A> {
    /// This was said.
    Said(A),
    /// This was said, and it is time to ask again.
    Old(A),
    /// It could not be said, just now.
    Failed,
}

/// How many questions ended how, and how many wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The answer was what was hoped for.
    pub good: u64,
    /// It was not.
    pub bad: u64,
    /// There was no answer, or none that can be understood.
    pub failed: u64,
    /// Questions that are under way or wait for it.
    pub waiting: usize,
}

/// A question.
struct Question {
    digest: Digest,
    subject: Box<[u8]>,
}

struct State<A> {
    memory: Memory<A>,
    /// Those that somebody waits for; the sender goes when it is known.
    waiting: HashMap<Digest, watch::Sender<()>, ByDigest>,
    queue: VecDeque<Question>,
    counts: Counts,
    failures: u32,
    /// Until when nobody is asked.
    paused: Option<Tick>,
}

impl<A: Clone> State<A> {
    /// Whether a question may be put.
    fn may_ask(&self, now: Tick) -> bool {
        self.paused.is_none_or(|until| now >= until) && self.waiting.len() < WAITING_MAX
    }

    /// Takes what became of a question.
    fn end(&mut self, digest: Digest, said: Result<Said<A>, Unanswered>, is_good: bool, now: Tick) {
        match (&said, is_good) {
            (Err(_), _) => self.counts.failed += 1,
            (_, true) => self.counts.good += 1,
            (_, false) => self.counts.bad += 1,
        }
        if !matches!(said, Err(Unanswered::Failed)) {
            (self.failures, self.paused) = (0, None);
        } else if self.paused.is_none_or(|until| now >= until) {
            // Those that fail together are one failure.
            self.failures = self.failures.saturating_add(1);
            if let Some(over) = self.failures.checked_sub(FAILURES) {
                let pause = PAUSES.0.saturating_mul(1 << over.min(8)).min(PAUSES.1);
                self.paused = Some(now.plus(pause));
            }
        }
        match said {
            Ok(Said { answer, renew, until, bytes }) => {
                self.memory.put(digest, Entry { answer: Some(answer), renew, until, bytes });
            }
            Err(_) => {
                let until = now.plus(FAILED);
                // What was said before counts for as long as it was said to.
                if !self.memory.postpone(&digest, until, now) {
                    let failed = Entry { answer: None, renew: until, until, bytes: 0 };
                    self.memory.put(digest, failed);
                }
            }
        }
        self.waiting.remove(&digest);
    }
}

/// Questions to an endpoint, and what it has said.
pub(crate) struct Questions<E: Endpoint> {
    endpoint: E,
    state: Mutex<State<E::Answer>>,
    left: Notify,
}

/// A question under way. Dropped before it has ended, it is put back.
struct Asking<'a, E: Endpoint> {
    of: &'a Questions<E>,
    question: Option<Question>,
}

impl<E: Endpoint> Drop for Asking<'_, E> {
    fn drop(&mut self) {
        if let Some(question) = self.question.take() {
            self.of.state.lock().queue.push_front(question);
        }
    }
}

impl<E: Endpoint> Questions<E> {
    /// An endpoint that nobody has asked yet.
    pub(crate) fn new(endpoint: E) -> Self {
        let state = State {
            memory: Memory::default(),
            waiting: HashMap::default(),
            queue: VecDeque::new(),
            counts: Counts::default(),
            failures: 0,
            paused: None,
        };
        Self { endpoint, state: Mutex::new(state), left: Notify::new() }
    }

    pub(crate) const fn endpoint(&self) -> &E {
        &self.endpoint
    }

    pub(crate) fn counts(&self) -> Counts {
        let state = self.state.lock();
        Counts { waiting: state.waiting.len(), ..state.counts }
    }

    /// What is known of a subject.
    pub(crate) fn known(&self, digest: &Digest, now: Tick) -> Option<Known<E::Answer>> {
        self.state.lock().memory.find(digest, now)
    }

    /// Forgets what was said of a subject.
    pub(crate) fn forget(&self, digest: &Digest) {
        self.state.lock().memory.remove(digest);
    }

    /// Has a subject asked about; `None` if that may not be now. The future ends when the answer is there.
    pub(crate) fn ask(
        &self,
        digest: Digest,
        subject: &[u8],
        now: Tick,
    ) -> Option<impl Future<Output = ()> + use<E>> {
        let mut known = {
            let mut state = self.state.lock();
            match state.waiting.get(&digest) {
                Some(known) => known.subscribe(),
                None if state.may_ask(now) => {
                    let (sender, known) = watch::channel(());
                    state.waiting.insert(digest, sender);
                    state.queue.push_back(Question { digest, subject: subject.into() });
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

    /// Puts all questions that are left for it, for ever. Dropped at any point, it can be begun anew.
    pub(crate) async fn run(&self) {
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

    async fn carry_out(&self, mut asking: Asking<'_, E>) {
        let Some(Question { digest, subject }) = &asking.question else { return };
        let (digest, said) = (*digest, self.endpoint.ask(subject).await);
        let is_good = said.as_ref().is_ok_and(|said| E::is_good(&said.answer));
        asking.question = None;
        self.state.lock().end(digest, said, is_good, clock::now());
    }
}

#[cfg(test)]
impl<E: Endpoint> Questions<E> {
    /// Failures in a row, and questions that nobody has begun to put.
    pub(crate) fn troubles(&self) -> (u32, usize) {
        let state = self.state.lock();
        (state.failures, state.queue.len())
    }
}
