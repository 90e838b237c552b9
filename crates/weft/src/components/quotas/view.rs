//! What is shown of quotas.

use std::time::{Duration, SystemTime};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weft_gateway::quota::{Book, Quota, account::Account};

use crate::node::stamp;

/// A quota.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Quota")]
pub struct QuotaView {
    /// Its name.
    pub name: String,
    /// Units of a period.
    pub limit: u64,
    /// The period: `day`, `week` or `month`.
    pub per: String,
    /// Time zone of the periods.
    pub time_zone: String,
    /// What requests are told apart by.
    pub by: Vec<String>,
    /// Whether it refuses nothing.
    pub shadow: bool,
    /// Keys that have used something in the period, or have a limit of their own.
    pub keys: usize,
    /// Units that were granted since the start of the node.
    pub granted: u64,
    /// Requests that it had not enough left for since the start of the node.
    pub refused: u64,
}

/// What a key has used of a quota.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "QuotaKey")]
pub struct KeyView {
    /// The key.
    pub key: String,
    /// Units that were used in the period.
    pub used: u64,
    /// Units that are left.
    pub left: u64,
    /// Units that may be used in a period.
    pub limit: u64,
    /// Whether that is a limit of its own.
    pub own_limit: bool,
    /// Units that it was given beyond its limit, in this period.
    pub extra: u64,
    /// The beginning of the period.
    pub since: String,
    /// The end of the period.
    pub until: String,
}

/// Keys of a quota.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "QuotaKeys")]
pub struct KeysView {
    /// The keys, in their order.
    pub keys: Vec<KeyView>,
    /// What to go on after, if there are more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl QuotaView {
    /// A quota as it is now.
    pub fn of(book: &Book, quota: &Quota) -> Self {
        let (granted, refused) = book.counts();
        Self {
            name: quota.name.to_string(),
            limit: quota.limit,
            per: quota.calendar.every.word().into(),
            time_zone: quota.calendar.zone.iana_name().unwrap_or("UTC").into(),
            by: quota.by.iter().map(ToString::to_string).collect(),
            shadow: quota.shadow,
            keys: book.keys(),
            granted,
            refused,
        }
    }
}

impl KeyView {
    /// An account as it is now.
    pub fn of(key: &str, account: &Account, quota: &Quota) -> Self {
        let terms = quota.terms();
        Self {
            key: key.into(),
            used: account.used,
            left: account.left(&terms),
            limit: account.limit.unwrap_or(quota.limit),
            own_limit: account.limit.is_some(),
            extra: account.extra,
            since: time(account.period.start),
            until: time(account.period.end),
        }
    }
}

/// A time of the wall clock, in milliseconds since 1970, as RFC 3339 has it.
pub fn time(ms: u64) -> String {
    stamp(SystemTime::UNIX_EPOCH + Duration::from_millis(ms))
}
