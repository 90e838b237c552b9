//! Whether a failed try is made again, and when.
//!
//! [`Options::decide`] is the whole decision, a pure function: the tries made, the failure, what may
//! be repeated, the deadline and the budget go in, [`Decision`] comes out.
//!
//! Invariants: what may have taken effect is repeated only if that is harmless; a wait never ends at
//! or after the deadline; a retry that is refused for any reason costs the budget nothing.
//! The rules follow gRFC A6 (gRPC retry design) and RFC 9110 sections 9.2.2 and 10.2.3.

mod condition;
mod hint;

use std::time::Duration;

use weft_kernel::{Deadline, Retry, Rng, Tick};

pub use self::{
    condition::{Condition, Conditions, ParseConditionError},
    hint::{Hint, pushback, retry_after},
};
use crate::budget::Budget;

/// When and how often a try is made again.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Tries after the first.
    pub retries: u32,
    /// The failures that are worth another try.
    pub on: Conditions,
    /// Further HTTP statuses that are worth another try.
    pub statuses: Vec<u16>,
    /// The wait before each retry.
    pub backoff: Backoff,
    /// The longest `Retry-After` or `grpc-retry-pushback-ms` that is waited for; a service that asks
    /// for more is not tried again.
    pub retry_after_max: Duration,
    /// Whether a request may be repeated although it is not idempotent and may have taken effect.
    pub unsafe_methods: bool,
    /// The most bytes of a request body that are kept for a retry.
    pub replay_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            retries: 1,
            on: Conditions::default(),
            statuses: Vec::new(),
            backoff: Backoff::default(),
            retry_after_max: Duration::from_secs(1),
            unsafe_methods: false,
            replay_bytes_max: 64 * 1024,
        }
    }
}

/// An exponential wait with full jitter: evenly drawn from zero to `base × 2^(n−1)`, at most `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The longest first wait.
    pub base: Duration,
    /// The longest wait at all.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { base: Duration::from_millis(25), max: Duration::from_millis(250) }
    }
}

impl Backoff {
    /// The longest wait before retry number `nth` (from 1).
    pub fn ceiling(&self, nth: u32) -> Duration {
        let doublings = nth.saturating_sub(1).min(31);
        self.base.saturating_mul(1 << doublings).min(self.max)
    }

    /// The wait before retry number `nth` (from 1).
    pub fn draw(&self, nth: u32, rng: &mut Rng) -> Duration {
        rng.up_to(self.ceiling(nth))
    }
}

/// What went wrong with a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No connection came to stand.
    Connect,
    /// The stream was refused before anything was done (HTTP/2 REFUSED_STREAM, or after a GOAWAY).
    RefusedStream,
    /// The connection or stream broke before any response header.
    ResetBeforeHeaders,
    /// The time for one try passed.
    TryTimeout,
    /// An HTTP status.
    Status(u16),
    /// A gRPC status number, from a trailers-only response.
    Grpc(u8),
}

/// One failed try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What went wrong.
    pub kind: Kind,
    /// Whether the try may have taken effect.
    pub effect: Retry,
    /// What the service said about another try.
    pub hint: Option<Hint>,
}

impl Failure {
    /// A failure of the kind, with what that kind usually says of its effect.
    ///
    /// 425, 429 and the gRPC statuses RESOURCE_EXHAUSTED and UNAVAILABLE say that the request was
    /// turned away; every other answer may have come after the work was done.
    pub const fn new(kind: Kind) -> Self {
        let effect = match kind {
            Kind::Connect
            | Kind::RefusedStream
            | Kind::Status(425 | 429)
            | Kind::Grpc(grpc::RESOURCE_EXHAUSTED | grpc::UNAVAILABLE) => Retry::Safe,
            Kind::ResetBeforeHeaders | Kind::TryTimeout | Kind::Status(_) | Kind::Grpc(_) => {
                Retry::Idempotent
            }
        };
        Self { kind, effect, hint: None }
    }

    /// The same failure, with what is known of its effect.
    #[must_use]
    pub const fn with_effect(mut self, effect: Retry) -> Self {
        self.effect = effect;
        self
    }

    /// The same failure, with what the service said about another try.
    #[must_use]
    pub const fn with_hint(mut self, hint: Option<Hint>) -> Self {
        self.hint = hint;
        self
    }
}

