//! What becomes of a delivery: the one place where retry, dead letter and drop are decided.
//!
//! `decide` is pure: options, what is known of the delivery, what has happened, the time and chance
//! go in, an `Outcome` comes out. Consumers, maintenance (leases that ran out, messages that expired)
//! and limits (the oldest of a full queue) all go through it.
//!
//! Only a failure counts against a message: being released does not. A lease that runs out counts, and so
//! does a consumer that goes away without a word, because one that is killed by the message it handles
//! never says so. The first time that is no reason to wait: consumers are restarted. Where failures have no
//! bound, nothing is counted either.

use std::{borrow::Cow, time::Duration};

use weft_kernel::Rng;

use crate::{
    history::{Attempt, Ended, History},
    message::Cause,
    options::{DeadLetter, OnFailure, Order, Overflow, QueueOptions, SubscriptionOptions},
    retry::Backoff,
};

/// What a consumer says about a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is dealt with.
    Accept,
    /// Given back without fault: ready again at once.
    Release,
    /// It failed: tried again later, until it has failed as often as it may.
    Fail {
        /// Why, for whoever looks at the dead letter; cut to 240 bytes.
        reason: Cow<'static, str>,
        /// When to try again; `None` for the back-off of the queue or subscription.
        delay: Option<Duration>,
    },
    /// Its consumer went away without a word: a failure where failures have a bound, else given back.
    Lost,
    /// It will never work: a dead letter at once.
    Reject {
        /// Why.
        reason: Cow<'static, str>,
    },
}

/// What has happened to a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event<'a> {
    /// Its consumer has spoken.
    Said(&'a Verdict),
    /// Its lease ran out.
    LeaseExpired,
    /// Its time to live is over.
    Expired,
    /// It is the oldest of a queue that is full.
    Overflowed,
    /// It follows a dead message of its key.
    Parked,
    /// It was given up before, and waits for room among the dead letters.
    DeadLetterWaiting,
}

/// What a queue or subscription asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Policy {
    /// Given up after so many failures.
    pub(crate) failures_max: Option<u32>,
    /// How long between tries.
    pub(crate) retry: Backoff,
    /// Whether there is somewhere for dead letters.
    pub(crate) dead_letters: bool,
    /// Whether what expires becomes one.
    pub(crate) dead_letters_expired: bool,
    /// Whether what overflows becomes one.
    pub(crate) dead_letters_overflow: bool,
    /// Whether a key is parked when one of its messages dies.
    pub(crate) parks: bool,
}

impl Policy {
    pub(crate) fn of_queue(options: &QueueOptions) -> Self {
        Self {
            failures_max: options.failures_max,
            retry: options.retry,
            dead_letters: options.dead_letter != DeadLetter::None,
            dead_letters_expired: options.expired_to_dead_letter,
            dead_letters_overflow: options.limit.overflow
                == Overflow::DropOldest { dead_letter: true },
            parks: options.order == Order::Key { on_failure: OnFailure::Park },
        }
    }

    pub(crate) fn of_subscription(options: &SubscriptionOptions) -> Self {
        Self {
            failures_max: options.failures_max,
            retry: options.retry,
            dead_letters: options.dead_letter != DeadLetter::None,
            dead_letters_expired: false,
            dead_letters_overflow: false,
            parks: options.order == Order::Key { on_failure: OnFailure::Park },
        }
    }
}

/// What is known of a delivery.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known<'a> {
    /// How often it failed before.
    pub(crate) failures: u32,
    /// What was tried before.
    pub(crate) history: &'a History,
    /// Whether it has an ordering key.
    pub(crate) keyed: bool,
}

/// Why a message is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gone {
    /// A consumer accepted it.
    Accepted,
    /// It was given up, and there is nowhere for dead letters.
    Dropped(Cause),
}

/// What is to be done with a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Settle it as done.
    Done(Gone),
    /// Give it back.
    Again {
        /// When; zero for at once.
        after: Duration,
        /// Whether that counts as a failure.
        failed: bool,
        /// What was tried.
        history: History,
    },
    /// Settle it as done and append a dead letter, in one transaction.
    DeadLetter {
        /// Why.
        cause: Cause,
        /// What the consumer said.
        reason: String,
        /// How often it has failed, this time included.
        failures: u32,
        /// What was tried.
        history: History,
        /// Whether its key is to be parked with it.
        park: bool,
    },
    /// Leave it leased: its dead letter has no room.
    Held,
}

/// Decides what becomes of a delivery.
pub(crate) fn decide(
    policy: &Policy,
    known: Known<'_>,
    event: Event<'_>,
    now_ms: u64,
    rng: &mut Rng,
) -> Outcome {
    let dead_letter =
        |cause: Cause, reason: &str, failures: u32, history: History, wanted: bool| {
            if !policy.dead_letters || !wanted {
                return Outcome::Done(Gone::Dropped(cause));
            }
            let park = policy.parks && known.keyed && cause != Cause::Parked;
            Outcome::DeadLetter { cause, reason: reason.to_owned(), failures, history, park }
        };
    let failed = |reason: &str, ended: Ended, delay: Option<Duration>, rng: &mut Rng| {
        let failures = known.failures.saturating_add(1);
        let history = known.history.with(Attempt { at_ms: now_ms, ended, reason });
        if policy.failures_max.is_some_and(|max| failures >= max) {
            return dead_letter(Cause::Failures, reason, failures, history, true);
        }
        let after = delay.unwrap_or_else(|| policy.retry.wait(failures, rng));
        Outcome::Again { after, failed: true, history }
    };
    match event {
        Event::Said(Verdict::Accept) => Outcome::Done(Gone::Accepted),
        Event::Said(Verdict::Release) => {
            Outcome::Again { after: Duration::ZERO, failed: false, history: known.history.clone() }
        }
        Event::Said(Verdict::Lost) => {
            if policy.failures_max.is_none() {
                let history = known.history.clone();
                return Outcome::Again { after: Duration::ZERO, failed: false, history };
            }
            let delay = (known.failures == 0).then_some(Duration::ZERO);
            failed("the consumer went away", Ended::ConsumerLost, delay, rng)
        }
        Event::Said(Verdict::Fail { reason, delay }) => failed(reason, Ended::Failed, *delay, rng),
        Event::Said(Verdict::Reject { reason }) => {
            let attempt = Attempt { at_ms: now_ms, ended: Ended::Rejected, reason };
            let history = known.history.with(attempt);
            dead_letter(Cause::Rejected, reason, known.failures, history, true)
        }
        Event::LeaseExpired => failed("the lease ran out", Ended::LeaseExpired, None, rng),
        Event::Expired => {
            let history = known.history.clone();
            dead_letter(Cause::Expired, "", known.failures, history, policy.dead_letters_expired)
        }
        Event::Overflowed => {
            let history = known.history.clone();
            dead_letter(Cause::Overflow, "", known.failures, history, policy.dead_letters_overflow)
        }
        // What was decided is known elsewhere; without it, it is handed out once more.
        Event::DeadLetterWaiting => {
            Outcome::Again { after: Duration::ZERO, failed: false, history: known.history.clone() }
        }
        Event::Parked => {
            dead_letter(Cause::Parked, "", known.failures, known.history.clone(), true)
        }
    }
}

#[cfg(test)]
mod tests;
