//! What a subscription can be told.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use weft_kernel::{Name, Result};

use super::{
    DeadLetter, Order,
    queue::{check_dead_letter, check_lease},
    verdict,
};
use crate::{filter::FilterOptions, retry::Backoff};

/// Where a new subscription starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// With the oldest message.
    First,
    /// With the newest that is there.
    Last,
    /// With the next one published.
    #[default]
    Next,
    /// With this position.
    Position(u64),
    /// With the first message of this time on, in wall milliseconds.
    Time(u64),
}

/// What a subscription leads to.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SubscriptionTarget {
    /// Clients come and take.
    #[default]
    Pull,
    /// Messages are sent to a service.
    Push(PushTarget),
    /// Messages are moved to a queue of the same space.
    Queue(String),
}

/// How messages are sent to a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredPush")]
pub struct PushTarget {
    /// The service.
    pub service: String,
    /// The path that they are posted to.
    pub path: String,
    /// The most that are under way at once.
    pub concurrency: u32,
    /// The time for one.
    pub timeout: Duration,
    /// Was declared by a configuration: while none does, nothing is sent.
    pub configured: bool,
}

impl Default for PushTarget {
    fn default() -> Self {
        Self {
            service: String::new(),
            path: "/".into(),
            concurrency: 64,
            timeout: Duration::from_secs(15),
            configured: false,
        }
    }
}

impl From<&str> for PushTarget {
    fn from(service: &str) -> Self {
        Self { service: service.to_owned(), ..Self::default() }
    }
}

/// The same as it is stored. Once there was nothing but the service, and no other way to declare it than
/// by configuration.
#[derive(Deserialize)]
#[serde(untagged)]
enum StoredPush {
    Service(String),
    Whole { service: String, path: String, concurrency: u32, timeout: Duration, configured: bool },
}

impl From<StoredPush> for PushTarget {
    fn from(stored: StoredPush) -> Self {
        match stored {
            StoredPush::Service(service) => Self { service, configured: true, ..Self::default() },
            StoredPush::Whole { service, path, concurrency, timeout, configured } => {
                Self { service, path, concurrency, timeout, configured }
            }
        }
    }
}

/// What a subscription can be told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SubscriptionOptions {
    /// Is deleted when nobody has used it for so long; `None` for a durable one.
    pub ephemeral: Option<Duration>,
    /// Where it starts.
    pub start: Start,
    /// Which messages it takes; those it does not are settled unseen.
    pub filter: FilterOptions,
    /// What it leads to.
    pub target: SubscriptionTarget,
    /// How long a delivery may take (30 s).
    pub lease: Duration,
    /// After so many failures a message is given up (10); `None` for never.
    pub failures_max: Option<u32>,
    /// How long a failed message waits (1 s, doubling up to 10 min, by a fifth more or less).
    pub retry: Backoff,
    /// In which order messages are handed out.
    pub order: Order,
    /// One consumer at a time.
    pub single_active: bool,
    /// Where messages go that are given up; a hook is for queues alone.
    pub dead_letter: DeadLetter,
    /// Hands out nothing until it is resumed.
    pub paused: bool,
}

impl Default for SubscriptionOptions {
    fn default() -> Self {
        Self {
            ephemeral: None,
            start: Start::Next,
            filter: FilterOptions::default(),
            target: SubscriptionTarget::Pull,
            lease: Duration::from_secs(30),
            failures_max: Some(10),
            retry: Backoff::default(),
            order: Order::None,
            single_active: false,
            dead_letter: DeadLetter::Queue,
            paused: false,
        }
    }
}

impl SubscriptionOptions {
    /// Checks them; the filter's expression is compiled for it.
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
        check_dead_letter(&self.dead_letter, &mut faults);
        if matches!(self.dead_letter, DeadLetter::Hook(_)) {
            faults.push("dead_letter: a subscription has a queue for them, or none".into());
        }
        if self.ephemeral.is_some_and(|span| span.is_zero()) {
            faults.push("ephemeral: a subscription that is gone at once takes nothing".into());
        }
        if let SubscriptionTarget::Push(PushTarget { service, .. }) = &self.target
            && service.parse::<Name>().is_err()
        {
            faults.push(format!("target: `{service}` is not the name of a service"));
        }
        if let Err(error) = self.filter.compile() {
            faults.push(error.said().to_owned());
        }
        verdict(faults)
    }
}
