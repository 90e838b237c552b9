//! Capabilities: what engines differ in, whether one has it, and what asks for it.
//!
//! Each option of a queue, topic or subscription and each operation that not every engine has is one row.
//! What asks for a capability that is missing is refused: options when they are declared or when a
//! configuration is checked ([`Capabilities::lacks_of_queue`] and its kin), operations when they are
//! asked for ([`Capabilities::need`]). Nothing that was asked for is passed over.

use weft_kernel::{Error, Reason, Result};

use crate::{
    consume::ConsumerOptions,
    name::Pattern,
    options::{
        DeadLetter, OnFailure, Order, Overflow, QueueOptions, Retention, Start,
        SubscriptionOptions, SubscriptionTarget, TopicOptions,
    },
    publish::Publish,
};
use weft_ledger::Durability;

/// Whether an engine has a capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Support {
    /// The engine does it.
    Native,
    /// The driver makes it up from what the engine does.
    Emulated,
    /// It cannot be had.
    Missing,
}

impl Support {
    /// The stable word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Emulated => "emulated",
            Self::Missing => "missing",
        }
    }
}

macro_rules! capabilities {
    ($($(#[doc = $doc:literal])+ $name:ident = $word:literal;)+) => {
        /// Something that engines differ in.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Capability { $($(#[doc = $doc])+ $name,)+ }

        impl Capability {
            /// Every capability, for tables.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The stable word.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)+ }
            }

            /// What it means, in one sentence.
            pub const fn about(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+),)+ }
            }
        }
    };
}

capabilities! {
    /// Several consumers share the messages of one queue or subscription.
    CompetingConsumers = "competing_consumers";
    /// A message that failed waits before it is handed out again, in place.
    DelayedRetry = "delayed_retry";
    /// A message is given up after a number of failures.
    FailureLimit = "failure_limit";
    /// Queues, subscriptions and consumers say how long a delivery may take.
    LeaseTime = "lease_time";
    /// A consumer can ask for more time for a delivery.
    LeaseRenewal = "lease_renewal";
    /// What is given up becomes a dead letter, in a queue of its own.
    DeadLetters = "dead_letters";
    /// Dead letters tell why and what was tried.
    DeadLetterReason = "dead_letter_reason";
    /// Dead letters are sent back to where they came from.
    Redrive = "redrive";
    /// A message can be published for a later time, however far.
    Schedules = "schedules";
    /// Named schedules publish to queues and topics, once or again and again.
    NamedSchedules = "named_schedules";
    /// Messages of higher priority go first.
    Priorities = "priorities";
    /// Messages of one key go in order, also under retry, while others go side by side.
    KeyOrder = "key_order";
    /// Messages of a key follow one that became a dead letter.
    KeyParking = "key_parking";
    /// One consumer at a time gets messages, and the next takes over when it is gone.
    SingleActive = "single_active";
    /// A message that waits too long expires.
    TimeToLive = "time_to_live";
    /// A queue or subscription that nobody uses is deleted.
    Expiry = "expiry";
    /// A queue holds only so many messages or bytes, and refuses more.
    QueueLimit = "queue_limit";
    /// A queue that is full gives up its oldest message.
    DropOldest = "drop_oldest";
    /// The messages of a queue are looked at without being taken.
    Peek = "peek";
    /// The waiting messages of a queue are dropped at once.
    Purge = "purge";
    /// A topic keeps messages for a time, or up to a size.
    Retention = "retention";
    /// A topic keeps what a durable subscription has not settled.
    KeepUnread = "keep_unread";
    /// A topic keeps the last message of each key.
    Compaction = "compaction";
    /// A message is published only if it gets the position that its publisher expects.
    ExpectedPosition = "expected_position";
    /// A topic is read and followed without a subscription.
    Browse = "browse";
    /// A subscription begins with what is there already, or is moved.
    Replay = "replay";
    /// A subscription is moved to a time.
    ReplayByTime = "replay_by_time";
    /// A subscription passes over messages.
    Skip = "skip";
    /// A subscription hands out nothing until it is resumed.
    Pause = "pause";
    /// A subscription reads all topics that a pattern takes.
    TopicPatterns = "topic_patterns";
    /// A subscription moves its messages to a queue.
    Forwarding = "forwarding";
    /// A message that is published twice is stored once.
    Dedupe = "dedupe";
    /// Messages are filtered before they are sent to a subscription.
    Filters = "filters";
    /// A publisher asks for a stricter durability than the queue or topic has.
    DurabilityLevels = "durability_levels";
    /// A queue belongs to one connection or lives in memory alone, and consumers are exclusive or go first.
    ConnectionQueues = "connection_queues";
    /// AMQP 0-9-1 reaches its queues.
    Amqp = "amqp";
    /// Messages for several queues and topics, and settlements, are one transaction.
    Transactions = "transactions";
    /// An acknowledged publish survives the loss of power.
    DurableConfirms = "durable_confirms";
}

