//! What a queue can be told.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use weft_kernel::Result;
use weft_ledger::Durability;

use super::{Dedupe, MESSAGE_BYTES_MAX, StoredDurability, verdict};
use crate::{name::Key, retry::Backoff};

/// What becomes of the later messages of a key once one of them is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// They wait while it is retried, and go on when it is dead.
    #[default]
    Block,
    /// They wait while it is retried, and follow it to the dead letters until the key is redriven.
    Park,
}

/// In which order messages are handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// As they came; one that is retried is overtaken.
    #[default]
    None,
    /// Those of one key strictly one after the other, also under retry.
    Key {
        /// What becomes of the key once one of its messages is given up.
        on_failure: OnFailure,
    },
}

/// What a full queue does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Overflow {
    /// Refuses the publisher.
    #[default]
    Refuse,
    /// Gives up its oldest message that nobody holds.
    DropOldest {
        /// As a dead letter; else it is only counted.
        dead_letter: bool,
    },
}

/// How much a queue holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueueLimit {
    /// Messages.
    pub messages: Option<u64>,
    /// Bytes of keys, heads and bodies.
    pub bytes: Option<u64>,
    /// What happens beyond.
    pub overflow: Overflow,
}

/// Where messages go that are given up.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeadLetter {
    /// To the queue `{name}.dead`, which is made when it is needed and keeps them for 14 days.
    #[default]
    Queue,
    /// To this queue of the same space, which is made when it is needed like `{name}.dead`.
    To(String),
    /// Where [`DeadLetterRoute`](crate::DeadLetterRoute) says; the text is handed to it.
    Hook(String),
    /// Nowhere: they are dropped and counted.
    None,
}

/// What a queue can be told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueueOptions {
    /// The engine that keeps it, by name; `None` for the embedded one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// When a publish is acknowledged (fsync). With `memory` and [`QueueOptions::transient`] unset the
    /// messages are still written.
    #[serde(with = "StoredDurability")]
    pub durability: Durability,
    /// Lives in memory alone: definition and messages are gone with the process.
    pub transient: bool,
    /// How long a delivery may take (30 s).
    pub lease: Duration,
    /// After so many failures a message is given up (10); `None` for never.
    pub failures_max: Option<u32>,
    /// How long a failed message waits (1 s, doubling up to 10 min, by a fifth more or less).
    pub retry: Backoff,
    /// In which order messages are handed out.
    pub order: Order,
    /// Hands out messages of higher priority first.
    pub priorities: bool,
    /// How long a message waits at most; its own time to live, if shorter, wins.
    pub message_ttl: Option<Duration>,
    /// Makes a dead letter of what expires; else it is only counted.
    pub expired_to_dead_letter: bool,
    /// Is deleted when nobody has used it for so long.
    pub expires: Option<Duration>,
    /// How much it holds.
    pub limit: QueueLimit,
    /// One consumer at a time.
    pub single_active: bool,
    /// Belongs to one connection and goes with it; the number is the connection's.
    #[serde(skip)]
    pub exclusive: Option<u64>,
    /// Is deleted when its last consumer leaves.
    pub auto_delete: bool,
    /// Where messages go that are given up.
    pub dead_letter: DeadLetter,
    /// Which messages are known again; `None` for none.
    pub dedupe: Option<Dedupe>,
    /// The largest message, head and body together, in bytes (1 MiB).
    pub message_bytes_max: u64,
    /// What a front-end wants to find again about the queue; up to 64 KiB.
    pub annotation: String,
}

impl Default for QueueOptions {
    fn default() -> Self {
        Self {
            engine: None,
            durability: Durability::Fsync,
            transient: false,
            lease: Duration::from_secs(30),
            failures_max: Some(10),
            retry: Backoff::default(),
            order: Order::None,
            priorities: false,
            message_ttl: None,
            expired_to_dead_letter: false,
            expires: None,
            limit: QueueLimit::default(),
            single_active: false,
            exclusive: None,
            auto_delete: false,
            dead_letter: DeadLetter::Queue,
            dedupe: None,
            message_bytes_max: MESSAGE_BYTES_MAX,
            annotation: String::new(),
        }
    }
}

impl QueueOptions {
    /// Checks them.
    ///
    /// # Errors
    /// With every fault at once.
    pub fn check(&self) -> Result<()> {
        let mut faults = Vec::new();
        check_lease(self.lease, &mut faults);
        self.retry.faults(&mut faults);
        if self.failures_max == Some(0) {
            faults.push("failures_max: a message fails at least once before it is given up".into());
        }
        if self.message_bytes_max == 0 {
            faults.push("message_bytes_max: a message has at least one byte".into());
        }
        if self.expires.is_some_and(|span| span.is_zero()) {
            faults.push("expires: a queue that is gone at once takes nothing".into());
        }
        if self.limit.overflow != Overflow::Refuse
            && self.limit.messages.is_none()
            && self.limit.bytes.is_none()
        {
            faults.push("limit: overflow says what a limit does, and there is none".into());
        }
        let dead_letters = self.expired_to_dead_letter
            || self.limit.overflow == (Overflow::DropOldest { dead_letter: true });
        if self.dead_letter == DeadLetter::None && dead_letters {
            faults.push("dead_letter: expired or overflowing messages cannot become dead letters without one".into());
        }
        if self.priorities && self.order != Order::None {
            faults.push("order: messages go by key or by priority, not both".into());
        }
        if self.exclusive.is_some() && !self.transient {
            faults.push("exclusive: a queue that goes with its connection is transient".into());
        }
        check_dead_letter(&self.dead_letter, &mut faults);
        if self.annotation.len() > 64 * 1024 {
            faults.push("annotation: at most 64 KiB".into());
        }
        if let Some(dedupe) = &self.dedupe {
            dedupe.faults(&mut faults);
        }
        verdict(faults)
    }
}

pub(super) fn check_dead_letter(dead_letter: &DeadLetter, faults: &mut Vec<String>) {
    if let DeadLetter::To(name) = dead_letter
        && Key::plain(name).is_err()
    {
        faults.push(format!("dead_letter: `{name}` is not the name of a queue"));
    }
}

pub(super) fn check_lease(lease: Duration, faults: &mut Vec<String>) {
    if lease < Duration::from_millis(10) || lease > Duration::from_secs(86_400 * 366) {
        faults.push("lease: from 10 ms to a year".into());
    }
}
