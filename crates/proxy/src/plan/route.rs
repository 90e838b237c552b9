//! Routes: matches, policies and targets.

use std::{sync::Arc, time::Duration};

use weft_kernel::{Name, limits};
use weft_resilience::{adaptive, bulkhead, hedge, retry, timeout};

use super::Binding;

/// A match, its policies and a target.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Its name, the `http.route` of telemetry.
    pub name: Name,
    /// The listeners it is offered on; empty for every HTTP listener.
    pub listeners: Vec<Name>,
    /// Whether it is for requests that begin inside Weft alone, and offered on no listener.
    pub is_internal: bool,
    /// It fits if any of these does; empty matches all requests.
    pub matches: Vec<Match>,
    /// How requests are treated; routes that say nothing of their own share it.
    pub policy: Arc<RoutePolicies>,
    /// How path and host are rewritten.
    pub rewrite: Rewrite,
    /// Where they go.
    pub target: Target,
}

impl Route {
    /// The services that it may send requests to, copies and fallbacks included.
    pub fn services(&self) -> impl Iterator<Item = &Name> {
        let to: &[Weighted] = match &self.target {
            Target::Services(weighted) => weighted,
            Target::Redirect(_) | Target::Respond(_) | Target::Local(_) => &[],
        };
        let mirror = self.policy.mirror.iter().map(|mirror| &mirror.service);
        let fallback = self.policy.fallback.iter().filter_map(|fallback| match &fallback.to {
            FallbackTo::Service(name) => Some(name),
            FallbackTo::Respond(_) => None,
        });
        to.iter().map(|weighted| &weighted.service).chain(mirror).chain(fallback)
    }
}

/// Conditions that must all hold.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Match {
    /// Any of these hosts; empty for every host.
    pub hosts: Vec<Host>,
    /// The path.
    pub path: Path,
    /// Any of these methods, in upper case; empty for every method.
    pub methods: Vec<String>,
    /// All of these header fields.
    pub headers: Vec<Field>,
    /// All of these query parameters.
    pub query: Vec<Field>,
    /// All of these names in the client's certificate.
    pub certificate: Vec<CertificateField>,
}

/// A host to match, in lower case and without a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// This name.
    Exact(String),
    /// `*.example.com`, held as `example.com`: any name with one or more labels before it.
    Wildcard(String),
}

/// A path to match, always the normalised one.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Path {
    /// Every path.
    #[default]
    Any,
    /// This path.
    Exact(String),
    /// This path and all below it, by whole segments: `/a` fits `/a` and `/a/b`, not `/ab`.
    Prefix(String),
    /// This regular expression, over the whole path.
    Regex(String),
    /// Segments with captures: `/orders/{id}` and, last, `{*rest}`.
    Template(String),
}

/// A header field or query parameter to match; header names in lower case.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// What its value must be.
    pub value: FieldValue,
    /// Whether the condition is turned round.
    pub invert: bool,
}

/// Names of a kind in the client's certificate, of which one must fit.
#[derive(Clone, Debug, PartialEq)]
pub struct CertificateField {
    /// The kind.
    pub part: CertificatePart,
    /// What the name must be.
    pub value: FieldValue,
    /// Whether the condition is turned round: it then holds without a certificate too.
    pub invert: bool,
}

/// A kind of names in a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CertificatePart {
    /// URIs among the alternative names; a SPIFFE id is one.
    Uri,
    /// DNS names among the alternative names, in lower case.
    Dns,
    /// The distinguished name of the subject.
    Subject,
    /// The SHA-256 digest of the certificate, in lower case and without colons.
    Fingerprint,
}

impl CertificatePart {
    /// What it is called where a match is told.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Uri => "certificate uri",
            Self::Dns => "certificate dns",
            Self::Subject => "certificate subject",
            Self::Fingerprint => "certificate fingerprint",
        }
    }
}

/// What a value must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldValue {
    /// There, with any value.
    Present,
    /// Exactly this.
    Exact(String),
    /// Begins with this.
    Prefix(String),
    /// Fits this regular expression as a whole.
    Regex(String),
}