/// What an engine can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities(Box<[Support]>);

/// An option that asks for a capability which is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lack {
    /// The option, as [`QueueOptions`], [`TopicOptions`] or [`SubscriptionOptions`] has it.
    pub option: &'static str,
    /// The capability.
    pub capability: Capability,
}

impl Lack {
    /// The cause, for an engine of this name.
    pub fn cause(&self, engine: &str) -> String {
        missing(engine, self.capability)
    }
}

/// That a capability is missing: its sentence without capital and full stop, as part of one.
pub(super) fn missing(engine: &str, capability: Capability) -> String {
    let about = capability.about().trim().trim_end_matches('.');
    let mut letters = about.chars();
    let first = letters.next().map(|first| first.to_ascii_lowercase());
    let about: String = first.into_iter().chain(letters).collect();
    format!("engine `{engine}` does not have `{}` ({about})", capability.word())
}

/// All lacks as one error.
pub(super) fn verdict(engine: &str, lacks: &[Lack]) -> Result<()> {
    if lacks.is_empty() {
        return Ok(());
    }
    let each = lacks.iter().map(|lack| format!("{}: {}", lack.option, lack.cause(engine)));
    let say = each.collect::<Vec<_>>().join("; ");
    Err(Error::new(Reason::NotSupported, say))
}

impl Capabilities {
    /// What `of` says of each capability.
    pub fn new(of: impl Fn(Capability) -> Support) -> Self {
        Self(Capability::ALL.iter().map(|capability| of(*capability)).collect())
    }

    /// Whether it has a capability.
    pub fn get(&self, capability: Capability) -> Support {
        self.0.get(capability as usize).copied().unwrap_or(Support::Missing)
    }

    /// Whether it has a capability, by itself or by its driver.
    pub fn has(&self, capability: Capability) -> bool {
        self.get(capability) != Support::Missing
    }

