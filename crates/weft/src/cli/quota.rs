//! `weft quota`: how much clients may have in a day, week or month, what they have used, and changes by hand.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value, json};
use weft_api::Noun;

use super::{
    admin::{self, Admin},
    columns::members,
    verbs::{Named, Verbs},
};
use crate::components::quotas::{
    api::QUOTA,
    view::{KeyView, KeysView},
};

/// The noun of quotas.
#[derive(Clone, Debug)]
pub struct Quotas;

impl Named for Quotas {
    const NOUN: &'static Noun = &QUOTA;
}

/// Quotas of a running node.
#[derive(Debug, Args)]
pub struct Quota {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    admin: Admin,
}

#[derive(Debug, Subcommand)]
enum Verb {
    #[command(flatten)]
    Table(Verbs<Quotas>),
    /// The keys of a quota, and what each has used.
    Keys {
        /// The quota
        #[arg(value_name = "QUOTA")]
        name: String,
        /// The key to go on after.
        #[arg(long)]
        after: Option<String>,
        /// The most keys that are listed.
        #[arg(long, default_value_t = 100)]
        max: u64,
    },
    /// What one key has used of a quota.
    Key(Key),
    /// Forget what a key has used and was given in this period.
    Reset(Key),
    /// Give a key units beyond its limit, in this period.
    Add {
        #[command(flatten)]
        key: Key,
        /// The units.
        units: u64,
    },
    /// Set what a key has used in this period, or a limit of its own.
    Set {
        #[command(flatten)]
        key: Key,
        /// Units that it has used.
        #[arg(long, required_unless_present = "limit")]
        used: Option<u64>,
        /// Units that it may have in a period; `default` is the limit of the quota again.
        #[arg(long, value_parser = limit)]
        limit: Option<Value>,
    },
}

/// A key of a quota.
#[derive(Debug, Args)]
struct Key {
    /// The quota
    #[arg(value_name = "QUOTA")]
    name: String,
    /// The key, as the list of keys shows it
    key: String,
}

fn limit(text: &str) -> Result<Value, String> {
    match text {
        "default" => Ok(text.into()),
        number => number.parse::<u64>().map(Value::from).map_err(|error| error.to_string()),
    }
}

impl Key {
    fn path(&self) -> String {
        let (name, key) = (admin::segment(&self.name), admin::segment(&self.key));
        format!("/v1/quotas/{name}/keys/{key}")
    }
}

impl Quota {
    /// Exits with 0 if it is there or was done, with 1 if not, with 2 if the node could not be asked.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let post = |key: &Key, what: &str, body: Value| {
            self.admin.show(
                &Method::POST,
                &format!("{}/{what}", key.path()),
                Some(admin::json(&body)),
                one,
            )
        };
        match &self.verb {
            Verb::Table(verb) => verb.clone().run(&self.admin),
            Verb::Keys { name, after, max } => {
                let after = after.as_deref().map(admin::segment);
                let after = after.map_or(String::new(), |after| format!("&after={after}"));
                let path = format!("/v1/quotas/{}/keys?max={max}{after}", admin::segment(name));
                self.admin.show(&Method::GET, &path, None, list)
            }
            Verb::Key(key) => self.admin.show(&Method::GET, &key.path(), None, one),
            Verb::Reset(key) => post(key, "reset", json!({})),
            Verb::Add { key, units } => post(key, "add", json!({ "units": units })),
            Verb::Set { key, used, limit } => {
                let said = [("used", used.map(Value::from)), ("limit", limit.clone())];
                let body: Map<String, Value> = said
                    .into_iter()
                    .filter_map(|(name, value)| Some((name.to_owned(), value?)))
                    .collect();
                post(key, "set", body.into())
            }
        }
    }
}

fn one(answer: Value) -> anyhow::Result<String> {
    Ok(members(&answer))
}

fn list(answer: Value) -> anyhow::Result<String> {
    let KeysView { keys, next } = admin::read(answer)?;
    let row = |key: KeyView| {
        let limit =
            if key.own_limit { format!("{} (own)", key.limit) } else { key.limit.to_string() };
        [
            key.key,
            key.used.to_string(),
            key.left.to_string(),
            limit,
            key.extra.to_string(),
            key.until,
        ]
    };
    let mut text = admin::table(
        &["key", "used", "left", "limit", "extra", "until"],
        keys.into_iter().map(row),
    );
    if let Some(next) = next {
        text.push_str(&format!("more: --after {next}\n"));
    }
    Ok(text)
}
