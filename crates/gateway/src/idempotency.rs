//! The policy that has a request carried out once, however often its client sends it.
//!
//! A request with an `Idempotency-Key` claims its key before anybody is asked, and its answer is kept. The same
//! request again is given that answer; while the first is under way it is refused, or waits; another request
//! with the key is refused. A key belongs to its route and to the consumer, and nobody is ever given the
//! answer of somebody else.
//!
//! Invariants: of requests with one key one runs, whatever workers, connections and versions they come by; a
//! service is asked only once the claim is on disk, so that after a crash nobody takes for new what may have
//! begun; what is not known is refused unless the route says otherwise; without the store everything with a
//! key is refused. A request that has been begun is carried out to its end, whether its client waits or not.
//!
//! Reading order: `key`, `record`, `places`, `accounts`, `store`, `recording`.

mod accounts;
mod key;
mod places;
mod record;
mod recording;
mod store;

use std::{borrow::Cow, fmt, pin::pin, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use weft_kernel::{Error, Reason, Result, Retry};
use weft_net::clock;
use weft_proxy::{
    DryRun, Fact, Flow, Foreseen, Policy, PolicyMaker, PolicyOutcome, Reply, RequestContext, Sides,
    Stage, plan::Binding,
};
use weft_wire::{Known, ResponseHead};

pub use self::{
    accounts::Sum,
    key::{EntryKey, KEY_BYTES_MAX, read as key_of},
    record::Standing,
    store::{Counts, Entry, Keys},
};
use self::{
    key::Fingerprint,
    recording::{Recording, Replayed},
    store::{Found, Phase, Wanted},
};

/// The name under which the policy is made.
pub const IDEMPOTENCY: &str = "idempotency";

/// The field that tells an answer that is given again.
const REPLAYED: &str = "idempotent-replayed";

/// When a client that was refused while the first is under way may ask again.
const AGAIN: Duration = Duration::from_secs(1);

/// Settings of the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// Methods of the requests that it is for.
    pub methods: Vec<Box<str>>,
    /// Whether a request without a key is refused.
    pub required: bool,
    /// Time for which an answer is kept.
    pub keep: Duration,
    /// The longest body of a request, in bytes.
    pub body_max: usize,
    /// The longest body of an answer that is kept, in bytes.
    pub answer_max: usize,
    /// The time for which the same request again waits for the first; it is refused at once without.
    pub wait: Option<Duration>,
    /// Whether a request is carried out again of which nobody knows what came.
    pub run_again: bool,
    /// Whether answers are kept that say that the service has failed, or has done nothing.
    pub keep_failures: bool,
    /// Whether the service itself knows keys, so that Weft may send a request again that may have reached it.
    pub service_deduplicates: bool,
    /// The most keys of one consumer, and the most bytes of their answers.
    pub most: Sum,
}

impl fmt::Display for Idempotency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let required = if self.required { ", required" } else { "" };
        write!(f, "{} kept for {:?}{required}", self.methods.join(", "), self.keep)
    }
}

/// Makes policies of settings; they share the keys of the node, once these are open.
#[derive(Clone, Debug, Default)]
pub struct IdempotencyMaker(Arc<ArcSwapOption<Keys>>);

impl IdempotencyMaker {
    /// Gives the policies what they stand on.
    pub fn open(&self, keys: Arc<Keys>) {
        self.0.store(Some(keys));
    }
}

impl PolicyMaker for IdempotencyMaker {
    fn make(&self, binding: &Binding) -> Result<Arc<dyn Policy>, String> {
        Ok(Arc::new(Once { settings: Arc::new(binding.settings()?), keys: self.clone() }))
    }
}

/// The policy of a route.
struct Once {
    settings: Arc<Idempotency>,
    keys: IdempotencyMaker,
}

/// What became of the key of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    First,
    Replayed,
    Running,
    Reused,
    NotKept,
    Unknown,
    Missing,
}

impl Fact for Told {
    fn told(&self) -> Option<(&'static str, Cow<'_, str>)> {
        let word = match self {
            Self::First => "first",
            Self::Replayed => "replayed",
            Self::Running => "running",
            Self::Reused => "reused",
            Self::NotKept => "not_kept",
            Self::Unknown => "unknown",
            Self::Missing => "missing",
        };
        Some(("idempotency", word.into()))
    }

    fn is_counted(&self) -> bool {
        true
    }
}

fn refuse(cx: &mut RequestContext<'_>, told: Told, status: u16) -> Error {
    cx.leave(told);
    match told {
        Told::Missing => {
            Error::new(Reason::IdempotencyKeyMissing, "this route asks for an Idempotency-Key")
        }
        Told::Reused => Error::new(
            Reason::IdempotencyKeyReused,
            "the Idempotency-Key was used for another request",
        ),
        Told::NotKept => Error::new(
            Reason::IdempotencyNotKept,
            format!(
                "the request was carried out and answered with {status}; the answer is not kept"
            ),
        ),
        Told::Unknown => Error::new(
            Reason::IdempotencyUnknown,
            "the request was begun before, and what came of it is not known",
        ),
        Told::Running | Told::First | Told::Replayed => Error::new(
            Reason::IdempotencyRunning,
            "a request with this Idempotency-Key is being carried out",
        )
        .retry(Retry::After(AGAIN)),
    }
}

