//! A route: what fits it, where its requests go, and how they are treated, in words for people.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weft_proxy::plan::{self, FallbackTo, FieldValue, Host, Path, PathRewrite};

use super::millis;

/// A route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Route")]
pub struct RouteView {
    /// Its name.
    pub name: String,
    /// The listeners it is offered on; empty for every HTTP listener.
    pub listeners: Vec<String>,
    /// What fits it, a line for each match.
    pub matches: Vec<String>,
    /// Where its requests go.
    pub target: TargetView,
    /// How its requests are treated.
    pub policy: PolicyView,
}

/// Where requests go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Target")]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum TargetView {
    /// To one of these services.
    Services {
        /// Each with its weight.
        services: Vec<WeightedView>,
    },
    /// Elsewhere, by the client itself.
    Redirect {
        /// The status.
        status: u16,
        /// What of the location is changed.
        to: String,
    },
    /// Nowhere: Weft answers.
    Respond {
        /// The status.
        status: u16,
    },
    /// To messages, which Weft itself keeps.
    Inside {
        /// The topic or queue, or the path below which all of them are offered.
        to: String,
    },
}

/// A service and its weight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Weighted")]
pub struct WeightedView {
    /// The service.
    pub service: String,
    /// Its weight among the others.
    pub weight: u32,
}

/// How the requests of a route are treated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Policy")]
pub struct PolicyView {
    /// The longest time of a request, in milliseconds.
    pub request_timeout_ms: Option<f64>,
    /// The longest time of one try.
    pub try_timeout_ms: Option<f64>,
    /// The longest time until a connection stands.
    pub connect_timeout_ms: f64,
    /// Tries after the first.
    pub retries: u32,
    /// Hedges for one request.
    pub hedges: u32,
    /// The largest request body, in bytes.
    pub body_bytes_max: Option<u64>,
    /// Where a share of requests is copied to.
    pub mirror: Option<String>,
    /// Who answers when the target cannot.
    pub fallback: Option<String>,
    /// Whether faults are injected.
    pub fault: bool,
}

impl RouteView {
    pub(crate) fn of(route: &plan::Route) -> Self {
        let policy = &route.policy;
        let fallback = policy.fallback.as_ref().map(|fallback| match &fallback.to {
            FallbackTo::Service(name) => name.to_string(),
            FallbackTo::Respond(respond) => format!("status {}", respond.status),
        });
        Self {
            name: route.name.to_string(),
            listeners: route.listeners.iter().map(ToString::to_string).collect(),
            matches: route.matches.iter().map(conditions).collect(),
            target: TargetView::of(&route.target),
            policy: PolicyView {
                request_timeout_ms: policy.timeout.request.map(millis),
                try_timeout_ms: policy.timeout.per_try.map(millis),
                connect_timeout_ms: millis(policy.timeout.connect),
                retries: policy.retry.as_ref().map_or(0, |retry| retry.retries),
                hedges: policy.hedge.as_ref().map_or(0, |hedge| hedge.max),
                body_bytes_max: policy.body_bytes_max.0,
                mirror: policy.mirror.as_ref().map(|mirror| mirror.service.to_string()),
                fallback,
                fault: policy.fault.is_some(),
            },
        }
    }
}

impl TargetView {
    pub(crate) fn of(target: &plan::Target) -> Self {
        match target {
            plan::Target::Services(weighted) => Self::Services {
                services: weighted
                    .iter()
                    .map(|weighted| WeightedView {
                        service: weighted.service.to_string(),
                        weight: weighted.weight,
                    })
                    .collect(),
            },
            plan::Target::Redirect(redirect) => {
                Self::Redirect { status: redirect.status, to: location(redirect) }
            }
            plan::Target::Respond(respond) => Self::Respond { status: respond.status },
            plan::Target::Local(binding) => Self::Inside { to: binding.to_string() },
        }
    }
}

impl std::fmt::Display for TargetView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Services { services } => match services.as_slice() {
                [only] => f.write_str(&only.service),
                many => {
                    let shown: Vec<String> = many
                        .iter()
                        .map(|weighted| format!("{} {}", weighted.service, weighted.weight))
                        .collect();
                    f.write_str(&shown.join(", "))
                }
            },
            Self::Redirect { status, to } => write!(f, "redirect {status} to {to}"),
            Self::Respond { status } => write!(f, "status {status}"),
            Self::Inside { to } => f.write_str(to),
        }
    }
}

