//! `weft explain`: why something is as it is.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write,
    net::IpAddr,
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use http::Method;
use weft_kernel::Name;
use weft_proxy::{plan::Plan, router::Table};

use super::{
    ConfigPath, Output,
    admin::{Admin, Said, printable},
    check, print, print_error,
};
use crate::{
    admin::{
        explain::{Asked, Explained, Verdict, explain},
        explain_request::{AskedRequest, ExplainedRequest, PolicyStep, RequestVerdict},
    },
    config::load,
};

/// Explain a decision of Weft's.
#[derive(Debug, Args)]
pub struct Explain {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show which route a request would get, and why not another.
    Route(Route),
    /// Show what would become of a request: its route, and what each policy of that would decide.
    Request(Request),
}

/// Show what would become of a request: its route, and what each policy of that would decide.
///
/// A running node is asked, and answers by what is in force and by what it has counted so far. Nothing is sent, counted
/// or asked of others.
#[derive(Debug, Args)]
struct Request {
    /// Method.
    method: String,
    /// URL, or the path alone; one of `https` comes by TLS.
    url: String,
    /// Header field, as `Name: value`; may be given several times.
    #[arg(long = "header", short = 'H', value_name = "FIELD", value_parser = header)]
    headers: Vec<(String, String)>,
    /// Name of the listener; all HTTP listeners otherwise.
    #[arg(long)]
    listener: Option<String>,
    /// IP address of the client.
    #[arg(long, value_name = "ADDRESS")]
    client: Option<IpAddr>,
    #[command(flatten)]
    admin: Admin,
}

/// Show which route a request would get, and why not another.
///
/// From the configuration, or from a running node with `--live`.
#[derive(Debug, Args)]
struct Route {
    /// Method.
    method: String,
    /// URL, or the path alone.
    url: String,
    /// Header field, as `Name: value`; may be given several times.
    #[arg(long = "header", short = 'H', value_name = "FIELD", value_parser = header)]
    headers: Vec<(String, String)>,
    /// Name of the listener; all HTTP listeners otherwise.
    #[arg(long)]
    listener: Option<String>,
    /// Ask the running node at `--admin` instead of reading a configuration.
    #[arg(long)]
    live: bool,
    #[command(flatten)]
    config: ConfigPath,
    #[command(flatten)]
    admin: Admin,
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("write it as `Name: value`")?;
    Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
}

impl Explain {
    /// Exits with 0 if a route is found, with 1 if none is, with 2 if it could not be asked.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.what {
            What::Route(route) => route.run(),
            What::Request(request) => request.run(),
        }
    }
}

impl Route {
    fn run(self) -> anyhow::Result<ExitCode> {
        let headers = joined(self.headers);
        let method = self.method.to_ascii_uppercase();
        let asked = Asked { method, url: self.url, headers, listener: self.listener };
        if self.live {
            let body = serde_json::to_value(&asked).context("the question cannot be written")?;
            let mut found = true;
            let told = |explained: &Explained| {
                found = has_route(explained);
                tell(explained)
            };
            let code = self.admin.ask(&Method::POST, "/v1/explain/route", Some(&body), told)?;
            return Ok(if found { code } else { ExitCode::from(1) });
        }
        let loaded = match load::load(&self.config.path) {
            Ok(loaded) => loaded,
            Err(refused) => {
                check::tell(&refused.problems, &refused.sources)?;
                return Ok(ExitCode::from(2));
            }
        };
        let plan = &loaded.plan.proxy;
        let tables = tables(plan)?;
        let explained = match explain(plan, |listener| tables.get(&listener.name), &asked) {
            Ok(explained) => explained,
            Err(what) => {
                print_error(&printable(&format!("error: {what}\n")))?;
                return Ok(ExitCode::from(2));
            }
        };
        match self.admin.output {
            Output::Json => {
                let value = serde_json::to_value(&explained).context("the answer is no JSON")?;
                print(&format!("{value:#}\n"))?;
            }
            Output::Text => print(&printable(&tell(&explained)))?,
        }
        Ok(ExitCode::from(u8::from(!has_route(&explained))))
    }
}

