//! Routes.

use std::{collections::HashMap, fmt::Write as _, sync::Arc};

use weft_proxy::plan::{
    self, CertificateField, CertificatePart, Field, FieldValue, HostRewrite, Match, PathRewrite,
    Rewrite, Target,
};
use weft_proxy::{
    rewrite::{Redirector, Rewriter},
    router::Table,
};

use super::{hosts, targets};
use crate::config::{
    catalogue::{Bound, Catalogue},
    merge::Names,
    problem::{Problem, Severity},
    routes::Around,
    sections::{Policy, Route, listener::Protocol, route, target},
    setting::{At, Cx},
    source::Place,
    text::TemplatePath,
    tree::{Kind, Node},
};

/// A route with its policies, as they are said and as they were built, and the place of what its target
/// names.
pub(in super::super) fn build(
    node: &Node,
    route: &Route,
    section: &Policy,
    policy: Option<Arc<plan::RoutePolicies>>,
    around: Around<'_>,
    cx: &mut Cx,
) -> Option<(plan::Route, Place)> {
    let Around { names, protocols, catalogue } = around;
    listeners(route, names, protocols, cx);
    let matches: Vec<Match> = route.matches.iter().map(matching).collect();
    let rewrite = rewrite(route, &matches, cx);
    let bound = locals(node, route, catalogue, cx);
    let place = bound.iter().flatten().next().map_or(route.name.place, |bound| bound.place);
    let bound = bound.into_iter().map(|bound| bound.map(|bound| Target::Local(bound.binding)));
    let target = target(route, &matches, bound.collect(), around, cx);
    combinations(route, section, cx);
    let (target, policy) = target.zip(policy)?;
    let built = plan::Route {
        name: route.name.value.clone(),
        listeners: route.listeners.iter().map(|name| name.value.clone()).collect(),
        is_internal: false,
        matches,
        policy,
        rewrite,
        target,
    };
    // What the request path would refuse is told here, where it stands.
    if let Err(errors) = Table::compile([(0, &built)]) {
        for error in errors {
            cx.report(Problem::error(route.name.place, error.what));
        }
    }
    Some((built, place))
}

/// The targets of a route that components answer for; `None` for one that cannot be, which was reported.
fn locals(node: &Node, route: &Route, catalogue: &Catalogue, cx: &mut Cx) -> Vec<Option<Bound>> {
    let said = |key: &str| node.get(key).filter(|node| !matches!(node.kind, Kind::Null));
    let keys = catalogue.targets().filter_map(|target| Some((target, said(target.field.key)?)));
    keys.map(|(target, node)| (target.build)(&route.name.value, node, cx)).collect()
}

fn listeners(route: &Route, names: &Names, protocols: &HashMap<&str, Protocol>, cx: &mut Cx) {
    for name in route.listeners.iter() {
        if names.listeners.require("listener", name.as_str(), name.place, cx)
            && let Some(protocol) = protocols.get(name.as_str())
            && *protocol != Protocol::Http
        {
            let problem = Problem::error(
                name.place,
                format!("the listener `{}` is not http, so routes have no part in it", name.value),
            )
            .help("it leads connections by its own `to` or `sni`");
            cx.report(match names.listeners.place(name.as_str()) {
                Some(place) => problem.and(place, "this listener"),
                None => problem,
            });
        }
    }
}

fn matching(section: &route::Match) -> Match {
    let field = |name: &str, field: &crate::config::text::FieldMatch| Field {
        name: name.to_owned(),
        value: field.value.clone(),
        invert: field.invert,
    };
    Match {
        hosts: hosts(&section.host),
        path: section.path.0.clone(),
        methods: section.method.iter().map(|method| method.0.clone()).collect(),
        headers: section.headers.0.iter().map(|(name, value)| field(&name.0, value)).collect(),
        query: section.query.0.iter().map(|(name, value)| field(name, value)).collect(),
        certificate: section.certificate.as_ref().map(certificate).unwrap_or_default(),
    }
}

