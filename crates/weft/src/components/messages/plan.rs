//! What a checked configuration asks for of messages.

use std::time::Duration;

use weft_broker::{Publish, QueueOptions, ScheduleTarget, SubscriptionOptions, TopicOptions, When};
use weft_kernel::Name;

use crate::config::leaf::Secret;

/// What is kept and handed on.
#[derive(Clone, Debug)]
pub struct Messages {
    /// Topics.
    pub topics: Vec<(Name, TopicOptions)>,
    /// Queues.
    pub queues: Vec<(Name, QueueOptions)>,
    /// Subscriptions.
    pub subscriptions: Vec<Subscription>,
    /// Messages that are published at times.
    pub schedules: Vec<(Name, Schedule)>,
    /// Those of them that are pushed to services.
    pub push: Vec<Push>,
    /// Services, each with the internal route by which what the API declares is pushed to it.
    pub services: Vec<(Name, Name)>,
    /// How AMQP is spoken.
    pub amqp: Amqp,
}

/// A subscription.
#[derive(Clone, Debug, PartialEq)]
pub struct Subscription {
    /// Its name.
    pub name: Name,
    /// The topic, or a pattern of topics.
    pub topic: String,
    /// How it is read.
    pub options: SubscriptionOptions,
}

/// A message that is published at times.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// When.
    pub when: When,
    /// Where.
    pub target: ScheduleTarget,
    /// What.
    pub publish: Publish,
}

/// How a subscription is pushed to a service.
#[derive(Clone, Debug, PartialEq)]
pub struct Push {
    /// The subscription.
    pub subscription: Name,
    /// The route by which its messages go.
    pub route: Name,
    /// The path that they are posted to.
    pub path: String,
    /// The most that are under way at once.
    pub concurrency: u32,
    /// The time for one.
    pub timeout: Duration,
}

/// How AMQP is spoken.
#[derive(Clone, Debug, PartialEq)]
pub struct Amqp {
    /// Who may log in; empty for `guest` from this machine.
    pub users: Vec<AmqpUser>,
    /// The virtual hosts.
    pub vhosts: Vec<String>,
    /// The most channels of a connection.
    pub channels_max: u16,
    /// The largest frame in bytes.
    pub frame_max: u32,
    /// Seconds between heartbeats; 0 for none.
    pub heartbeat: u16,
    /// The largest body of a message in bytes.
    pub message_max: u64,
}

/// Somebody who may log in.
#[derive(Clone, Debug, PartialEq)]
pub struct AmqpUser {
    /// The name.
    pub name: String,
    /// The password.
    pub password: Secret,
    /// The virtual hosts in which everything may be done; all of them if there are no permissions either.
    pub vhosts: Vec<String>,
    /// What may be done in further virtual hosts.
    pub permissions: Vec<AmqpPermissions>,
}

/// What may be done in a virtual host: regular expressions over names.
#[derive(Clone, Debug, PartialEq)]
pub struct AmqpPermissions {
    /// The virtual host.
    pub vhost: String,
    /// What may be declared and deleted.
    pub configure: String,
    /// What may be published to.
    pub write: String,
    /// What may be consumed.
    pub read: String,
}
