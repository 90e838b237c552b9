//! `weft explain`: why something is as it is.

use std::{collections::BTreeMap, collections::HashMap, fmt::Write, process::ExitCode};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use http::Method;
use weft_kernel::Name;
use weft_proxy::{plan::Plan, router::Table};

use super::{
    ConfigPath, Output,
    admin::{Admin, printable},
    check, print, print_error,
};
use crate::{
    admin::explain::{Asked, Explained, explain},
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
        }
    }
}

impl Route {
    fn run(self) -> anyhow::Result<ExitCode> {
        let mut headers: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in self.headers {
            match headers.get_mut(&name) {
                Some(there) => *there = format!("{there}, {value}"),
                None => {
                    headers.insert(name, value);
                }
            }
        }
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
    // Writing to a string cannot fail.
    for verdict in &explained.listeners {
        let host = if explained.host.is_empty() { "(no host)" } else { &explained.host };
        let path = &verdict.path;
        let _ = writeln!(out, "{} {host} {path} on {}", explained.method, verdict.listener);
        if let Some(won) = &verdict.route {
            let _ = writeln!(out, "  route {} to {}", won.route, won.target);
            let _ = writeln!(out, "    by its match {}: {}", won.match_index + 1, won.conditions);
        }
        if let Some(refused) = &verdict.refused {
            let _ = writeln!(out, "  refused: {refused}");
        }
        for near in &verdict.near {
            let _ = writeln!(out, "  not {} ({}): {}", near.route, near.conditions, near.why);
        }
    }
    out
}