impl Request {
    /// Exits with 1 if it is refused, or answered on the way, on every listener.
    fn run(self) -> anyhow::Result<ExitCode> {
        let asked = AskedRequest {
            method: self.method.to_ascii_uppercase(),
            url: self.url,
            headers: joined(self.headers),
            listener: self.listener,
            client: self.client,
        };
        let body = serde_json::to_value(&asked).context("the question cannot be written")?;
        let answer = self.admin.send(&Method::POST, "/v1/explain/request", Some(&body));
        let explained: ExplainedRequest = match answer {
            Ok(Said::Yes(value)) => {
                if let Output::Json = self.admin.output {
                    print(&format!("{value:#}\n"))?;
                }
                serde_json::from_value(value).context("the answer cannot be read")?
            }
            Ok(Said::No(why)) => return self.admin.refused(&why),
            Err(error) => {
                print_error(&printable(&format!("error: {error:#}\n")))?;
                return Ok(ExitCode::from(2));
            }
        };
        if let Output::Text = self.admin.output {
            print(&printable(&tell_request(&explained)))?;
        }
        let is_let_on = explained.listeners.iter().any(RequestVerdict::is_let_on);
        Ok(ExitCode::from(u8::from(!is_let_on)))
    }
}

/// Header fields by name, several of one name as one.
fn joined(fields: Vec<(String, String)>) -> BTreeMap<String, String> {
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in fields {
        match headers.get_mut(&name) {
            Some(there) => *there = format!("{there}, {value}"),
            None => {
                headers.insert(name, value);
            }
        }
    }
    headers
}

/// The route table of each listener, as the node would compile it.
fn tables(plan: &Plan) -> anyhow::Result<HashMap<Name, Table>> {
    let mut tables = HashMap::new();
    for listener in &plan.listeners {
        let own = (0..).zip(&plan.routes).filter(|(_, route)| {
            route.listeners.is_empty() || route.listeners.contains(&listener.name)
        });
        let table = Table::compile(own).map_err(|errors| {
            let all: Vec<String> = errors.iter().map(ToString::to_string).collect();
            anyhow::anyhow!(all.join("; "))
        })?;
        tables.insert(listener.name.clone(), table);
    }
    Ok(tables)
}

fn has_route(explained: &Explained) -> bool {
    explained.listeners.iter().any(|verdict| verdict.route.is_some())
}

fn tell(explained: &Explained) -> String {
    let mut out = String::new();
    if explained.listeners.is_empty() {
        out.push_str("no listener speaks HTTP\n");
    }
    for verdict in &explained.listeners {
        tell_matching(&explained.method, &explained.host, verdict, &[], &mut out);
    }
    out
}

fn tell_request(explained: &ExplainedRequest) -> String {
    let mut out = String::new();
    if explained.listeners.is_empty() {
        out.push_str("no listener speaks HTTP\n");
    }
    for RequestVerdict { matching, policies } in &explained.listeners {
        tell_matching(&explained.method, &explained.host, matching, policies, &mut out);
    }
    out
}

fn tell_matching(
    method: &str,
    host: &str,
    verdict: &Verdict,
    policies: &[PolicyStep],
    out: &mut String,
) {
    // Writing to a string cannot fail.
    let host = if host.is_empty() { "(no host)" } else { host };
    let _ = writeln!(out, "{method} {host} {} on {}", verdict.path, verdict.listener);
    if let Some(won) = &verdict.route {
        let _ = writeln!(out, "  route {} to {}", won.route, won.target);
        let _ = writeln!(out, "    by its match {}: {}", won.match_index + 1, won.conditions);
    }
    for step in policies {
        let outcome = step.outcome.replace('_', " ");
        let _ = write!(out, "  {} {outcome}", step.policy);
        if let Some(status) = step.status {
            let _ = write!(out, " with {status}");
        }
        if let Some(reason) = &step.reason {
            let _ = write!(out, " {reason}");
        }
        let _ = match step.why.as_str() {
            "" => writeln!(out),
            why => writeln!(out, ": {why}"),
        };
    }
    if let Some(refused) = &verdict.refused {
        let _ = writeln!(out, "  refused: {refused}");
    }
    for near in &verdict.near {
        let _ = writeln!(out, "  not {} ({}): {}", near.route, near.conditions, near.why);
    }
}
