//! What a topic can be told.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use weft_kernel::Result;
use weft_ledger::Durability;

use super::{MESSAGE_BYTES_MAX, StoredDurability, verdict};
use crate::payload::PayloadSchema;

/// How long messages stay on a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Older ones go (7 d).
    pub age: Option<Duration>,
    /// The oldest go while there are more bytes.
    pub bytes: Option<u64>,
    /// Nothing goes that a durable subscription has not settled.
    pub keep_unread: bool,
    /// The hard bound on bytes, unread or not.
    pub bytes_max: Option<u64>,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            age: Some(Duration::from_secs(7 * 86_400)),
            bytes: None,
            keep_unread: false,
            bytes_max: None,
        }
    }
}

/// How long ids of messages are remembered, so that one that is published twice is stored once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dedupe {
    /// At least so long (10 min).
    pub time: Duration,
    /// At least so many (1,000,000).
    pub ids: u32,
}

impl Default for Dedupe {
    fn default() -> Self {
        Self { time: Duration::from_secs(600), ids: 1_000_000 }
    }
}

impl Dedupe {
    pub(crate) fn faults(&self, faults: &mut Vec<String>) {
        if self.ids == 0 || self.time.is_zero() {
            faults.push("dedupe: a window of nothing: leave dedupe out instead".into());
        }
        if self.ids > 100_000_000 {
            faults.push("dedupe: at most 100,000,000 ids".into());
        }
    }
}

/// What a topic can be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TopicOptions {
    /// The engine that keeps it, by name; `None` for the embedded one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// When a publish is acknowledged (fsync).
    #[serde(with = "StoredDurability")]
    pub durability: Durability,
    /// How long messages stay (7 d).
    pub retention: Retention,
    /// Which messages are known again (10 min, a million ids); `None` for none.
    pub dedupe: Option<Dedupe>,
    /// Keeps only the last message of each key.
    pub compact: bool,
    /// The largest message, head and body together, in bytes (1 MiB).
    pub message_bytes_max: u64,
    /// The schema that messages are held to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<PayloadSchema>,
}

impl Default for TopicOptions {
    fn default() -> Self {
        Self {
            engine: None,
            durability: Durability::Fsync,
            retention: Retention::default(),
            dedupe: Some(Dedupe::default()),
            compact: false,
            message_bytes_max: MESSAGE_BYTES_MAX,
            schema: None,
        }
    }
}

impl TopicOptions {
    /// Checks them.
    ///
    /// # Errors
    /// With every fault at once.
    pub fn check(&self) -> Result<()> {
        let mut faults = Vec::new();
        if self.message_bytes_max == 0 {
            faults.push("message_bytes_max: a message has at least one byte".to_owned());
        }
        if let Some(dedupe) = &self.dedupe {
            dedupe.faults(&mut faults);
        }
        if self.retention.age.is_some_and(|age| age.is_zero()) {
            faults.push("retention: an age of nothing keeps nothing".into());
        }
        if let (Some(bytes), Some(max)) = (self.retention.bytes, self.retention.bytes_max)
            && bytes > max
        {
            faults.push("retention: `size` is above `size_max`".into());
        }
        verdict(faults)
    }
}
