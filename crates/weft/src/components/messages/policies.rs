//! The policies of routes that stand on messages.

use weft_broker_http::{RESPOND_ASYNC, RespondAsync, is_callback_prefix};
use weft_proxy::plan::Binding;

use crate::config::{
    catalogue::{KeyOf, PolicyKey},
    leaf::{Many, Span, Switch},
    problem::Problem,
    setting::{At, settings},
};

const KEY: KeyOf<Switch<RespondAsyncSection>> = KeyOf::new(
    "respond_async",
    "Asynchronous responses for clients that ask with `Prefer: respond-async` (RFC 7240).",
)
.or("off");

/// Their keys in a policy.
pub static ALL: [PolicyKey; 1] = [PolicyKey {
    field: KEY.field(),
    build: |policy, cx| {
        let Switch::On(section) = KEY.read(policy, cx)? else { return None };
        for prefix in section.callbacks.iter().filter(|prefix| !is_callback_prefix(prefix)) {
            cx.report(
                Problem::error(prefix.place, format!("no callback is below `{}`", prefix.value))
                    .help("say scheme and host, and a path if wanted: `https://example.com/hooks`"),
            );
        }
        let settings = RespondAsync {
            wait_max: section.wait_max.0,
            keep: section.keep.0,
            callbacks: section.callbacks.iter().map(|prefix| prefix.value.clone()).collect(),
        };
        Some(Binding::new(RESPOND_ASYNC, settings))
    },
}];

settings! {
    /// Asynchronous response: the request is stored, answered with 202 and a status URL, and carried out
    /// from there.
    pub struct RespondAsyncSection = "async response", short "wait_max" {
        /// Maximum of `wait=`, the time for which a client may ask to wait for the response itself.
        wait_max: Span = "30s",
        /// Time for which the response is kept for the client.
        keep: Span = "24h",
        /// Prefixes of callback URLs that a client may name; without any, callbacks are refused.
        callbacks: Many<At<String>>,
    }
}
