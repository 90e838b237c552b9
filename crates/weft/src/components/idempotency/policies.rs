//! The policy of routes that has requests carried out once.

use std::time::Duration;

use weft_gateway::{IDEMPOTENCY, Idempotency, idempotency::Sum};
use weft_kernel::{ByteSize, format_duration};
use weft_proxy::plan::Binding;

use crate::config::{
    catalogue::{KeyOf, PolicyKey},
    leaf::{Count, Many, Span, Switch},
    problem::Problem,
    setting::{At, Cx, settings, words},
    text::Method,
};

/// The shortest and the longest time for which an answer is kept.
const KEEP: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(31 * 86_400));
/// The longest wait for another request with the same key.
const WAIT_MAX: Duration = Duration::from_secs(300);
/// The largest body of a request, and of an answer that is kept, which is one value of the ledger with its fields.
const BODY_MAX: ByteSize = ByteSize(64 << 20);
const ANSWER_MAX: ByteSize = ByteSize(896 << 10);

const KEY: KeyOf<Switch<IdempotencySection>> = KeyOf::new(
    "idempotency",
    "Idempotency: a request with an `Idempotency-Key` is carried out once, and its answer given again.",
)
.or("off");

/// Its key in a policy.
pub(super) static ALL: [PolicyKey; 1] = [PolicyKey {
    field: KEY.field(),
    build: |policy, cx| {
        let Switch::On(section) = KEY.read(policy, cx)? else { return None };
        section.build(cx).map(|settings| Binding::new(IDEMPOTENCY, settings))
    },
}];

words! {
    /// What becomes of a request while another with its key is carried out.
    pub enum WhileRunning {
        /// it is refused with 409 `idempotency_running` and `Retry-After`
        Refuse = "refuse",
        /// it waits for the answer of the other, up to `wait_max`
        Wait = "wait",
    }

    /// What becomes of a request if one with its key was begun, and nobody knows what came of it.
    pub enum WhenUnknown {
        /// it is refused with 409 `idempotency_unknown`, until the key is forgotten or deleted
        Refuse = "refuse",
        /// it is carried out, perhaps for the second time
        RunAgain = "run_again",
    }
}

settings! {
    /// Idempotency. A key belongs to its route and consumer.
    pub struct IdempotencySection = "idempotency" {
        /// Methods of the requests that it is for.
        methods: Many<Method> = "[POST, PATCH]",
        /// Whether requests of these methods without a key are refused.
        required: bool = "false",
        /// Time for which an answer is kept.
        keep: At<Span> = "24h",
        /// Maximum size of the body of a request with a key.
        body_max: At<ByteSize> = "1MiB",
        /// Maximum size of the body of an answer that is kept. A longer one is passed on, and cannot be given
        /// again.
        answer_max: At<ByteSize> = "256KiB",
        /// What becomes of a request while another with its key is carried out.
        while_running: WhileRunning = "refuse",
        /// Time for which it waits for the other.
        wait_max: At<Span> = "30s",
        /// What becomes of a request if one with its key was begun, and nobody knows what came of it: Weft or
        /// the machine has crashed, or the service did not answer.
        when_unknown: WhenUnknown = "refuse",
        /// Whether answers are kept that say that the service has failed or has done nothing: 5xx, 401, 403,
        /// 408, 425 and 429. Without it the request is carried out again.
        keep_failures: bool = "false",
        /// Whether the service itself knows keys, so that Weft may retry and hedge requests that may have
        /// reached it.
        service_deduplicates: bool = "false",
        /// Maximum number of keys of one consumer on a route; those without credentials have it together.
        keys_max: Count = "100000",
        /// Maximum size of the answers of one consumer on a route.
        bytes_max: ByteSize = "64MiB",
    }
}

impl IdempotencySection {
    fn build(&self, cx: &mut Cx) -> Option<Idempotency> {
        let mut fits = true;
        let mut refuse = |problem: Problem| {
            cx.report(problem);
            fits = false;
        };
        if self.methods.is_empty() {
            let say = "`methods` names no method, so nothing is carried out once";
            refuse(Problem::error(self.place, say).help("say `idempotency: off`, or name some"));
        }
        let (least, most) = KEEP;
        if !(least..=most).contains(&self.keep.value.0) {
            let say = format!(
                "an answer is kept for {} to {}",
                format_duration(least),
                format_duration(most)
            );
            refuse(Problem::error(self.keep.place, say));
        }
        if self.wait_max.value.0 > WAIT_MAX {
            let say = format!("nobody waits for longer than {}", format_duration(WAIT_MAX));
            refuse(Problem::error(self.wait_max.place, say));
        }
        for (said, most, what) in [
            (&self.body_max, BODY_MAX, "the body of a request with a key"),
            (&self.answer_max, ANSWER_MAX, "the body of an answer that is kept"),
        ] {
            if said.value > most {
                refuse(Problem::error(said.place, format!("{what} has at most {most}")));
            }
        }
        let bytes = |size: ByteSize| usize::try_from(size.0).unwrap_or(usize::MAX);
        fits.then(|| Idempotency {
            methods: self.methods.iter().map(|method| method.0.as_str().into()).collect(),
            required: self.required,
            keep: self.keep.value.0,
            body_max: bytes(self.body_max.value),
            answer_max: bytes(self.answer_max.value),
            wait: (self.while_running == WhileRunning::Wait).then_some(self.wait_max.value.0),
            run_again: self.when_unknown == WhenUnknown::RunAgain,
            keep_failures: self.keep_failures,
            service_deduplicates: self.service_deduplicates,
            most: Sum { entries: self.keys_max.0, bytes: self.bytes_max.0 },
        })
    }
}