impl Once {
    /// Says how often Weft itself may send a request with a key.
    fn bound_tries(&self, cx: &mut RequestContext<'_>) {
        if !self.settings.service_deduplicates {
            cx.send_once();
        }
    }

    async fn ask(&self, cx: &mut RequestContext<'_>, key: String) -> Result<Option<Reply>> {
        let settings = &self.settings;
        let keys = self.keys.0.load_full().ok_or_else(|| {
            Error::new(Reason::StorageUnavailable, "idempotency keys are not kept by this node yet")
        })?;
        let key = EntryKey::new(cx.route().as_str(), &key::scope(cx), &key);
        let mut in_hand = keys.place(&key)?;
        let body = cx.gather_body(settings.body_max, |bytes| in_hand.keep(bytes)).await?;
        let wanted = Wanted {
            key,
            fingerprint: Fingerprint::of(cx.head(), &cx.host(), &body),
            nonce: cx.rng().next_u64(),
            keep: settings.keep,
            run_again: settings.run_again,
            most: settings.most,
        };
        drop(body);
        let tasks = cx.local().tasks.clone();
        let until = clock::now().plus(settings.wait.unwrap_or_default());
        let mut waiting = None;
        loop {
            let (told, status) = match keys.claim(wanted.clone(), &tasks).await? {
                Found::Claimed(claim) => {
                    cx.leave(Told::First);
                    let settings = Arc::clone(settings);
                    let recording = Recording { claim, settings, tasks, place: Some(in_hand) };
                    cx.carry_out(Box::new(recording));
                    self.bound_tries(cx);
                    return Ok(None);
                }
                Found::Answered(answer) => {
                    cx.leave(Told::Replayed);
                    let mut head = ResponseHead { status: answer.status, fields: answer.fields };
                    head.fields.append(REPLAYED, b"true");
                    return Ok(Some(Reply::new(
                        head,
                        Replayed::body(answer.body, answer.trailers),
                    )));
                }
                Found::Busy(mut phase) => {
                    let now = *phase.borrow_and_update();
                    if now == Phase::Running && settings.wait.is_none() {
                        return Err(refuse(cx, Told::Running, 0));
                    }
                    waiting.get_or_insert_with(|| keys.wait());
                    // A look-up takes no longer than a sync of the disk, and is always waited for.
                    let until = if now == Phase::Checking {
                        until.max(clock::now().plus(AGAIN))
                    } else {
                        until
                    };
                    let changed = pin!(phase.changed());
                    if cx.wait_for(until, changed).await.is_none() {
                        return Err(refuse(cx, Told::Running, 0));
                    }
                    continue;
                }
                Found::Reused => (Told::Reused, 0),
                Found::NotKept(status) => (Told::NotKept, status),
                Found::Unknown => (Told::Unknown, 0),
            };
            return Err(refuse(cx, told, status));
        }
    }
}

impl Policy for Once {
    fn stage(&self) -> Stage {
        Stage::Idempotency
    }

    fn sides(&self) -> Sides {
        Sides { request: true, ..Sides::default() }
    }

    fn foresee(&self, cx: &mut DryRun<'_>) -> Foreseen {
        let head = cx.view().head();
        let method = head.method.as_str();
        if !self.settings.methods.iter().any(|of| &**of == method) {
            return Foreseen::new(PolicyOutcome::Passes, "requests of this method have no key");
        }
        match key_of(&head.fields) {
            Ok(Some(_)) => {
                Foreseen::new(PolicyOutcome::TakesPart, "its key would be looked up, and claimed")
            }
            Ok(None) if self.settings.required => Foreseen::new(
                PolicyOutcome::Refuses(Reason::IdempotencyKeyMissing),
                "it has no Idempotency-Key",
            ),
            Ok(None) => Foreseen::new(PolicyOutcome::Passes, "it has no Idempotency-Key"),
            Err(error) => Foreseen::of(PolicyOutcome::Refuses(error.reason()), error.detail()),
        }
    }

    fn request<'a>(&'a self, cx: &'a mut RequestContext<'_>) -> Flow<'a> {
        let head = cx.head();
        let method = head.method.as_str();
        // What begins inside has claimed its key when it came from outside, or has nobody who sends it twice:
        // it is only sent no more often for its key.
        if cx.is_internal() {
            if head.fields.has(Known::IdempotencyKey) {
                self.bound_tries(cx);
            }
            return Flow::Next;
        }
        if !self.settings.methods.iter().any(|of| &**of == method) {
            return Flow::Next;
        }
        match key_of(&head.fields) {
            // There is no answer that could be kept.
            Ok(Some(_)) if cx.is_tunnel() => Flow::Next,
            Ok(Some(key)) => Flow::wait(self.ask(cx, key)),
            Ok(None) if self.settings.required => Flow::Refuse(refuse(cx, Told::Missing, 0)),
            Ok(None) => Flow::Next,
            Err(error) => Flow::Refuse(error),
        }
    }
}