/// gRPC status numbers (grpc/grpc `doc/statuscodes.md`) that a retry can be asked for.
mod grpc {
    pub(super) const CANCELLED: u8 = 1;
    pub(super) const DEADLINE_EXCEEDED: u8 = 4;
    pub(super) const RESOURCE_EXHAUSTED: u8 = 8;
    pub(super) const INTERNAL: u8 = 13;
    pub(super) const UNAVAILABLE: u8 = 14;
}

/// What is to be done about a failed try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Try again after this wait.
    Again {
        /// The wait.
        after: Duration,
    },
    /// Hand the failure on.
    Stop(StopReason),
}

/// Why a failed try is not made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StopReason {
    /// All tries are used up.
    Exhausted,
    /// The failure is none that the policy retries.
    NotRetryable,
    /// It may have taken effect, and the request is not idempotent.
    NotIdempotent,
    /// The request is no longer there to be sent again.
    NotReplayable,
    /// The service asked for no retry, or for a later one than is waited for.
    PushedBack,
    /// The wait would reach the deadline.
    Deadline,
    /// The retry budget of the service is spent.
    Budget,
}

impl StopReason {
    /// The stable word for logs and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Exhausted => "exhausted",
            Self::NotRetryable => "not_retryable",
            Self::NotIdempotent => "not_idempotent",
            Self::NotReplayable => "not_replayable",
            Self::PushedBack => "pushed_back",
            Self::Deadline => "deadline",
            Self::Budget => "budget",
        }
    }
}

impl Options {
    /// Whether the policy retries this kind of failure at all.
    pub fn covers(&self, kind: Kind) -> bool {
        let on = |condition| self.on.contains(condition);
        match kind {
            Kind::Connect => on(Condition::ConnectFailure),
            Kind::RefusedStream => on(Condition::RefusedStream),
            Kind::ResetBeforeHeaders => on(Condition::ResetBeforeHeaders),
            Kind::TryTimeout => on(Condition::TryTimeout),
            Kind::Status(status) => {
                (matches!(status, 502..=504) && on(Condition::GatewayError))
                    || (matches!(status, 500..=599) && on(Condition::ServerError))
                    || self.statuses.contains(&status)
            }
            Kind::Grpc(status) => match status {
                grpc::UNAVAILABLE => on(Condition::GrpcUnavailable),
                grpc::CANCELLED => on(Condition::GrpcCancelled),
                grpc::DEADLINE_EXCEEDED => on(Condition::GrpcDeadlineExceeded),
                grpc::RESOURCE_EXHAUSTED => on(Condition::GrpcResourceExhausted),
                grpc::INTERNAL => on(Condition::GrpcInternal),
                _ => false,
            },
        }
    }

    /// Decides about a failed try; takes one retry out of the budget if the answer is another try.
    ///
    /// `attempt` is how many tries have been made (from 1), `replayable` whether the request can be
    /// sent again, `idempotent` whether sending it twice has the effect of sending it once (its
    /// method says so, or it has an idempotency key).
    pub fn decide(
        &self,
        attempt: u32,
        failure: &Failure,
        replayable: bool,
        idempotent: bool,
        deadline: Deadline,
        now: Tick,
        rng: &mut Rng,
        budget: &Budget,
    ) -> Decision {
        use Decision::Stop;
        if attempt > self.retries {
            return Stop(StopReason::Exhausted);
        }
        if !self.covers(failure.kind) {
            return Stop(StopReason::NotRetryable);
        }
        let (harmless, mut wait) = match failure.effect {
            Retry::No => return Stop(StopReason::NotRetryable),
            Retry::Safe => (true, Duration::ZERO),
            Retry::Idempotent => (idempotent || self.unsafe_methods, Duration::ZERO),
            Retry::After(span) => (idempotent || self.unsafe_methods, span),
        };
        if !harmless {
            return Stop(StopReason::NotIdempotent);
        }
        if !replayable {
            return Stop(StopReason::NotReplayable);
        }
        match failure.hint {
            Some(Hint::Never) => return Stop(StopReason::PushedBack),
            Some(Hint::After(span)) => wait = wait.max(span),
            None => {}
        }
        if wait > self.retry_after_max {
            return Stop(StopReason::PushedBack);
        }
        // Jitter on top of what was asked for: all who were told the same would return together.
        let after = wait.saturating_add(self.backoff.draw(attempt, rng));
        if deadline.passed(now.plus(after)) {
            return Stop(StopReason::Deadline);
        }
        if !budget.withdraw(now) {
            return Stop(StopReason::Budget);
        }
        Decision::Again { after }
    }
}