/// The names that a certificate must have.
fn certificate(section: &route::CertificateMatch) -> Vec<CertificateField> {
    let route::CertificateMatch { uri, dns, subject, fingerprint, .. } = section;
    let parts = [
        (CertificatePart::Uri, uri),
        (CertificatePart::Dns, dns),
        (CertificatePart::Subject, subject),
        (CertificatePart::Fingerprint, fingerprint),
    ];
    let said = parts.into_iter().filter_map(|(part, said)| Some((part, said.as_ref()?)));
    said.map(|(part, said)| {
        let value = match (part, said.value.clone()) {
            // As the names are compared.
            (CertificatePart::Dns, FieldValue::Exact(text)) => {
                FieldValue::Exact(text.to_ascii_lowercase())
            }
            (CertificatePart::Dns, FieldValue::Prefix(text)) => {
                FieldValue::Prefix(text.to_ascii_lowercase())
            }
            (CertificatePart::Fingerprint, FieldValue::Exact(text)) => {
                FieldValue::Exact(text.replace(':', "").to_ascii_lowercase())
            }
            (_, value) => value,
        };
        CertificateField { part, value, invert: said.invert }
    })
    .collect()
}

fn target(
    route: &Route,
    matches: &[Match],
    locals: Vec<Option<Target>>,
    around: Around<'_>,
    cx: &mut Cx,
) -> Option<Target> {
    let mut said = locals;
    if let Some(to) = &route.to {
        said.push(Some(Target::Services(targets(&to.value, around.names, cx))));
    }
    if let Some(redirect) = &route.redirect {
        said.push(redirect_target(redirect, matches, cx).map(Target::Redirect));
    }
    if let Some(respond) = &route.respond {
        said.push(respond_target(respond, cx).map(Target::Respond));
    }
    let what = match said.len() {
        1 => return said.pop().flatten(),
        0 => format!("the route `{}` leads nowhere", route.name.value),
        _ => format!("the route `{}` has more than one target", route.name.value),
    };
    let mut help = "say one of `to: SERVICE`, `redirect`, `respond`".to_owned();
    for target in around.catalogue.targets() {
        let _ = write!(help, ", `{}`", target.field.key);
    }
    cx.report(Problem::error(route.name.place, what).help(help));
    None
}

pub(super) fn respond_target(section: &target::Respond, cx: &mut Cx) -> Option<plan::Respond> {
    let status = section.status.value.0;
    let body = section.body.as_deref().unwrap_or("");
    if matches!(status, 204 | 304) && !body.is_empty() {
        cx.report(Problem::error(
            section.status.place,
            format!("a response with status {status} has no body"),
        ));
        return None;
    }
    Some(plan::Respond {
        status,
        headers: section
            .headers
            .0
            .iter()
            .map(|(name, value)| (name.0.clone(), value.0.clone()))
            .collect(),
        body: body.as_bytes().into(),
    })
}

fn redirect_target(
    section: &At<target::Redirect>,
    matches: &[Match],
    cx: &mut Cx,
) -> Option<plan::Redirect> {
    let status = section.status.value.0;
    if !matches!(status, 301 | 302 | 303 | 307 | 308) {
        cx.report(Problem::error(
            section.status.place,
            format!("{status} is no redirect; it is one of 301, 302, 303, 307, 308"),
        ));
        return None;
    }
    let mut paths = Vec::new();
    paths.extend(section.path.as_ref().map(|path| PathRewrite::Full(path.0.clone())));
    paths.extend(section.prefix.as_ref().map(|path| PathRewrite::Prefix(path.0.clone())));
    if let Some(path) = &section.template {
        captured(&At { value: path.clone(), place: section.place }, matches, cx);
        paths.push(PathRewrite::Template(path.0.clone()));
    }
    if paths.len() > 1 {
        cx.report(Problem::error(section.place, "keep one of `path`, `prefix`, `template`"));
        return None;
    }
    let changed = section.scheme.is_some()
        || section.host.is_some()
        || section.port.is_some()
        || !paths.is_empty()
        || section.strip_query;
    if !changed {
        cx.report(
            Problem::error(section.place, "this redirect leads back to where the client came from")
                .help("say what changes: `scheme`, `host`, `port`, `path`, `prefix` or `template`"),
        );
        return None;
    }
    if let Some(host) = &section.host
        && host.0.parse::<http::uri::Authority>().is_ok_and(|host| host.port().is_some())
    {
        cx.report(Problem::error(section.place, "the port of a redirect is said with `port`"));
        return None;
    }
    let redirect = plan::Redirect {
        scheme: section.scheme.map(|scheme| match scheme {
            target::Scheme::Http => "http".to_owned(),
            target::Scheme::Https => "https".to_owned(),
        }),
        host: section.host.as_ref().map(|host| host.0.clone()),
        port: section.port.map(|port| port.u16()),
        path: paths.pop(),
        status,
        strip_query: section.strip_query,
    };
    refused(section.place, Redirector::compile(&redirect, matches), cx);
    Some(redirect)
}