/// How the requests of a route are treated; the order in which it happens is fixed.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct RoutePolicies {
    /// Time limits.
    pub timeout: timeout::Options,
    /// Whether and how a failed try is repeated; `None` never repeats.
    pub retry: Option<retry::Options>,
    /// Whether a second try is started beside a slow first one.
    pub hedge: Option<hedge::Options>,
    /// Largest request body in bytes; `None` is unlimited.
    pub body_bytes_max: BodyLimit,
    /// Which requests are given up first under overload.
    pub criticality: CriticalityOf,
    /// A private share of concurrency for this route.
    pub bulkhead: Option<bulkhead::Options>,
    /// Changes to the request head.
    pub request_headers: HeaderOps,
    /// Changes to the response head.
    pub response_headers: HeaderOps,
    /// A share of requests is sent there too; its answers are dropped.
    pub mirror: Option<Mirror>,
    /// Faults that are injected on purpose.
    pub fault: Option<Fault>,
    /// What answers when the target cannot.
    pub fallback: Option<Fallback>,
    /// Policies of other crates; each says itself where it stands in the order.
    pub policies: Vec<Binding>,
}

/// The largest request body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyLimit(pub Option<u64>);

impl Default for BodyLimit {
    fn default() -> Self {
        Self(Some(limits::BODY_BYTES_MAX))
    }
}

/// Where the criticality of a request comes from.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct CriticalityOf {
    /// What it is without a header.
    pub default: adaptive::Criticality,
    /// A header field with `critical`, `default` or `sheddable`, if it is to be trusted.
    pub header: Option<String>,
}

/// Changes to a message head: removed first, then set, then added.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct HeaderOps {
    /// Names whose fields are removed.
    pub remove: Vec<String>,
    /// Fields that replace all of their name.
    pub set: Vec<(String, String)>,
    /// Fields that are added to those of their name.
    pub add: Vec<(String, String)>,
}

impl HeaderOps {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }
}

/// How path and host are rewritten before the request is sent on.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Rewrite {
    /// The path.
    pub path: Option<PathRewrite>,
    /// The host.
    pub host: Option<HostRewrite>,
}

/// How a path is rewritten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathRewrite {
    /// The matched prefix (or the whole path of another kind of match) is replaced by this.
    Prefix(String),
    /// The whole path becomes this.
    Full(String),
    /// Every match of the expression is replaced (`$1`, `${name}`).
    Regex {
        /// The expression.
        pattern: String,
        /// What replaces it.
        replace: String,
    },
    /// A path with the captures of the matched template: `/v2/orders/{id}`.
    Template(String),
}

/// How a host is rewritten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostRewrite {
    /// This host.
    Literal(String),
    /// The host name of the chosen endpoint.
    Endpoint,
}

/// A service and its share of the requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weighted {
    /// The service.
    pub service: Name,
    /// Its weight among the others; 0 gets nothing.
    pub weight: u32,
}

/// Where the requests of a route go.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// To one of these services.
    Services(Vec<Weighted>),
    /// Elsewhere, by the client itself.
    Redirect(Redirect),
    /// Nowhere: Weft answers.
    Respond(Respond),
    /// To a handler that lives in the node.
    Local(Binding),
}

/// A redirect; what is `None` stays as it was.
#[derive(Clone, Debug, PartialEq)]
pub struct Redirect {
    /// `http` or `https`.
    pub scheme: Option<String>,
    /// The host.
    pub host: Option<String>,
    /// The port.
    pub port: Option<u16>,
    /// The path.
    pub path: Option<PathRewrite>,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// Whether the query is dropped.
    pub strip_query: bool,
}

/// A fixed response.
#[derive(Clone, Debug, PartialEq)]
pub struct Respond {
    /// Its status.
    pub status: u16,
    /// Its fields.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Arc<[u8]>,
}

/// A copy of a share of the requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Mirror {
    /// Where copies go.
    pub service: Name,
    /// Their share, 0 to 1.
    pub share: f64,
    /// A request with a longer body is not copied.
    pub body_bytes_max: usize,
}

/// Faults injected on purpose.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Fault {
    /// Waits before the request is handled.
    pub delay: Option<(Duration, Share)>,
    /// Answers with this status instead of handling the request.
    pub abort: Option<(u16, Share)>,
}

/// Which requests a fault is injected into.
#[derive(Clone, Debug, PartialEq)]
pub struct Share {
    /// The share of requests, 0 to 1.
    pub share: f64,
    /// Only requests that carry this field (name, value).
    pub header: Option<(String, String)>,
}

/// What answers when the target cannot: no endpoint, an open breaker, or one of the statuses.
#[derive(Clone, Debug, PartialEq)]
pub struct Fallback {
    /// Who answers.
    pub to: FallbackTo,
    /// Upstream statuses that count as failure beside Weft's own refusals.
    pub statuses: Vec<u16>,
}

/// Who answers instead.
#[derive(Clone, Debug, PartialEq)]
pub enum FallbackTo {
    /// Another service.
    Service(Name),
    /// A fixed response.
    Respond(Respond),
}
