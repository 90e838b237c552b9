//! The policy of routes that stands on projections.

use weft_broker_http::{CONSISTENCY, Consistency};
use weft_kernel::Name;
use weft_proxy::plan::Binding;

use crate::config::{
    catalogue::{KeyOf, PolicyKey},
    leaf::{Many, Span, Switch},
    problem::Problem,
    setting::{settings, words},
};

const KEY: KeyOf<Switch<ConsistencySection>> = KeyOf::new(
    "consistency",
    "Consistency tokens, by which clients read what they have written through services that know nothing of it.",
)
.or("off");

/// Its keys in a policy.
pub static ALL: [PolicyKey; 1] = [PolicyKey {
    field: KEY.field(),
    build: |policy, cx| {
        let Switch::On(section) = KEY.read(policy, cx)? else { return None };
        let settings = Consistency {
            issue: section.issue,
            cookie: section.cookie,
            projections: section.projections.to_vec(),
            wait: section.wait.0,
            serve_stale: matches!(section.on_stale, OnStale::Serve),
        };
        if !settings.issue && settings.projections.is_empty() {
            let say = "neither a token that is told nor a projection that is waited for";
            let help = "set `issue: true` where commands go, and `projections` where queries go";
            cx.report(Problem::error(section.place, say).help(help));
            return None;
        }
        Some(Binding::new(CONSISTENCY, settings))
    },
}];

words! {
    /// What becomes of a request whose projections are not there in time.
    pub enum OnStale {
        /// it is refused with 503
        Refuse = "refuse",
        /// it goes on, and the service and the client are told
        Serve = "serve",
    }
}

settings! {
    /// Consistency tokens on a route.
    pub struct ConsistencySection = "consistency", short "projections" {
        /// Whether responses to POST, PUT, PATCH and DELETE carry `Weft-Consistency-Token`: where the events of this
        /// node ended when the service had answered.
        issue: bool = "false",
        /// Whether the token is told and read as a cookie too, so that browsers need no code for it.
        cookie: bool = "false",
        /// Projections of which the service shows something: a request with a token waits for them to have got there.
        projections: Many<Name>,
        /// The longest wait.
        wait: Span = "1s",
        /// What becomes of a request that has waited so long.
        on_stale: OnStale = "refuse",
    }
}