/// A redirect's location, with `…` for what stays as it was.
fn location(redirect: &plan::Redirect) -> String {
    let mut text = String::new();
    if redirect.scheme.is_some() || redirect.host.is_some() || redirect.port.is_some() {
        text.push_str(redirect.scheme.as_deref().unwrap_or("…"));
        text.push_str("://");
        text.push_str(redirect.host.as_deref().unwrap_or("…"));
        if let Some(port) = redirect.port {
            text.push_str(&format!(":{port}"));
        }
    }
    match &redirect.path {
        None => text.push_str("/…"),
        Some(PathRewrite::Prefix(prefix)) => text.push_str(&format!("{prefix}…")),
        Some(PathRewrite::Full(path) | PathRewrite::Template(path)) => text.push_str(path),
        Some(PathRewrite::Regex { replace, .. }) => text.push_str(replace),
    }
    text
}

/// The conditions of a match in one line: `GET,HEAD orders.example /orders/* x-tenant=acme ?v=2`.
pub(crate) fn conditions(of: &plan::Match) -> String {
    let mut words = Vec::new();
    if !of.methods.is_empty() {
        words.push(of.methods.join(","));
    }
    if !of.hosts.is_empty() {
        let hosts: Vec<String> = of
            .hosts
            .iter()
            .map(|host| match host {
                Host::Exact(name) => name.clone(),
                Host::Wildcard(suffix) => format!("*.{suffix}"),
            })
            .collect();
        words.push(hosts.join(","));
    }
    match &of.path {
        Path::Any => {}
        Path::Exact(path) => words.push(format!("={path}")),
        Path::Prefix(path) => words.push(format!("{}/*", path.trim_end_matches('/'))),
        Path::Regex(regex) => words.push(format!("~{regex}")),
        Path::Template(template) => words.push(template.clone()),
    }
    let said = |field: &plan::Field, mark| condition(mark, &field.name, &field.value, field.invert);
    words.extend(of.headers.iter().map(|field| said(field, "")));
    words.extend(of.query.iter().map(|field| said(field, "?")));
    let certificate = of.certificate.iter();
    words.extend(certificate.map(|of| condition("", of.part.text(), &of.value, of.invert)));
    if words.is_empty() { "everything".into() } else { words.join(" ") }
}

fn condition(mark: &str, name: &str, value: &FieldValue, invert: bool) -> String {
    let not = if invert { "not " } else { "" };
    match value {
        FieldValue::Present => format!("{not}{mark}{name}"),
        FieldValue::Exact(value) => format!("{not}{mark}{name}={value}"),
        FieldValue::Prefix(value) => format!("{not}{mark}{name}={value}*"),
        FieldValue::Regex(value) => format!("{not}{mark}{name}~{value}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_match_is_one_line() {
        let field = |name: &str, value, invert| plan::Field { name: name.into(), value, invert };
        for (of, line) in [
            (plan::Match::default(), "everything"),
            (
                plan::Match {
                    hosts: vec![Host::Exact("a.example".into()), Host::Wildcard("b".into())],
                    path: Path::Prefix("/orders".into()),
                    methods: vec!["GET".into(), "HEAD".into()],
                    headers: vec![field("x-tenant", FieldValue::Exact("acme".into()), false)],
                    query: vec![field("v", FieldValue::Present, true)],
                    certificate: vec![plan::CertificateField {
                        part: plan::CertificatePart::Uri,
                        value: FieldValue::Prefix("spiffe://shop/".into()),
                        invert: false,
                    }],
                },
                "GET,HEAD a.example,*.b /orders/* x-tenant=acme not ?v certificate uri=spiffe://shop/*",
            ),
            (plan::Match { path: Path::Prefix("/".into()), ..plan::Match::default() }, "/*"),
            (plan::Match { path: Path::Exact("/a".into()), ..plan::Match::default() }, "=/a"),
            (plan::Match { path: Path::Regex("/a+".into()), ..plan::Match::default() }, "~/a+"),
        ] {
            assert_eq!(conditions(&of), line);
        }
    }

    #[test]
    fn a_redirect_says_what_changes() {
        let mut redirect = plan::Redirect {
            scheme: None,
            host: None,
            port: None,
            path: Some(PathRewrite::Prefix("/new/".into())),
            status: 308,
            strip_query: false,
        };
        assert_eq!(location(&redirect), "/new/…");
        redirect.scheme = Some("https".into());
        redirect.path = None;
        assert_eq!(location(&redirect), "https://…/…");
    }
}
