//! Whether the paths of a login lead to it: the route that wins for each must be one that has the login.
//!
//! The compiled route table of each listener is asked, as the request path asks it. A login is looked at where a
//! browser can begin one: on the listeners and hosts on which a route with it wins for something. What only requests
//! with certain headers or queries get cannot be foreseen.

use std::collections::BTreeSet;

use weft_gateway::{AUTHENTICATION, Authentication, authentication::Scheme, login::Options};
use weft_kernel::Name;
use weft_proxy::{
    plan::{Host, Match, Path, Protocol, Route},
    router::{Captures, Lookup, Table},
};
use weft_wire::Fields;

use super::plan;
use crate::config::{catalogue::Checked, problem::Problem, setting::Cx, source::Place};

/// What stands for every name that no route says.
const ANY: &str = "any-other-host.invalid";
/// What stands for every segment that no route says.
const SEGMENT: &str = "any-other-path";

/// The routes of a listener, with what is found there.
struct Offered<'a> {
    listener: &'a Name,
    routes: Vec<(&'a Route, Place)>,
    table: Table,
}

/// A path of a login, and what is to be said of it.
struct Own<'a> {
    path: &'a str,
    methods: &'static [&'static str],
    /// Who comes there.
    say: String,
    key: &'static str,
}

/// Tells of logins whose paths no route takes that has them.
pub(super) fn check(whole: &Checked<'_>, built: &plan::Gateway, cx: &mut Cx) {
    if built.logins.is_empty() {
        return;
    }
    let listeners = whole.plan.proxy.listeners.iter();
    let http = listeners.filter(|listener| matches!(listener.protocol, Protocol::Http));
    let offered: Vec<_> = http.filter_map(|listener| Offered::new(whole, &listener.name)).collect();
    for login in &built.logins {
        let mut told = BTreeSet::new();
        for on in &offered {
            on.check(login, &mut told, cx);
        }
        if told.is_empty() {
            unreachable(whole, login, cx);
        }
    }
}

/// Tells of a login whose callback no route with it can take, wherever it may begin.
fn unreachable(whole: &Checked<'_>, login: &Options, cx: &mut Cx) {
    let mut with = whole.routes().filter(|(route, _)| has(route, login)).peekable();
    let Some((first, place)) = with.peek().map(|(route, place)| (&route.name, *place)) else {
        return;
    };
    if with.any(|(route, _)| takes(route, &login.callback_path)) {
        return;
    }
    let say = format!(
        "browsers come back from login `{}` to `{}`, which no route with that login takes",
        login.name, login.callback_path
    );
    let help = format!("have route `{first}` match it as well, or say another `callback_path`");
    cx.report(Problem::error(place, say).help(help));
}

impl<'a> Offered<'a> {
    fn new(whole: &'a Checked<'_>, listener: &'a Name) -> Option<Self> {
        let is_here =
            |route: &Route| route.listeners.is_empty() || route.listeners.contains(listener);
        let routes: Vec<_> = whole.routes().filter(|(route, _)| is_here(route)).collect();
        // What is wrong with a route was told already.
        let table = Table::compile((0..).zip(routes.iter().map(|(route, _)| route))).ok()?;
        Some(Self { listener, routes, table })
    }

    /// The route that wins.
    fn winner(&self, host: &str, method: &str, path: &str) -> Option<(&'a Route, Place)> {
        let fields = Fields::new();
        let lookup = Lookup { host, method, path, query: None, fields: &fields, certificate: None };
        let found = self.table.find(&lookup, &mut Captures::default()).ok()?;
        self.routes.get(found.route as usize).copied()
    }

    /// Whether a login wins for a request.
    fn wins(&self, login: &Options, host: &str, method: &str, path: &str) -> bool {
        self.winner(host, method, path).is_some_and(|(route, _)| has(route, login))
    }

    /// The hosts on which browsers may begin the login.
    fn hosts(&self, login: &Options) -> BTreeSet<String> {
        let mut hosts = BTreeSet::new();
        for (route, _) in self.routes.iter().filter(|(route, _)| has(route, login)) {
            let any = [Match::default()];
            let matches = if route.matches.is_empty() { &any[..] } else { &route.matches };
            for of in matches.iter().filter(|of| is_plain(of)) {
                let samples = samples(&of.path);
                for host in hosts_of(of) {
                    if samples.iter().any(|path| self.wins(login, &host, "GET", path)) {
                        hosts.insert(host);
                    }
                }
            }
        }
        hosts
    }