    /// All of them, in the order of [`Capability::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (Capability, Support)> + '_ {
        Capability::ALL.iter().copied().zip(self.0.iter().copied())
    }

    /// Refuses an operation that needs what is missing.
    ///
    /// # Errors
    /// [`Reason::NotSupported`], with the engine and the capability.
    pub fn need(&self, engine: &str, capability: Capability) -> Result<()> {
        if self.has(capability) {
            return Ok(());
        }
        Err(Error::new(Reason::NotSupported, missing(engine, capability)))
    }

    /// The options of a queue that ask for what is missing.
    pub fn lacks_of_queue(&self, options: &QueueOptions) -> Vec<Lack> {
        use Capability::{
            ConnectionQueues, Dedupe, DropOldest, DurableConfirms, Expiry, LeaseTime, Priorities,
            QueueLimit, SingleActive, TimeToLive,
        };
        let limit = options.limit;
        let is_limited = limit.messages.is_some() || limit.bytes.is_some();
        let drops = limit.overflow != Overflow::Refuse;
        let plain = QueueOptions::default();
        let hook = matches!(options.dead_letter, DeadLetter::Hook(_));
        let of_connection = options.transient || options.exclusive.is_some() || hook;
        let mut asked = vec![
            ("durability", options.durability != Durability::Memory, DurableConfirms),
            ("lease", options.lease != plain.lease, LeaseTime),
            ("priorities", options.priorities, Priorities),
            ("message_ttl", options.message_ttl.is_some(), TimeToLive),
            ("expires", options.expires.is_some() || options.auto_delete, Expiry),
            ("limit", is_limited && !drops, QueueLimit),
            ("limit", is_limited && drops, DropOldest),
            ("single_active", options.single_active, SingleActive),
            ("dedupe", options.dedupe.is_some(), Dedupe),
            ("transient", of_connection, ConnectionQueues),
        ];
        asked.extend(failures(options.failures_max, options.retry.first.is_zero()));
        asked.extend(order(options.order, &options.dead_letter));
        self.lacks(asked)
    }

    /// The options of a topic that ask for what is missing.
    pub fn lacks_of_topic(&self, options: &TopicOptions) -> Vec<Lack> {
        use Capability::{Compaction, Dedupe, DurableConfirms, KeepUnread, Retention as Kept};
        let Retention { age, bytes, keep_unread, bytes_max } = options.retention;
        self.lacks(vec![
            ("durability", options.durability != Durability::Memory, DurableConfirms),
            ("retention", age.is_some() || bytes.is_some() || bytes_max.is_some(), Kept),
            ("keep_unread", keep_unread, KeepUnread),
            ("dedupe", options.dedupe.is_some(), Dedupe),
            ("compact", options.compact, Compaction),
        ])
    }

    /// The options of a subscription of `topic` that ask for what is missing.
    pub fn lacks_of_subscription(&self, topic: &str, options: &SubscriptionOptions) -> Vec<Lack> {
        use Capability::{
            Expiry, Filters, Forwarding, LeaseTime, Pause, Replay, ReplayByTime, SingleActive,
            TopicPatterns,
        };
        let plain = SubscriptionOptions::default();
        let replays = matches!(options.start, Start::First | Start::Last | Start::Position(_));
        let forwards = matches!(options.target, SubscriptionTarget::Queue(_));
        let mut asked = vec![
            ("topic", Pattern::is_one(topic), TopicPatterns),
            ("ephemeral", options.ephemeral.is_some(), Expiry),
            ("start", replays, Replay),
            ("start", matches!(options.start, Start::Time(_)), ReplayByTime),
            ("filter", options.filter != plain.filter, Filters),
            ("target", forwards, Forwarding),
            ("lease", options.lease != plain.lease, LeaseTime),
            ("single_active", options.single_active, SingleActive),
            ("paused", options.paused, Pause),
        ];
        asked.extend(failures(options.failures_max, options.retry.first.is_zero()));
        asked.extend(order(options.order, &options.dead_letter));
        self.lacks(asked)
    }

    /// Refuses what a publisher asks for and is missing.
    ///
    /// # Errors
    /// [`Reason::NotSupported`].
    pub fn check_publish(
        &self,
        engine: &str,
        publish: &Publish,
        expect: Option<u64>,
    ) -> Result<()> {
        use Capability::{DurabilityLevels, ExpectedPosition, Priorities, Schedules, TimeToLive};
        let asked = [
            ("due_ms", publish.due_ms != 0, Schedules),
            ("ttl", publish.ttl.is_some(), TimeToLive),
            ("priority", publish.priority != 0, Priorities),
            ("durability", publish.durability.is_some(), DurabilityLevels),
            ("expect", expect.is_some(), ExpectedPosition),
        ];
        verdict(engine, &self.lacks(asked))
    }

    /// Refuses what a consumer asks for and is missing.
    ///
    /// # Errors
    /// [`Reason::NotSupported`].
    pub fn check_consumer(&self, engine: &str, options: &ConsumerOptions) -> Result<()> {
        use Capability::{ConnectionQueues, LeaseTime};
        let asked = [
            ("lease", options.lease.is_some(), LeaseTime),
            ("exclusive", options.exclusive, ConnectionQueues),
            ("priority", options.priority != 0, ConnectionQueues),
        ];
        verdict(engine, &self.lacks(asked))
    }

    fn lacks(
        &self,
        asked: impl IntoIterator<Item = (&'static str, bool, Capability)>,
    ) -> Vec<Lack> {
        asked
            .into_iter()
            .filter(|(_, asked, capability)| *asked && !self.has(*capability))
            .map(|(option, _, capability)| Lack { option, capability })
            .collect()
    }
}

/// What the end of a delivery that failed asks for.
fn failures(failures_max: Option<u32>, at_once: bool) -> [(&'static str, bool, Capability); 2] {
    [
        ("failures_max", failures_max.is_some(), Capability::FailureLimit),
        ("retry", !at_once, Capability::DelayedRetry),
    ]
}

/// What the order of deliveries and dead letters asks for.
fn order(order: Order, dead_letter: &DeadLetter) -> [(&'static str, bool, Capability); 3] {
    let parks = order == Order::Key { on_failure: OnFailure::Park };
    [
        ("order", order != Order::None && !parks, Capability::KeyOrder),
        ("order", parks, Capability::KeyParking),
        ("dead_letter", *dead_letter != DeadLetter::None, Capability::DeadLetters),
    ]
}

#[cfg(test)]
mod tests;
