//! What is shown of outboxes.

use std::time::{Duration, SystemTime};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weft_kernel::Result;
use weft_outbox::{Outbox, service::committed_ms, state::State};

use crate::node::stamp;

/// An outbox.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Outbox")]
pub struct OutboxView {
    /// Its name.
    pub name: String,
    /// The server and the database that it reads.
    pub database: String,
    /// Its slot.
    pub slot: String,
    /// Its publication.
    pub publication: String,
    /// What it does: `connecting`, `creating` (the slot), `reading`, `waiting` (for the store or a queue), `away`
    /// (the server is), or `stopped`.
    pub state: String,
    /// Why, if there is more to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Stable word for why it stands still.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// What to do about that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// Events that were published since the start of the node.
    pub published: u64,
    /// Events that went to the queue for what topics refuse, since the start of the node.
    pub refused: u64,
    /// Seconds for which something may have waited to be published.
    pub lag_seconds: f64,
    /// Bytes of the server's log that have not come yet.
    pub lag_bytes: u64,
    /// Bytes of its log that the server keeps for the slot.
    pub kept_bytes: u64,
    /// What the server says of that log: `reserved`, `extended`, `unreserved` or `lost`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wal_status: Option<String>,
    /// Position in the log from where on it reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<String>,
    /// When the last transaction was committed that was published.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub committed: Option<String>,
    /// The cluster that is read, by its system identifier, and its timeline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
}

/// Where an outbox goes on.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "OutboxReset")]
pub struct ResetView {
    /// Its name.
    pub name: String,
    /// Position in the log from where on it reads.
    pub position: String,
}

impl OutboxView {
    /// An outbox as it is now.
    ///
    /// # Errors
    /// What the store says.
    pub async fn of(outbox: &Outbox) -> Result<Self> {
        let options = outbox.options();
        let (state, counts) = (outbox.state(), outbox.counts());
        let (lag_bytes, kept_bytes) = outbox.lag_bytes();
        let kept = outbox.kept().await?.map(|(kept, _)| kept);
        let fault = match &state {
            State::Stopped(fault) => Some(fault),
            _ => None,
        };
        let at = |ms| stamp(SystemTime::UNIX_EPOCH + Duration::from_millis(ms));
        let done = kept.as_ref().and_then(|kept| kept.done);
        Ok(Self {
            name: options.name.to_string(),
            database: options.database.to_string(),
            slot: options.slot.clone(),
            publication: options.publication.clone(),
            state: state.word().to_owned(),
            detail: state.detail(),
            fault: fault.map(|fault| fault.word().to_owned()),
            help: fault.map(|fault| fault.help().replace("NAME", options.name.as_str())),
            published: counts.published,
            refused: counts.refused,
            lag_seconds: outbox.lag().as_secs_f64(),
            lag_bytes,
            kept_bytes,
            wal_status: Some(outbox.wal_status()).filter(|status| !status.is_empty()),
            position: kept.as_ref().map(|kept| kept.end().to_string()),
            committed: done.map(|done| at(committed_ms(&done))),
            server: kept.map(|kept| format!("{} timeline {}", kept.system, kept.timeline)),
        })
    }
}
