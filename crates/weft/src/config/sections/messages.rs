//! What is said about messages: topics, queues, subscriptions and schedules.

use weft_kernel::{ByteSize, Name};

use crate::config::{
    leaf::{Count, Factor, Int, Many, Number, Pairs, Share, Span, Switch},
    sections::target::PublishTo,
    setting::{At, settings, words},
    text::{Pattern, PlainPath},
};

words! {
    /// What has happened to a message before it is acknowledged.
    pub enum Durability {
        /// it is on the disk
        Fsync = "fsync",
        /// the operating system has it: it survives the process, not the machine
        Os = "os",
        /// it is in memory, and written soon
        Memory = "memory",
    }

    /// What happens to a message for which there is no room.
    pub enum Overflow {
        /// the publisher is refused
        Refuse = "refuse",
        /// the oldest message that nobody works on makes room, and is dead-lettered if the queue does that
        DropOldest = "drop-oldest" | "drop_oldest",
    }

    /// In which order messages are handed out.
    pub enum Order {
        /// as they came; while one is worked on or waits for a retry, later ones pass it
        None = "none",
        /// as they came for each key: later ones of the key wait, and go on once it is settled, also by
        /// dead-lettering it
        Key = "key",
        /// as for `key`, but once one is dead-lettered, later ones of its key follow it there
        KeyPark = "key-park" | "key_park",
    }

    /// What a missed occurrence of a schedule becomes.
    pub enum Missed {
        /// nothing
        Skip = "skip",
        /// one message, however many were missed
        Once = "once",
    }
}

settings! {
    /// A durable log of messages that many subscriptions read.
    pub struct Topic = "topic" {
        /// How long messages stay.
        retention: Retention,
        /// What has happened to a message before it is acknowledged.
        durability: Durability = "fsync",
        /// How long a message with an id that was seen before is taken for the same; at least the last
        /// million ids are remembered within that time.
        dedupe: Switch<Span> = "10m",
        /// The largest message, attributes included; at most 16MiB.
        message_max: At<ByteSize> = "1MiB",
        /// Whether only the newest message of each key has to stay.
        compact: bool = "false",
    }

    /// How long the messages of a topic stay; what no bound names stays for ever.
    pub struct Retention = "retention", short "age" {
        /// The age after which they go.
        age: Switch<Span> = "7d",
        /// The size of the topic above which the oldest go.
        size: Switch<ByteSize> = "off",
        /// Whether messages that a durable subscription has not read stay longer than that.
        keep_unread: bool = "true",
        /// The size above which the oldest go, read or not.
        size_max: Switch<ByteSize> = "off",
    }

    /// Messages that are each handled once.
    pub struct Queue = "queue" {
        /// What has happened to a message before it is acknowledged.
        durability: Durability = "fsync",
        /// How long a consumer may work on a message without settling or renewing it.
        lease: Span = "30s",
        /// What happens after a failure.
        retry: Redelivery,
        /// In which order messages are handed out.
        order: Order = "none",
        /// Whether messages have priorities, 0 to 9; the higher go first, and the lower do not starve.
        priorities: bool = "false",
        /// After which a message that nobody took is dead-lettered, or dropped without a dead letter.
        ttl: Switch<Span> = "off",
        /// After which a queue that nobody used is deleted.
        expires: Switch<Span> = "off",
        /// The most that waits.
        limit: Limit,
        /// Whether one consumer at a time is handed messages, and the next takes over when it is gone.
        single_active: bool = "false",
        /// The queue for messages that failed for good, `off` to drop them; without it, `NAME.dead`,
        /// which is made when it is needed and keeps them for 14 days.
        dead_letter: Option<Switch<At<Name>>>,
        /// How long a message with an id that was seen before is taken for the same.
        dedupe: Switch<Span> = "10m",
        /// The largest message, attributes included; at most 16MiB.
        message_max: At<ByteSize> = "1MiB",
    }

    /// How the failure of a message is dealt with.
    pub struct Redelivery = "redelivery", short "failures_max" {
        /// Failures after which it is dead-lettered.
        failures_max: Int<1, 1_000_000> = "10",
        /// The wait after the first failure.
        first: Span = "1s",
        /// What each further wait is multiplied by.
        factor: Factor = "2",
        /// The longest wait.
        max: Span = "10m",
        /// By which share each wait is moved in either direction.
        jitter: Share = "20%",
    }

    /// The most that waits in a queue.
    pub struct Limit = "limit", short "messages" {
        /// Messages.
        messages: Switch<Count> = "off",
        /// Bytes.
        size: Switch<ByteSize> = "off",
        /// What happens to a message for which there is no room.
        overflow: Overflow = "refuse",
    }

    /// A named cursor over a topic, pulled by clients or pushed to a service or queue.
    pub struct Subscription = "subscription" {
        /// The topic, or a pattern of topics: `*` stands for one word, `>` for all that follow.
        topic: At<String>,
        /// Where it begins: `first`, `last`, `next`, a position, or a time such as 2026-01-31T00:00:00Z.
        start: At<String> = "next",
        /// Which messages it is for; all otherwise.
        filter: At<Filter>,
        /// How long a consumer may work on a message without settling or renewing it.
        lease: Span = "30s",
        /// What happens after a failure.
        retry: Redelivery,
        /// In which order messages are handed out.
        order: Order = "none",
        /// Whether one consumer at a time is handed messages.
        single_active: bool = "false",
        /// The queue for messages that failed for good, `off` to drop them; without it, `NAME.dead`.
        dead_letter: Option<Switch<At<Name>>>,
        /// After which a subscription that nobody used is deleted.
        expires: Switch<Span> = "off",
        /// A service to which messages are pushed by HTTP POST.
        push: At<Switch<Push>> = "off",
        /// A queue that each message is put into.
        queue: Option<At<Name>>,
    }

    /// Which messages a subscription is for; all conditions must hold.
    pub struct Filter = "filter", short "expression" {
        /// Any of these types.
        types("type"): Many<String>,
        /// Attributes that must have these values; a `*` at the end stands for anything.
        attributes: Pairs<String, String>,
        /// A CEL expression over the attributes and `data`, such as `data.total > 100.0`.
        expression: Option<At<String>>,
    }

    /// How messages are pushed to a service; its answer settles them: 2xx accepts, 4xx rejects, 5xx and
    /// 429 fail.
    pub struct Push = "push", short "service" {
        /// The service.
        service: At<Name>,
        /// The path.
        path: PlainPath = "/",
        /// The most under way at once; it is less while the service answers slowly or not.
        concurrency: Int<1, 10_000> = "64",
        /// The time for one delivery.
        timeout: Span = "15s",
    }

    /// A message that is published at times.
    pub struct Schedule = "schedule" {
        /// When: five or six fields of cron, `@daily` and the like, or `@every 5m`.
        cron: At<String>,
        /// The time zone of the fields, such as Europe/Berlin.
        time_zone: At<String> = "UTC",
        /// Where it is published.
        to: At<PublishTo>,
        /// The `type` of the message.
        types("type"): String = "weft.schedule",
        /// The key of the message.
        key: Option<String>,
        /// The body of the message.
        data: Option<String>,
        /// The media type of the body.
        content_type: String = "application/json",
        /// What is made of occurrences that were missed while the node was down.
        missed: Missed = "once",
        /// By how much each occurrence may be late, drawn anew each time.
        jitter: std::time::Duration = "0",
    }

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
