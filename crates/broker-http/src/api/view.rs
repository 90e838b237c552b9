//! Answers as types: what is shown of things that are declared, and the schemas of what is written by hand.
//!
//! Deliveries and messages are written straight into the answer, as they are many; their types stand here
//! for their schemas alone, and the tests hold what is written to them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::settings::{
    queue::QueueSettings,
    schedule::{Destination, ScheduleSettings},
    subscription::SubscriptionSettings,
    topic::TopicSettings,
};

/// Every topic.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "it is written member by member")]
pub(super) struct Topics {
    /// The topics.
    topics: Vec<TopicView>,
}

/// A topic, and what it holds.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Topic")]
pub(super) struct TopicView {
    /// Its name.
    pub(super) name: String,
    /// The engine that keeps it.
    pub(super) engine: String,
    /// Why its engine tells no numbers now, in a list; those beside are 0 then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) unavailable: Option<String>,
    /// Its settings.
    pub(super) options: TopicSettings,
    /// The position of its first message.
    pub(super) first: u64,
    /// The position of the next message.
    pub(super) end: u64,
    /// How many messages it holds.
    pub(super) messages: u64,
    /// How many bytes these are.
    pub(super) bytes: u64,
    /// When the oldest was published (RFC 3339).
    pub(super) oldest: Option<String>,
    /// When the newest was published.
    pub(super) newest: Option<String>,
    /// Messages that were published.
    pub(super) published: u64,
    /// Messages that were known already.
    pub(super) duplicates: u64,
    /// The subscriptions that read it.
    pub(super) subscriptions: Vec<String>,
}

/// Every queue.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "it is written member by member")]
pub(super) struct Queues {
    /// The queues.
    queues: Vec<QueueView>,
}

/// A queue, and what it holds.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Queue")]
pub(super) struct QueueView {
    /// Its name.
    pub(super) name: String,
    /// The engine that keeps it.
    pub(super) engine: String,
    /// Why its engine tells no numbers now, in a list; those beside are 0 then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) unavailable: Option<String>,
    /// Its settings.
    pub(super) options: QueueSettings,
    /// Messages that can be handed out.
    pub(super) ready: u64,
    /// Messages under a lease.
    pub(super) leased: u64,
    /// Messages that wait for their time.
    pub(super) waiting: u64,
    /// How many bytes all of them are.
    pub(super) bytes: u64,
    /// When the oldest was published (RFC 3339).
    pub(super) oldest: Option<String>,
    /// How many consumers there are.
    pub(super) consumers: u32,
    /// Dead letters that could not be moved yet.
    pub(super) dead_letters_waiting: u64,
    /// Messages whose bytes are damaged.
    pub(super) lost: u64,
    /// Keys that wait for a message that failed.
    pub(super) parked_keys: usize,
    /// Messages that were published.
    pub(super) published: u64,
    /// Messages that were known already.
    pub(super) duplicates: u64,
    /// Hand-outs.
    pub(super) delivered: u64,
    /// Deliveries that were accepted.
    pub(super) accepted: u64,
    /// Deliveries that failed.
    pub(super) failed: u64,
    /// Deliveries that were rejected.
    pub(super) rejected: u64,
    /// Messages that became dead letters.
    pub(super) dead_lettered: u64,
    /// Messages that expired.
    pub(super) expired: u64,
    /// Messages that were given up.
    pub(super) dropped: u64,
}

/// Every subscription.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "it is written member by member")]
pub(super) struct Subscriptions {
    /// The subscriptions.
    subscriptions: Vec<SubscriptionView>,
}

