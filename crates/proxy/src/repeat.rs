//! Whether a request may be sent again: the one place that retries, hedges, connections that turn out to be
//! closed, and fallbacks to a service go by.
//!
//! A request that is to be sent once alone is not sent again when a service may have begun with it, whatever
//! that has answered: 429 and UNAVAILABLE usually say that a request was turned away, but nobody knows what a
//! service did before it said so, or who behind it did not answer.

use weft_kernel::Retry;
use weft_resilience::retry::{Failure, Options};
use weft_wire::{Known, RequestHead};

use crate::attempt::{Miss, Success};

/// What decides whether a request may be sent again.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sending {
    /// Whether it is to be sent once alone.
    once: bool,
    /// Whether a service may have begun with it.
    reached: bool,
}

impl Sending {
    pub(crate) const fn none() -> Self {
        Self { once: false, reached: false }
    }

    /// The request is to be sent once alone: its key does not make it idempotent.
    pub(crate) const fn once(&mut self) {
        self.once = true;
    }

    /// A service is about to be asked that has not begun with it.
    pub(crate) const fn begin(&mut self) {
        self.reached = false;
    }

    /// A try is over, and so many hedges beside it.
    pub(crate) fn tried(&mut self, result: &Result<Success, Miss>, hedges: usize) {
        // Of several the result is that of one.
        self.reached |= hedges > 0
            || match result {
                Ok(_) => true,
                Err(miss) => may_have_begun(&miss.failure),
            };
    }

    /// Whether a service may have begun with it.
    pub(crate) const fn has_reached(&self) -> bool {
        self.reached
    }

    /// Whether sending it twice has the effect of sending it once.
    pub(crate) fn is_idempotent(&self, head: &RequestHead) -> bool {
        head.method.is_idempotent() || (head.fields.has(Known::IdempotencyKey) && !self.once)
    }

    /// Whether it may be sent again, as far as it is for the request to say: how often, and after which
    /// failures, is for the policy of retries.
    pub(crate) fn may_go_again(&self, head: &RequestHead, retry: Option<&Options>) -> bool {
        !(self.once && self.reached)
            || self.is_idempotent(head)
            || retry.is_some_and(|retry| retry.unsafe_methods)
    }

    /// A failure as the decision of a retry has to see it: what turned a request away that must not go again
    /// may have taken effect.
    pub(crate) fn weigh(&self, failure: Failure, head: &RequestHead, retry: &Options) -> Failure {
        if self.may_go_again(head, Some(retry)) {
            return failure;
        }
        failure.with_effect(Retry::Idempotent)
    }
}

/// Whether a service may have begun with a request that it has not answered.
fn may_have_begun(failure: &Failure) -> bool {
    failure.effect != Retry::Safe
}

#[cfg(test)]
mod tests {
    use weft_kernel::{Error, Reason};
    use weft_resilience::retry::Kind;
    use weft_wire::Method;

    use super::*;

    fn head(method: Method) -> RequestHead {
        let mut head = RequestHead::none();
        head.method = method;
        head.fields.add(Known::IdempotencyKey, b"k");
        head
    }

    fn missed(kind: Kind) -> Result<Success, Miss> {
        Err(Miss {
            error: Error::new(Reason::Internal, ""),
            failure: Failure::new(kind),
            blameless: false,
            tells: true,
            body: None,
        })
    }

    #[test]
    fn what_is_sent_once_goes_again_only_while_nobody_was_reached() {
        let repeats = Options { unsafe_methods: true, ..Options::default() };
        for (kind, again) in [
            (Kind::Connect, true),
            (Kind::RefusedStream, true),
            (Kind::ResetBeforeHeaders, false),
            (Kind::TryTimeout, false),
        ] {
            let mut sending = Sending::none();
            sending.once();
            sending.tried(&missed(kind), 0);
            assert_eq!(sending.may_go_again(&head(Method::Post), None), again, "{kind:?}");
            let away = Failure::new(Kind::Status(429));
            let seen = sending.weigh(away, &head(Method::Post), &Options::default());
            assert_eq!(seen.effect == Retry::Safe, again, "{kind:?}");
            // Once reached it stays so, whatever comes after.
            sending.tried(&missed(Kind::Connect), 0);
            assert_eq!(sending.has_reached(), !again, "{kind:?}");
            assert!(sending.may_go_again(&head(Method::Put), None), "{kind:?}");
            assert!(sending.may_go_again(&head(Method::Post), Some(&repeats)), "{kind:?}");
        }
        let mut sending = Sending::none();
        sending.tried(&missed(Kind::Connect), 1);
        assert!(sending.has_reached(), "a hedge may have reached somebody");
    }

    #[test]
    fn a_key_makes_idempotent_what_is_not_sent_once() {
        let mut sending = Sending::none();
        sending.tried(&missed(Kind::TryTimeout), 0);
        assert!(sending.is_idempotent(&head(Method::Post)));
        assert!(sending.may_go_again(&head(Method::Post), None));
        sending.once();
        assert!(!sending.is_idempotent(&head(Method::Post)));
        assert!(!sending.may_go_again(&head(Method::Post), None));
    }
}
