//! What is said about messages: topics, queues, subscriptions and schedules, whose options are those of
//! the API, and AMQP.

use weft_kernel::ByteSize;
use weft_messages::settings::{
    queue::QueueSettings, schedule::ScheduleSettings, subscription::SubscriptionSettings,
    topic::TopicSettings,
};

use crate::config::{
    leaf::{Int, Many, Number, Pairs},
    options::Options,
    setting::{At, settings},
    text::Pattern,
};

/// A durable log of messages that many subscriptions read.
pub type Topic = Options<TopicSettings>;
/// Messages that are each handled once.
pub type Queue = Options<QueueSettings>;
/// A named cursor over a topic.
pub type Subscription = Options<SubscriptionSettings>;
/// A message that is published at times.
pub type Schedule = Options<ScheduleSettings>;

settings! {
    /// The AMQP 0-9-1 front-end, offered on listeners with `protocol: amqp`.
    pub struct Amqp = "amqp" {
        /// Who may log in, by name; without any, `guest` with the password `guest`, from this machine
        /// alone.
        users: Pairs<String, AmqpUser>,
        /// The virtual hosts.
        vhosts: Many<String>,
        /// The most channels of a connection.
        channels_max: Int<1, 65_535> = "2047",
        /// The largest frame.
        frame_max: Int<4_096, 16_777_216> = "131072",
        /// After which half the silence a heartbeat is sent, and after which twice a connection is given up.
        heartbeat: Number = "60",
        /// The largest body of a message; at most 128MiB.
        message_max: At<ByteSize> = "16MiB",
    }

    /// Somebody who may log in.
    pub struct AmqpUser = "user", short "password" {
        /// The password; `file:PATH`.
        password: At<crate::config::leaf::Secret>,
        /// The virtual hosts in which everything may be done. All of them if neither these nor permissions
        /// are named.
        vhosts: Many<String>,
        /// What may be done in further virtual hosts, by name.
        permissions: Pairs<At<String>, Permissions>,
    }

    /// Permissions in one virtual host, as in RabbitMQ: regular expressions that the name of a queue or an
    /// exchange must match somewhere. What is not named is not allowed.
    pub struct Permissions = "permissions" {
        /// What may be declared and deleted.
        configure: Pattern = "^$",
        /// What may be published to, and bound to something. The exchange without a name is `amq.default`.
        write: Pattern = "^$",
        /// What may be consumed and purged, and bound from.
        read: Pattern = "^$",
    }
}
