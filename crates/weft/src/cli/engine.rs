//! `weft engine`: the engines of a running node.

use serde_json::Value;
use weft_api::Noun;
use weft_broker_http::nouns;

use super::{
    admin::table,
    verbs::{Named, Plain},
};

/// The noun of engines.
#[derive(Clone, Debug)]
pub struct Engines;

impl Named for Engines {
    const NOUN: &'static Noun = &nouns::ENGINE;

    fn list(answer: Value) -> anyhow::Result<String> {
        let names = answer["engines"].as_array().into_iter().flatten();
        Ok(table(&["engine"], names.map(|name| [name.as_str().unwrap_or_default().to_owned()])))
    }
}

/// Engines of a running node.
pub type Engine = Plain<Engines>;