    fn check(&self, login: &Options, told: &mut BTreeSet<String>, cx: &mut Cx) {
        let begun = self.hosts(login);
        let origin = login.origin.as_deref().map(host_of);
        for own in own(login) {
            // The provider sends browsers to one host, if that is said.
            let is_there = own.key == "callback_path" || own.key == "backchannel_path";
            let hosts: Vec<&str> = match &origin {
                Some(host) if is_there && !begun.is_empty() => vec![host],
                _ => begun.iter().map(String::as_str).collect(),
            };
            for host in hosts {
                for method in own.methods {
                    let Some((route, place)) = self.winner(host, method, own.path) else {
                        continue;
                    };
                    if has(route, login) || !told.insert(format!("{} {}", own.key, route.name)) {
                        continue;
                    }
                    let on = match host {
                        ANY => String::new(),
                        host => format!(" on `{host}`"),
                    };
                    let say = format!(
                        "{} `{}`{on}, for which route `{}` wins on listener `{}`, and that does not have the login",
                        own.say, own.path, route.name, self.listener
                    );
                    let help = format!(
                        "have a route with the login match that path, or say another `{}`",
                        own.key
                    );
                    cx.report(Problem::error(place, say).help(help));
                }
            }
        }
    }
}

/// The paths of a login, with the methods that it answers there.
fn own(login: &Options) -> impl Iterator<Item = Own<'_>> {
    let name = &login.name;
    let own = |path, methods, say, key| Own { path, methods, say, key };
    let begin = login.login_path.as_deref().map(|path| {
        own(path, &["GET"][..], format!("browsers begin login `{name}` at"), "login_path")
    });
    let ended = login.backchannel_path.as_deref().map(|path| {
        let say = format!("the provider of login `{name}` tells that sessions have ended at");
        own(path, &["POST"][..], say, "backchannel_path")
    });
    let back = format!("browsers come back from login `{name}` to");
    let out = format!("browsers end sessions of login `{name}` at");
    [
        Some(own(&login.callback_path, &["GET"][..], back, "callback_path")),
        Some(own(&login.logout_path, &["GET", "POST"][..], out, "logout_path")),
        begin,
        ended,
    ]
    .into_iter()
    .flatten()
}

fn has(route: &Route, login: &Options) -> bool {
    let bindings = route.policy.policies.iter().filter(|of| of.handler == AUTHENTICATION);
    let mut settings = bindings.filter_map(|of| of.settings::<Authentication>().ok());
    let is_it = |method: &Scheme| matches!(method, Scheme::Oidc(of) if of.login == login.name);
    settings.any(|settings| settings.methods.iter().any(is_it))
}

/// Whether a match asks for nothing that cannot be foreseen.
fn is_plain(of: &Match) -> bool {
    of.headers.is_empty() && of.query.is_empty() && of.certificate.is_empty()
}

/// Hosts that a match takes, one for each that it says.
fn hosts_of(of: &Match) -> Vec<String> {
    if of.hosts.is_empty() {
        return vec![ANY.to_owned()];
    }
    let sample = |host: &Host| match host {
        Host::Exact(name) => name.clone(),
        Host::Wildcard(below) => format!("any-other-host.{below}"),
    };
    of.hosts.iter().map(sample).collect()
}

/// Paths that a path takes; none of an expression, which nobody can say.
fn samples(path: &Path) -> Vec<String> {
    match path {
        Path::Any => vec![format!("/{SEGMENT}"), "/".to_owned()],
        Path::Exact(path) => vec![path.clone()],
        Path::Prefix(prefix) => {
            vec![format!("{}/{SEGMENT}", prefix.trim_end_matches('/')), prefix.clone()]
        }
        Path::Template(template) => {
            let filled = template.split('/').map(|part| match part.starts_with('{') {
                true => SEGMENT,
                false => part,
            });
            vec![filled.collect::<Vec<_>>().join("/")]
        }
        Path::Regex(_) => Vec::new(),
    }
}

/// The host of an origin, as routes see it.
fn host_of(origin: &str) -> String {
    let host = origin.split_once("://").map_or(origin, |(_, host)| host);
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let host = match host.rsplit_once(':') {
        Some((name, port)) if is_port(port) => name,
        _ => host,
    };
    host.to_ascii_lowercase()
}

/// Whether a route may take a path, as far as that can be told.
fn takes(route: &Route, path: &str) -> bool {
    route.matches.is_empty()
        || route.matches.iter().any(|of| match &of.path {
            Path::Any | Path::Regex(_) | Path::Template(_) => true,
            Path::Exact(exact) => exact == path,
            Path::Prefix(prefix) => {
                let rest = path.strip_prefix(prefix.trim_end_matches('/'));
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
        })
}
