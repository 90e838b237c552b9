//! Where requests and connections are led.

use weft_kernel::Name;

use crate::config::{
    leaf::Pairs,
    leaf::{Number, Port, Some1},
    setting::{At, settings},
    text::{Authority, FieldName, HeaderValue, Pattern, PlainPath, Status, TemplatePath},
};

/// One or more services.
pub type Targets = Some1<Weighted>;

settings! {
    /// Weighted service.
    pub struct Weighted = "target", short "service" {
        /// Name of the service.
        service: At<Name>,
        /// Weight relative to the others; 0 gets no requests.
        weight: Number = "1",
    }

    /// Redirect; what is not set stays as it was.
    pub struct Redirect = "redirect" {
        /// Scheme: `http` or `https`.
        scheme: Option<Scheme>,
        /// Host.
        host: Option<Authority>,
        /// Port.
        port: Option<Port>,
        /// Path.
        path: Option<PlainPath>,
        /// Replacement of the matched prefix.
        prefix: Option<PlainPath>,
        /// Path with the captures of the matched template.
        template: Option<TemplatePath>,
        /// Status: 301, 302, 303, 307 or 308.
        status: At<Status> = "302",
        /// Whether the query is removed.
        strip_query: bool = "false",
    }

    /// Fixed response.
    pub struct Respond = "response", short "status" {
        /// Status.
        status: At<Status> = "200",
        /// Body.
        body: Option<String>,
        /// Header fields.
        headers: Pairs<FieldName, HeaderValue>,
    }

    /// Rewrite of path and host before a request is sent on; at most one of the four for the path.
    pub struct Rewrite = "rewrite" {
        /// Replacement of the matched prefix.
        prefix: Option<PlainPath>,
        /// Path.
        path: Option<PlainPath>,
        /// Replacement of every match of a regular expression.
        regex: Option<RegexRewrite>,
        /// Path with the captures of the matched template: `/v2/orders/{id}`.
        template: Option<At<TemplatePath>>,
        /// Host; `endpoint` for that of the chosen endpoint.
        host: Option<Authority>,
    }

    /// Replacement by a regular expression.
    pub struct RegexRewrite = "regex rewrite" {
        /// Regular expression.
        pattern: Pattern,
        /// Replacement of each match, with `$1` and `${name}` for its groups.
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
