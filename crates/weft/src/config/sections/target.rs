//! Where requests and connections are led.

use weft_kernel::Name;

use crate::config::{
    leaf::Pairs,
    leaf::{Number, Port, Some1},
    setting::{At, settings},
    text::{
        Authority, FieldName, HeaderName, HeaderValue, Pattern, PlainPath, Status, TemplatePath,
    },
};

/// One or more services.
pub type Targets = Some1<Weighted>;

settings! {
    /// A service and its share.
    pub struct Weighted = "target", short "service" {
        /// The service.
        service: At<Name>,
        /// Its weight among the others; 0 gets nothing.
        weight: Number = "1",
    }

    /// Where messages go: a topic or a queue.
    pub struct PublishTo = "place of messages", short "topic" {
        /// The topic.
        topic: Option<At<Name>>,
        /// The queue.
        queue: Option<At<Name>>,
    }

    /// How a request becomes a message; it is answered once that is kept.
    pub struct Publish = "publish", short "topic" {
        /// The topic.
        topic: Option<At<Name>>,
        /// The queue.
        queue: Option<At<Name>>,
        /// The `type` of messages that do not say theirs; the name of the route otherwise.
        types("type"): Option<String>,
        /// The header field whose value is the key of the message; `partitionkey` counts in any case.
        key: Option<HeaderName>,
    }

    /// A redirect; what is not said stays as it was.
    pub struct Redirect = "redirect" {
        /// `http` or `https`.
        scheme: Option<Scheme>,
        /// The host.
        host: Option<Authority>,
        /// The port.
        port: Option<Port>,
        /// The whole path.
        path: Option<PlainPath>,
        /// What replaces the matched prefix.
        prefix: Option<PlainPath>,
        /// A path with the captures of the matched template.
        template: Option<TemplatePath>,
        /// 301, 302, 303, 307 or 308.
        status: At<Status> = "302",
        /// Whether the query is dropped.
        strip_query: bool = "false",
    }

    /// A fixed response.
    pub struct Respond = "response", short "status" {
        /// Its status.
        status: At<Status> = "200",
        /// Its body.
        body: Option<String>,
        /// Its fields.
        headers: Pairs<FieldName, HeaderValue>,
    }

    /// A change of path and host before a request is sent on; one of the four for the path.
    pub struct Rewrite = "rewrite" {
        /// What replaces the matched prefix.
        prefix: Option<PlainPath>,
        /// The whole path.
        path: Option<PlainPath>,
        /// What every match of an expression is replaced by.
        regex: Option<RegexRewrite>,
        /// A path with the captures of the matched template: `/v2/orders/{id}`.
        template: Option<At<TemplatePath>>,
        /// The host that is asked for; `endpoint` for that of the chosen endpoint.
        host: Option<Authority>,
    }

    /// A replacement by a regular expression.
    pub struct RegexRewrite = "regex rewrite" {
        /// The expression.
        pattern: Pattern,
        /// What replaces each match, with `$1` and `${name}` for its groups.
        replace: String,
    }
}

crate::config::setting::words! {
    /// The scheme of an address.
    pub enum Scheme {
        /// in clear text
        Http = "http",
        /// by TLS
        Https = "https",
    }
}