/// Reports what the request path would refuse, unless it was told better already.
fn refused<T>(place: Place, compiled: Result<T, String>, cx: &mut Cx) {
    if let Err(what) = compiled
        && !cx.problems.iter().any(|problem| problem.severity == Severity::Error)
    {
        cx.report(Problem::error(place, what));
    }
}

fn rewrite(route: &Route, matches: &[Match], cx: &mut Cx) -> Rewrite {
    let Some(section) = &route.rewrite else { return Rewrite::default() };
    let mut paths = Vec::new();
    paths.extend(section.prefix.as_ref().map(|path| PathRewrite::Prefix(path.0.clone())));
    paths.extend(section.path.as_ref().map(|path| PathRewrite::Full(path.0.clone())));
    paths.extend(section.regex.as_ref().map(|regex| PathRewrite::Regex {
        pattern: regex.pattern.0.clone(),
        replace: regex.replace.clone(),
    }));
    if let Some(path) = &section.template {
        captured(path, matches, cx);
        paths.push(PathRewrite::Template(path.0.clone()));
    }
    if paths.len() > 1 {
        cx.report(Problem::error(
            section.place,
            "keep one of `prefix`, `path`, `regex`, `template`",
        ));
    }
    let rewrite = Rewrite {
        path: paths.pop(),
        host: section.host.as_ref().map(|host| match host.0.as_str() {
            "endpoint" => HostRewrite::Endpoint,
            host => HostRewrite::Literal(host.to_owned()),
        }),
    };
    refused(section.place, Rewriter::compile(&rewrite, matches), cx);
    rewrite
}

/// The captures of a template.
fn names_of(template: &str) -> impl Iterator<Item = &str> {
    template.split('/').filter_map(|segment| {
        let name = segment.strip_prefix('{')?.strip_suffix('}')?;
        Some(name.strip_prefix('*').unwrap_or(name))
    })
}

/// Refuses a template with a capture that a match of the route does not have.
fn captured(template: &At<TemplatePath>, matches: &[Match], cx: &mut Cx) {
    for name in names_of(&template.value.0) {
        let missing = matches.is_empty()
            || matches.iter().any(|matching| match &matching.path {
                plan::Path::Template(path) => names_of(path).all(|other| other != name),
                _ => true,
            });
        if missing {
            cx.report(
                Problem::error(template.place, format!("no match of this route captures `{name}`"))
                    .help(format!("match a template with `{{{name}}}`")),
            );
        }
    }
}

/// What cannot work with a target that Weft answers itself, or with the policies in effect.
fn combinations(route: &Route, policy: &Policy, cx: &mut Cx) {
    if route.to.is_some() {
        return;
    }
    let name = &route.name.value;
    // Retries are on by default; only what was asked for is refused, and all of it needs a service.
    if policy.mirror.on().is_some() {
        cx.report(Problem::error(
            policy.mirror.place,
            format!("the route `{name}` sends nothing to a service, so nothing can be mirrored"),
        ));
    }
    if policy.fallback.on().is_some() {
        cx.report(Problem::error(
            policy.fallback.place,
            format!("the route `{name}` sends nothing to a service, so there is nothing to fall back from"),
        ));
    }
    if let crate::config::leaf::Switch::On(retry) = &policy.retry
        && retry.place.is_in_file()
    {
        cx.report(Problem::error(
            retry.place,
            format!("the route `{name}` sends nothing to a service, so nothing can be tried again"),
        ));
    }
    if let crate::config::leaf::Switch::On(hedge) = &policy.hedge {
        cx.report(Problem::error(
            hedge.place,
            format!("the route `{name}` sends nothing to a service, so there is nothing to hedge"),
        ));
    }
    if let Some(rewrite) = &route.rewrite {
        cx.report(Problem::error(
            rewrite.place,
            format!("the route `{name}` sends nothing to a service, so nothing can be rewritten"),
        ));
    }
}
