//! `weft listener`: the listeners of a running node.

use serde_json::Value;
use weft_api::Noun;

use super::{
    admin,
    verbs::{Named, Plain},
};
use crate::{admin::LISTENER, node::ListenerStatus};

/// The noun of listeners.
#[derive(Clone, Debug)]
pub struct Listeners;

impl Named for Listeners {
    const NOUN: &'static Noun = &LISTENER;

    fn list(answer: Value) -> anyhow::Result<String> {
        Ok(list(&admin::read::<Vec<ListenerStatus>>(answer)?))
    }
}

/// Listeners of a running node.
pub type Listener = Plain<Listeners>;

fn list(listeners: &[ListenerStatus]) -> String {
    let row = |listener: &ListenerStatus| {
        [
            listener.name.clone(),
            listener.addresses.join(", "),
            listener.connections.to_string(),
            listener.certificates.len().to_string(),
        ]
    };
    admin::table(
        &["listener", "addresses", "connections", "certificates"],
        listeners.iter().map(row),
    )
}
