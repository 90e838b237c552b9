//! Topics, queues, subscriptions, settlement, dead letters and schedules, on a store that keeps them.
//!
//! A queue is a log of its own with the group that owns it, a subscription a group over the log of a
//! topic; all else is decided here, and kept in the store of `weft_ledger`.
//!
//! Invariants:
//! - A message that was acknowledged is in its queue or topic, or in a dead-letter queue, or was accepted,
//!   or was dropped by a rule that its owner wrote down and that is counted.
//! - A message that is given up and its dead letter are one transaction.
//! - Everything that ends a delivery goes through one pure function, `settle::decide`.
//! - Nothing here spawns a task: [`Broker::maintain`] is a future that its owner runs.
//!
//! Deliberately absent: protocols (front-ends hold a [`Broker`]), sockets, and a second copy of what the
//! store knows.
//!
//! Reading order: [`name`], [`message`], [`options`], [`filter`], [`retry`], [`history`], [`settle`] (the
//! pure parts); [`source`], [`payload`], [`publish`], [`consume`], `settlement`, [`dead`], `maintenance`, [`schedule`],
//! [`request`], [`last`], [`inspect`], [`redrive`] (what happens); [`broker`] (what is held); [`engine`] (what
//! others may stand in for).

pub mod broker;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod consume;
pub mod counters;
pub mod cron;
pub mod dead;
mod dead_letters_waiting;
mod declare;
pub mod engine;
pub mod filter;
mod forward;
pub mod history;
pub mod inspect;
pub mod last;
mod maintenance;
pub mod message;
pub mod name;
pub mod options;
mod parked;
pub mod payload;
pub mod publish;
pub mod redrive;
pub mod report;
pub mod request;
pub mod retry;
pub mod schedule;
pub mod settle;
mod settlement;
pub mod source;
mod suspect;
mod trim;
mod varint;
pub mod watch;

pub use broker::Broker;
pub use consume::{Consumer, ConsumerOptions, Delivery, Lease, Settled, Settler};
pub use counters::Counts;
pub use dead::{DeadLetterRoute, DeadMessage};
pub use declare::{Declarations, Prepared};
pub use filter::{Compare, FilterOptions};
pub use inspect::{Browsed, Peeked, QueueView, SeekTo, State, SubscriptionView, TopicView};
pub use message::{Cause, Death, Message, MessageBuilder};
pub use name::{Key, Pattern, SubscriptionKey};
pub use options::{
    DeadLetter, Dedupe, OnFailure, Order, Overflow, PushTarget, QueueLimit, QueueOptions,
    Retention, Start, SubscriptionOptions, SubscriptionTarget, TopicOptions,
};
pub use payload::{Enforcement, PayloadCheck, PayloadSchema};
pub use publish::{Batch, BatchReceipt, Publish, PublishTarget, Published, Refusal, Submitted};
pub use redrive::{RedriveOptions, Redriven};
pub use report::Report;
pub use retry::Backoff;
pub use schedule::{DeclaredSchedule, Missed, Schedule, ScheduleTarget, When};
pub use settle::Verdict;
pub use source::{MessageSource, Queue, Subscription, Topic};
pub use weft_ledger::{Durability, Seen};
