//! What is said about a route.

use weft_kernel::Name;

use crate::config::{
    leaf::{Many, Pairs},
    sections::{
        policy::Policy,
        target::{Publish, Redirect, Respond, Rewrite, Targets},
    },
    setting::{At, settings},
    text::{FieldMatch, HeaderName, HostPattern, Method, PathMatch, PlainPath},
};

settings! {
    /// A match, its policies and a target; the keys of a policy may stand here as well. The most
    /// specific match wins, not the first: exact host before wildcard, exact path before longest
    /// prefix before expression, then more methods, headers and query; only then the order here.
    pub struct Route = "route", with Policy {
        /// Its name, the `http.route` of telemetry.
        name: At<Name>,
        /// The listeners it is offered on; every HTTP listener otherwise.
        listeners: Many<At<Name>>,
        /// Which requests: any of these; all of them otherwise.
        matches("match"): Many<Match>,
        /// Policies by name, the later wins.
        policies: Many<At<Name>>,
        /// How path and host are changed before a request is sent on.
        rewrite: Option<At<Rewrite>>,
        /// The services that requests are led to.
        to: Option<At<Targets>>,
        /// Sends the client elsewhere.
        redirect: Option<At<Redirect>>,
        /// Weft answers itself.
        respond: Option<At<Respond>>,
        /// Each request becomes a message.
        publish: Option<At<Publish>>,
        /// The API of topics, queues and subscriptions is offered below this path, as `/v1/…`.
        messages: Option<At<PlainPath>>,
    }

    /// Conditions that must all hold.
    pub struct Match = "match", short "path" {
        /// Any of these hosts, such as `shop.example` or `*.shop.example`.
        host: Many<HostPattern>,
        /// The path: `/a` is that path, `/a/*` all below, `/orders/{id}` a template, `~regex` an
        /// expression.
        path: PathMatch,
        /// Any of these methods.
        method: Many<Method>,
        /// All of these header fields.
        headers: Pairs<HeaderName, FieldMatch>,
        /// All of these query parameters.
        query: Pairs<String, FieldMatch>,
    }
}
