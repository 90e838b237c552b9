//! `weft route`: the routes of a running node.

use std::{fmt::Write, process::ExitCode};

use clap::Args;
use http::Method;
use serde_json::Value;
use weft_api::Noun;

use super::{
    admin::{self, Admin},
    verbs::{Named, Verbs},
};
use crate::admin::{ROUTE, view::RouteView};

/// The noun of routes.
#[derive(Clone, Debug)]
pub struct Routes;

impl Named for Routes {
    const NOUN: &'static Noun = &ROUTE;

    fn list(answer: Value) -> anyhow::Result<String> {
        Ok(list(&admin::read::<Vec<RouteView>>(answer)?))
    }

    fn show(answer: Value) -> anyhow::Result<String> {
        Ok(one(&admin::read(answer)?))
    }
}

/// Routes of a running node.
#[derive(Debug, Args)]
#[command(subcommand_precedence_over_arg = true)]
pub struct Route {
    #[command(subcommand)]
    verb: Option<Verbs<Routes>>,
    /// Name of the route; all routes otherwise.
    #[arg(value_name = "ROUTE")]
    name: Option<String>,
    #[command(flatten)]
    admin: Admin,
}

impl Route {
    /// Exits with 0 if it is there, with 1 if not, with 2 if the node could not be asked.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        if let Some(verb) = self.verb {
            return verb.run(&self.admin);
        }
        match &self.name {
            None => self.admin.show(&Method::GET, "/v1/routes", None, Routes::list),
            Some(name) => {
                let path = format!("/v1/routes/{}", admin::segment(name));
                self.admin.show(&Method::GET, &path, None, Routes::show)
            }
        }
    }
}

fn everything(matches: &[String]) -> String {
    if matches.is_empty() { "everything".into() } else { matches.join("\n") }
}

fn list(routes: &[RouteView]) -> String {
    let row = |route: &RouteView| {
        let listeners = route.listeners.join(", ");
        let listeners = if listeners.is_empty() { "all".into() } else { listeners };
        [route.name.clone(), listeners, everything(&route.matches), route.target.to_string()]
    };
    admin::table(&["route", "listeners", "match", "target"], routes.iter().map(row))
}

fn one(route: &RouteView) -> String {
    let policy = &route.policy;
    let ms = |span: Option<f64>| span.map_or("unlimited".into(), |span| format!("{span} ms"));
    let mut lines = vec![
        ("route", route.name.clone()),
        ("match", everything(&route.matches).replace('\n', "; ")),
        ("target", route.target.to_string()),
        ("request timeout", ms(policy.request_timeout_ms)),
        ("connect timeout", ms(Some(policy.connect_timeout_ms))),
        ("retries", policy.retries.to_string()),
    ];
    if !route.listeners.is_empty() {
        lines.insert(1, ("listeners", route.listeners.join(", ")));
    }
    if policy.try_timeout_ms.is_some() {
        lines.push(("try timeout", ms(policy.try_timeout_ms)));
    }
    if policy.hedges > 0 {
        lines.push(("hedges", policy.hedges.to_string()));
    }
    let body = policy.body_bytes_max.map_or("unlimited".into(), |max| format!("{max} bytes"));
    lines.push(("request body", body));
    lines.extend(policy.mirror.clone().map(|to| ("mirror", to)));
    lines.extend(policy.fallback.clone().map(|to| ("fallback", to)));
    if policy.fault {
        lines.push(("fault", "injected".into()));
    }
    let mut out = String::new();
    for (what, value) in lines {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{what:<16} {value}");
    }
    out
}
