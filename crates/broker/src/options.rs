//! What a topic, a queue and a subscription can be told, with the defaults and what is refused.
//!
//! Checking reports every fault at once. The structs are stored as JSON in the broker's map of
//! definitions; a field that is missing there has its default.

mod queue;
mod subscription;
mod topic;

use serde::{Deserialize, Serialize};
use weft_kernel::{Error, Reason, Result};
use weft_ledger::Durability;

pub use queue::{DeadLetter, OnFailure, Order, Overflow, QueueLimit, QueueOptions};
pub use subscription::{PushTarget, Start, SubscriptionOptions, SubscriptionTarget};
pub use topic::{Dedupe, Retention, TopicOptions};

/// The largest message unless told otherwise (1 MiB), head and body together.
pub const MESSAGE_BYTES_MAX: u64 = 1 << 20;

/// How [`Durability`] is stored.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Durability", rename_all = "lowercase")]
enum StoredDurability {
    Memory,
    Os,
    Fsync,
}

/// All faults as one error.
fn verdict(faults: Vec<String>) -> Result<()> {
    if faults.is_empty() {
        return Ok(());
    }
    Err(Error::new(Reason::MalformedRequest, faults.join("; ")))
}

#[cfg(test)]
mod tests;