/// A subscription, and how it stands.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Subscription")]
pub(super) struct SubscriptionView {
    /// Its name.
    pub(super) name: String,
    /// The topic that it reads, or a pattern of topics.
    pub(super) topic: String,
    /// The engine that keeps it.
    pub(super) engine: String,
    /// Why its engine tells no numbers now, in a list; those beside are 0 then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) unavailable: Option<String>,
    /// Its settings.
    pub(super) options: SubscriptionSettings,
    /// Whether it hands out: `active` or `paused`.
    pub(super) state: &'static str,
    /// Messages that can be handed out.
    pub(super) ready: u64,
    /// Messages under a lease.
    pub(super) leased: u64,
    /// Messages that wait for their time.
    pub(super) waiting: u64,
    /// Messages that are not done yet.
    pub(super) lag_messages: u64,
    /// Age of the oldest of them, in seconds.
    pub(super) lag_seconds: f64,
    /// The position up to which all is done.
    pub(super) cursor: u64,
    /// How many consumers there are.
    pub(super) consumers: u32,
    /// How many topics it reads.
    pub(super) topics: usize,
    /// Dead letters that could not be moved yet.
    pub(super) dead_letters_waiting: u64,
    /// Messages whose bytes are damaged.
    pub(super) lost: u64,
    /// Keys that wait for a message that failed.
    pub(super) parked_keys: usize,
    /// Hand-outs.
    pub(super) delivered: u64,
    /// Deliveries that were accepted.
    pub(super) accepted: u64,
    /// Deliveries that failed.
    pub(super) failed: u64,
    /// Messages that became dead letters.
    pub(super) dead_lettered: u64,
    /// Messages that the filter passed over.
    pub(super) filtered: u64,
    /// Messages on which the filter failed.
    pub(super) filter_failed: u64,
}

/// What is published.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "it is written by hand")]
pub(super) struct Published {
    /// The position of the first message that is new.
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<u64>,
    /// The position of the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<u64>,
    /// How many messages the request held.
    count: u64,
    /// Those that were known already: the index in the request, and the position.
    duplicates: Vec<[u64; 2]>,
    /// How many subscriptions the topic has.
    #[serde(skip_serializing_if = "Option::is_none")]
    subscriptions: Option<u64>,
    /// The level at which they are kept: `fsync`, `os` or `memory`.
    durability: String,
}

/// A message, as it is kept.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "it is written by hand")]
pub(super) struct Stored {
    /// Its position.
    position: u64,
    /// When it was published (RFC 3339).
    time: String,
    /// Its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// Its headers.
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<BTreeMap<String, String>>,
    /// The event, as JSON of CloudEvents; null if it cannot be shown as one.
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<Map<String, Value>>,
    /// Why it cannot be shown as an event.
    #[serde(skip_serializing_if = "Option::is_none")]
    unreadable: Option<String>,
    /// Whether its bytes are damaged.
    #[serde(skip_serializing_if = "Option::is_none")]
    damaged: Option<bool>,
}

/// Deliveries.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "it is written by hand")]
pub(super) struct Deliveries {
    /// The deliveries.
    deliveries: Vec<DeliveryView>,
}

/// A message under a lease.
#[derive(JsonSchema)]
#[schemars(rename = "Delivery")]
#[allow(dead_code, reason = "it is written by hand")]
struct DeliveryView {
    /// What it is settled by.
    id: String,
    /// The topic that it is from, of a subscription.
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    /// How often it was handed out.
    handouts: u64,
    /// How often it failed.
    failures: u64,
    /// When the lease is over (RFC 3339).
    lease_until: String,
    /// The message.
    #[serde(flatten)]
    stored: Stored,
}

/// A page of a topic.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "it is written by hand")]
pub(super) struct Browsed {
    /// The messages.
    messages: Vec<Stored>,
    /// The position to go on from.
    next: u64,
    /// What is no longer kept where the page begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    gap: Option<Gap>,
}

/// Messages of a topic that are no longer kept.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "it is written by hand")]
struct Gap {
    /// The position of the first of them.
    from: u64,
    /// The position where what is kept begins.
    first: u64,
}

/// A page of a queue.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "it is written by hand")]
pub(super) struct Looked {
    /// The messages.
    messages: Vec<MessageView>,
    /// The position to go on from.
    next: u64,
}

/// A message, as it stands in a queue.
#[derive(JsonSchema)]
#[schemars(rename = "Message")]
#[allow(dead_code, reason = "it is written by hand")]
pub(super) struct MessageView {
    /// How it stands: `ready`, `blocked`, `leased` or `waiting`.
    state: String,
    /// When it is due (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    due: Option<String>,
    /// When it expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
    /// How often it was handed out.
    handouts: u64,
    /// How often it failed.
    failures: u64,
    /// Its priority.
    priority: u64,
    /// The message.
    #[serde(flatten)]
    stored: Stored,
    /// What has happened to a dead letter.
    #[serde(skip_serializing_if = "Option::is_none")]
    dead: Option<Dead>,
    /// Each attempt that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<Vec<Attempt>>,
}

