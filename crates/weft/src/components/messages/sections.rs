//! What is said about messages: topics, queues, subscriptions and schedules, whose options are those of
//! the API, and AMQP.

use weft_broker_http::settings::{
    queue::QueueSettings, schedule::ScheduleSettings, subscription::SubscriptionSettings,
    topic::TopicSettings,
};
use weft_kernel::ByteSize;

use crate::config::{
    catalogue::KeyOf,
    leaf::{Int, Many, Named, Number, Pairs},
    options::Options,
    setting::{At, Field, settings},
    text::Pattern,
};

/// Topic: a durable log of messages that many subscriptions read.
pub type Topic = Options<TopicSettings>;
/// Queue: messages that are each handled once.
pub type Queue = Options<QueueSettings>;
/// Subscription: a named cursor over a topic.
pub type Subscription = Options<SubscriptionSettings>;
/// Schedule: a message that is published at times.
pub type Schedule = Options<ScheduleSettings>;

/// Topics.
pub const TOPICS: KeyOf<Named<Topic>> =
    KeyOf::new("topics", "Topics by name: durable logs of messages that many subscriptions read.");
/// Queues.
pub const QUEUES: KeyOf<Named<Queue>> =
    KeyOf::new("queues", "Queues by name: messages that are each handled once.");
/// Subscriptions.
pub const SUBSCRIPTIONS: KeyOf<Named<Subscription>> =
    KeyOf::new("subscriptions", "Subscriptions by name: durable cursors over topics.");
/// Schedules.
pub const SCHEDULES: KeyOf<Named<Schedule>> =
    KeyOf::new("schedules", "Schedules by name: messages that are published at set times.");
/// The AMQP server.
pub const AMQP: KeyOf<Amqp> = KeyOf::new("amqp", "AMQP 0-9-1 server.");

/// All of them.
pub const ALL: &[Field] =
    &[TOPICS.field(), QUEUES.field(), SUBSCRIPTIONS.field(), SCHEDULES.field(), AMQP.field()];

settings! {
    /// AMQP 0-9-1 front-end, for listeners with `protocol: amqp`.
    pub struct Amqp = "amqp" {
        /// Users by name; without any, `guest` with the password `guest`, from this machine
        /// alone.
        users: Pairs<String, AmqpUser>,
        /// Virtual hosts.
        vhosts: Many<String>,
        /// Maximum number of channels of a connection.
        channels_max: Int<1, 65_535> = "2047",
        /// Maximum size of a frame, in bytes.
        frame_max: Int<4_096, 16_777_216> = "131072",
        /// Heartbeat timeout in seconds: one is sent after half of it, and a connection is closed after twice
        /// as long without any; 0 for none.
        heartbeat: Number = "60",
        /// Maximum size of a message body; at most 128MiB.
        message_max: At<ByteSize> = "16MiB",
    }

    /// AMQP user.
    pub struct AmqpUser = "user", short "password" {
        /// Password; `file:PATH` reads it from a file.
        password: At<crate::config::leaf::Secret>,
        /// Virtual hosts with every permission. All of them if neither these nor permissions
        /// are named.
        vhosts: Many<String>,
        /// Permissions in further virtual hosts, by name.
        permissions: Pairs<At<String>, Permissions>,
    }

    /// Permissions in one virtual host, as in RabbitMQ: regular expressions that the name of a queue or an
    /// exchange must match somewhere. What is not named is not allowed.
    pub struct Permissions = "permissions" {
        /// Queues and exchanges that may be declared and deleted.
        configure: Pattern = "^$",
        /// Exchanges that may be published to, and queues that may be bound. The exchange without a name is
        /// `amq.default`.
        write: Pattern = "^$",
        /// Queues that may be consumed and purged, and exchanges that may be bound to.
        read: Pattern = "^$",
    }
}
