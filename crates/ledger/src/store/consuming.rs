//! Consuming from a group: who asks, for how much, and how records stand.

use std::time::Duration;

use bytes::Bytes;
use weft_kernel::{Result, Tick};

use super::Pending;
use crate::record::{ConsumerId, LeasedRecord};

/// How much a consumer wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseLimits {
    /// Who asks: joined, or [`ConsumerId::SYSTEM`].
    pub consumer: ConsumerId,
    /// At most so many records.
    pub records: u32,
    /// At most so many bytes of keys and payloads, but always one record if any is ready.
    pub bytes: u64,
    /// How long each may take; `None` for the group's lease.
    pub lease: Option<Duration>,
}

/// Deliveries: in hand, or on their way from the disk.
pub enum Leased<'a> {
    /// At once; empty if nothing is ready.
    Now(Vec<LeasedRecord>),
    /// Being read. Dropped before it is done, it gives back what it had leased.
    Later(Pending<'a, Result<Vec<LeasedRecord>>>),
}

impl Leased<'_> {
    /// Waits for the deliveries.
    ///
    /// # Errors
    ///
    /// As for [`Store::lease`](super::Store::lease).
    pub async fn wait(self) -> Result<Vec<LeasedRecord>> {
        match self {
            Self::Now(deliveries) => Ok(deliveries),
            Self::Later(reading) => reading.await,
        }
    }
}

/// Who wants to consume from a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupConsumer {
    /// Distinct within the group, not [`ConsumerId::SYSTEM`].
    pub id: ConsumerId,
    /// The higher the sooner it is given something.
    pub priority: i32,
    /// Wants to be alone: refused if another is there, and refuses others while it is.
    pub exclusive: bool,
}

/// What a consumer is told when it joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Whether it is handed anything now; `false` behind the active one of a single-active group.
    pub active: bool,
    /// How many consumers the group has, with it.
    pub consumers: u32,
}

/// How one record of a group stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// To be handed out when its turn comes.
    Ready,
    /// Handed out.
    Leased {
        /// To whom.
        consumer: ConsumerId,
        /// Until when, on the monotonic clock.
        until: Tick,
    },
    /// Waiting for its retry or its due time, in wall-clock milliseconds.
    Waiting {
        /// When.
        due_ms: u64,
    },
    /// Ready, behind an earlier record of its key.
    Blocked,
}

/// A record that a group has not settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exception {
    /// Its position.
    pub position: u64,
    /// How it stands.
    pub standing: Standing,
    /// How often it was handed out.
    pub handouts: u32,
    /// How often it failed.
    pub failures: u32,
    /// The note of its last retry.
    pub note: Bytes,
}