/// What has happened to a dead letter.
#[derive(Serialize, JsonSchema)]
pub(super) struct Dead {
    /// What it died of.
    pub(super) cause: &'static str,
    /// What was said of it.
    pub(super) reason: String,
    /// Where it came from.
    pub(super) from: String,
    /// Its position there.
    pub(super) position: u64,
    /// When it was published there (RFC 3339).
    pub(super) published: String,
    /// When it died.
    pub(super) died: String,
    /// How often it failed.
    pub(super) failures: u64,
    /// How often it was handed out.
    pub(super) handouts: u64,
}

/// An attempt that failed.
#[derive(Serialize, JsonSchema)]
pub(super) struct Attempt {
    /// When it ended (RFC 3339).
    pub(super) time: String,
    /// How it ended.
    pub(super) ended: &'static str,
    /// What was said of it.
    pub(super) reason: String,
}

/// How many messages were dropped.
#[derive(Serialize, JsonSchema)]
pub(super) struct Purged {
    /// How many.
    pub(super) purged: u64,
}

/// What became of dead letters.
#[derive(Serialize, JsonSchema)]
pub(super) struct Redriven {
    /// How many were sent on, or would be.
    pub(super) redriven: u64,
    /// How many are left.
    pub(super) left: u64,
    /// Whether it was only tried.
    pub(super) dry_run: bool,
}

/// What became of settlements.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "it is written by hand")]
pub(super) struct Settled {
    /// Each, in the order in which they were asked for.
    settled: Vec<SettledOne>,
}

/// What became of a settlement.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "it is written by hand")]
struct SettledOne {
    /// The delivery.
    id: String,
    /// Whether it is settled.
    ok: bool,
    /// Reason, if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The same in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// Schedules.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "it is written by hand")]
pub(super) struct Schedules {
    /// The schedules.
    schedules: Vec<ScheduleView>,
    /// The id to go on after, if there are more.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// The engines.
#[derive(Serialize, JsonSchema)]
pub(super) struct Engines {
    /// Their names.
    pub(super) engines: Vec<String>,
}

/// An engine.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Engine")]
pub(super) struct EngineView {
    /// Its name.
    pub(super) name: String,
    /// Each capability: `native`, `emulated` or `missing`.
    pub(super) capabilities: BTreeMap<String, String>,
}

/// A schedule.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Schedule")]
pub(super) struct ScheduleView {
    /// Its id.
    pub(super) id: String,
    /// Whether it publishes once (`message`) or again and again (`recurring`).
    pub(super) kind: &'static str,
    /// When it publishes, if once (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) at: Option<String>,
    /// The cron expression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cron: Option<String>,
    /// The time zone of the expression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) time_zone: Option<String>,
    /// What happens to times that were missed: `once` or `skip`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) missed: Option<&'static str>,
    /// The most by which a time is put off at random.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) jitter: Option<String>,
    /// Where it publishes.
    #[schemars(with = "BTreeMap<String, String>")]
    pub(super) to: Destination,
    /// When it is due next (RFC 3339).
    pub(super) next: String,
    /// When it was made.
    pub(super) made: String,
    /// How often it has published.
    pub(super) fired: u64,
    /// Who has made it: `configuration`, which alone changes and removes it, or `api`.
    pub(super) origin: &'static str,
    /// The key of what it publishes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<String>,
    /// The event that it publishes.
    pub(super) event: Value,
    /// Its settings.
    #[schemars(with = "ScheduleSettings")]
    pub(super) options: Value,
}

/// A request that is answered later.
#[derive(JsonSchema)]
#[schemars(rename = "Operation")]
#[allow(dead_code, reason = "it is written member by member")]
pub(super) struct OperationView {
    /// How it stands: `waiting`, `running`, `done` or `cancelled`.
    state: String,
    /// When it was taken (RFC 3339).
    taken: String,
    /// The status of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// The fields of the answer; one that is there several times as a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<Map<String, Value>>,
    /// The body of the answer, as JSON or as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Value>,
    /// The body of the answer, if it is neither.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}
