//! Messages: topics, queues and subscriptions, and where they are kept.

use std::sync::Arc;

use bytes::Bytes;
use weft_broker::{
    Backoff, Compare, DeadLetter, Dedupe, FilterOptions, MessageBuilder, Missed, OnFailure,
    Publish, QueueLimit, QueueOptions, Retention, ScheduleTarget, Start, SubscriptionOptions,
    SubscriptionTarget, TopicOptions, When, cron::Cron, message::Value, options,
};
use weft_kernel::{ByteSize, Name, Result};
use weft_ledger::Durability;
use weft_messages::{MESSAGES, PUBLISH, RESPOND_ASYNC, To};
use weft_proxy::plan as proxy;
use weft_resilience::timeout;

use super::{known_service, ledger};
use crate::config::{
    leaf::{Span, Switch},
    merge::{Names, Read},
    plan::{self, Messages},
    problem::Problem,
    sections::{
        Amqp, Queue, Schedule, Subscription, Topic,
        messages::{self, Push as PushTo, Redelivery},
    },
    setting::{At, Cx},
    source::Place,
};

/// What is said of messages; their push routes are added to the others. `None` if nothing is to be kept.
pub(super) fn build(read: &Read, proxy: &mut proxy::Plan, cx: &mut Cx) -> Option<Messages> {
    let said = &read.messages;
    let amqp_section = said.amqp.as_ref()?;
    keepable(&amqp_section.message_max, AMQP_MESSAGE_MAX, cx);
    let largest = MESSAGE_MAX.max(amqp_section.message_max.value);
    let mut messages = Messages {
        ledger: ledger::build(said.ledger.as_ref()?, largest, cx),
        topics: Vec::new(),
        queues: Vec::new(),
        subscriptions: Vec::new(),
        schedules: Vec::new(),
        push: Vec::new(),
        amqp: amqp(amqp_section, cx),
    };
    for (name, section) in &said.topics {
        keepable(&section.message_max, MESSAGE_MAX, cx);
        let options = topic(section);
        fits(name, options.check(), cx);
        messages.topics.push((name.value.clone(), options));
    }
    for (name, section) in &said.queues {
        keepable(&section.message_max, MESSAGE_MAX, cx);
        let options = queue(section, &read.names, cx);
        fits(name, options.check(), cx);
        messages.queues.push((name.value.clone(), options));
    }
    for (name, section) in &said.subscriptions {
        let Some(options) = subscription(name, section, &read.names, cx) else { continue };
        fits(name, options.check(), cx);
        if let Some(push) = section.push.on() {
            let route = push_route(&name.value, push, &read.names, cx);
            messages.push.push(plan::Push {
                subscription: name.value.clone(),
                route: route.name.clone(),
                path: push.path.0.clone(),
                concurrency: push.concurrency.u32(),
                timeout: push.timeout.0,
            });
            proxy.routes.push(Arc::new(route));
        }
        messages.subscriptions.push(plan::Subscription {
            name: name.value.clone(),
            topic: section.topic.value.clone(),
            options,
        });
    }
    for (name, section) in &said.schedules {
        if let Some(schedule) = schedule(name, section, &read.names, cx) {
            messages.schedules.push((name.value.clone(), schedule));
        }
    }
    let is_kept = said.ledger_said
        || !(said.topics.is_empty() && said.queues.is_empty() && said.subscriptions.is_empty())
        || proxy
            .listeners
            .iter()
            .any(|listener| matches!(listener.protocol, proxy::Protocol::Local(plan::AMQP)))
        || proxy.routes.iter().any(|route| {
            let is_messages =
                |binding: &proxy::Binding| [PUBLISH, MESSAGES].contains(&binding.handler);
            matches!(&route.target, proxy::Target::Local(binding) if is_messages(binding))
                || route.policy.policies.iter().any(|policy| policy.handler == RESPOND_ASYNC)
        });
    is_kept.then_some(messages)
}

/// How AMQP is spoken.
fn amqp(section: &Amqp, cx: &mut Cx) -> plan::Amqp {
    let vhosts = section.vhosts.to_vec();
    for (_, user) in &section.users.0 {
        for (vhost, _) in &user.permissions.0 {
            if **vhost != "/" && !vhosts.contains(vhost) {
                let say = format!("there is no virtual host `{}`", vhost.value);
                cx.report(
                    Problem::error(vhost.place, say).near(vhost, vhosts.iter().map(String::as_str)),
                );
            } else if user.vhosts.contains(vhost) {
                let say = format!("everything may be done in `{}` already", vhost.value);
                cx.report(
                    Problem::error(vhost.place, say).help("take it out of the user's `vhosts`"),
                );
            }
        }
    }
    plan::Amqp {
        users: section
            .users
            .0
            .iter()
            .map(|(name, user)| plan::AmqpUser {
                name: name.clone(),
                password: user.password.value.clone(),
                vhosts: user.vhosts.to_vec(),
                permissions: user.permissions.0.iter().map(permissions).collect(),
            })
            .collect(),
        vhosts: if vhosts.is_empty() { vec!["/".to_owned()] } else { vhosts },
        channels_max: section.channels_max.u16(),
        frame_max: section.frame_max.u32(),
        heartbeat: u16::try_from(section.heartbeat.0).unwrap_or(u16::MAX),
        message_max: section.message_max.value.0,
    }
}

fn permissions((vhost, of): &(At<String>, messages::Permissions)) -> plan::AmqpPermissions {
    plan::AmqpPermissions {
        vhost: vhost.value.clone(),
        configure: of.configure.0.clone(),
        write: of.write.0.clone(),
        read: of.read.0.clone(),
    }
}

/// The largest message of a topic or of a queue of the configuration, which speak HTTP.
const MESSAGE_MAX: ByteSize = ByteSize(16 << 20);
/// The largest message of AMQP: what RabbitMQ took before it was at 16 MiB.
const AMQP_MESSAGE_MAX: ByteSize = ByteSize(128 << 20);

/// Reports a size that the ledger could not keep.
fn keepable(size: &At<ByteSize>, most: ByteSize, cx: &mut Cx) {
    if size.value > most {
        cx.report(
            Problem::error(size.place, format!("a message has at most {most}"))
                .help("keep what is larger elsewhere, and publish where it is"),
        );
    }
}

/// Reports what the broker says of settings.
fn fits(name: &At<Name>, checked: Result<()>, cx: &mut Cx) {
    if let Err(error) = checked {
        cx.report(Problem::error(name.place, format!("`{}`: {}", name.value, error.said())));
    }
}

fn durability(word: messages::Durability) -> Durability {
    match word {
        messages::Durability::Fsync => Durability::Fsync,
        messages::Durability::Os => Durability::Os,
        messages::Durability::Memory => Durability::Memory,
    }
}

fn dedupe(window: &Switch<Span>) -> Option<Dedupe> {
    window.on().map(|window| Dedupe { time: window.0, ..Dedupe::default() })
}

fn topic(section: &Topic) -> TopicOptions {
    let kept = &section.retention;
    TopicOptions {
        durability: durability(section.durability),
        retention: Retention {
            age: kept.age.on().map(|age| age.0),
            bytes: kept.size.on().map(|size| size.0),
            keep_unread: kept.keep_unread,
            bytes_max: kept.size_max.on().map(|size| size.0),
        },
        dedupe: dedupe(&section.dedupe),
        compact: section.compact,
        message_bytes_max: section.message_max.value.0,
    }
}

fn queue(section: &Queue, names: &Names, cx: &mut Cx) -> QueueOptions {
    let dead_letter = dead_letter(section.dead_letter.as_ref(), names, cx);
    let buries = dead_letter != DeadLetter::None;
    QueueOptions {
        durability: durability(section.durability),
        lease: section.lease.0,
        failures_max: Some(section.retry.failures_max.u32()),
        retry: backoff(&section.retry),
        order: order(section.order),
        priorities: section.priorities,
        message_ttl: section.ttl.on().map(|span| span.0),
        expired_to_dead_letter: buries && section.ttl.on().is_some(),
        expires: section.expires.on().map(|span| span.0),
        limit: QueueLimit {
            messages: section.limit.messages.on().map(|count| count.0),
            bytes: section.limit.size.on().map(|size| size.0),
            overflow: match section.limit.overflow {
                messages::Overflow::Refuse => options::Overflow::Refuse,
                messages::Overflow::DropOldest => {
                    options::Overflow::DropOldest { dead_letter: buries }
                }
            },
        },
        single_active: section.single_active,
        dead_letter,
        dedupe: dedupe(&section.dedupe),
        message_bytes_max: section.message_max.value.0,
        ..QueueOptions::default()
    }
}

fn subscription(
    name: &At<Name>,
    section: &Subscription,
    names: &Names,
    cx: &mut Cx,
) -> Option<SubscriptionOptions> {
    if !section.topic.contains(['*', '>']) && !names.topics.contains_key(section.topic.as_str()) {
        cx.report(
            Problem::error(
                section.topic.place,
                format!("there is no topic `{}`", section.topic.value),
            )
            .near(&section.topic, names.topics.keys().map(|name| &**name)),
        );
    }
    let target = match (section.push.on(), &section.queue) {
        (None, None) => SubscriptionTarget::Pull,
        (Some(push), None) => SubscriptionTarget::Push(push.service.value.to_string()),
        (None, Some(queue)) => {
            known("queue", queue, names.queues.keys().map(|name| &**name), cx);
            SubscriptionTarget::Queue(queue.value.to_string())
        }
        (Some(_), Some(queue)) => {
            cx.report(
                Problem::error(
                    queue.place,
                    format!("`{}` is led to a service and to a queue", name.value),
                )
                .and(section.push.place, "the service")
                .help("make a subscription for each"),
            );
            return None;
        }
    };
    Some(SubscriptionOptions {
        ephemeral: section.expires.on().map(|span| span.0),
        start: start(&section.start, section.topic.contains(['*', '>']), cx)?,
        filter: filter(&section.filter, cx)?,
        target,
        lease: section.lease.0,
        failures_max: Some(section.retry.failures_max.u32()),
        retry: backoff(&section.retry),
        order: order(section.order),
        single_active: section.single_active,
        dead_letter: dead_letter(section.dead_letter.as_ref(), names, cx),
        paused: false,
    })
}

/// Where a subscription begins.
fn start(text: &At<String>, several: bool, cx: &mut Cx) -> Option<Start> {
    let start = match text.as_str() {
        "first" => Some(Start::First),
        "last" => Some(Start::Last),
        "next" => Some(Start::Next),
        other => other.parse().ok().map(Start::Position).or_else(|| {
            let at: jiff::Timestamp = other.parse().ok()?;
            u64::try_from(at.as_millisecond()).ok().map(Start::Time)
        }),
    };
    if several && matches!(start, Some(Start::Position(_))) {
        let say = "a position is one of a single topic, and this subscription reads several";
        cx.report(Problem::error(text.place, say).help("write first, last, next, or a time"));
        return None;
    }
    if start.is_none() {
        cx.report(
            Problem::error(text.place, format!("`{}` is no place in a topic", text.value)).help(
                "write first, last, next, a position, or a time such as 2026-01-31T00:00:00Z",
            ),
        );
    }
    start
}

/// A message and the times at which it is published.
fn schedule(
    name: &At<Name>,
    section: &Schedule,
    names: &Names,
    cx: &mut Cx,
) -> Option<plan::Schedule> {
    if let Err(error) = Cron::new(&section.cron, &section.time_zone) {
        cx.report(Problem::error(section.cron.place, error.said().to_owned()));
    }
    let to = &section.to;
    let to = publish_to(to.topic.as_ref(), to.queue.as_ref(), to.place, names, cx)?;
    let message = MessageBuilder::event(256)
        .attribute("id", Value::Text(name.as_str()))
        .attribute("source", Value::Text("/weft/schedules"))
        .attribute("type", Value::Text(&section.types))
        .attribute("datacontenttype", Value::Text(&section.content_type));
    let message = match &section.data {
        Some(data) => message.body(data.as_bytes()).finish(),
        None => message.no_data().finish(),
    };
    let message = message
        .map_err(|error| cx.report(Problem::error(name.place, error.said().to_owned())))
        .ok()?;
    let key = section.key.as_ref().map_or_else(Bytes::new, |key| Bytes::from(key.clone()));
    Some(plan::Schedule {
        when: When::Recurring {
            cron: section.cron.value.clone(),
            zone: section.time_zone.value.clone(),
            missed: match section.missed {
                messages::Missed::Skip => Missed::Skip,
                messages::Missed::Once => Missed::Once,
            },
            jitter: section.jitter,
        },
        target: match to {
            To::Topic(name) => ScheduleTarget::Topic(name),
            To::Queue(name) => ScheduleTarget::Queue(name),
        },
        publish: Publish { key, ..Publish::new(message) },
    })
}

/// What a subscription takes; a fault of its expression is told where that stands.
fn filter(section: &At<messages::Filter>, cx: &mut Cx) -> Option<FilterOptions> {
    let compare = |value: &str| match value.strip_suffix('*') {
        Some(prefix) => Compare::Prefix(prefix.to_owned()),
        None => Compare::Equal(value.to_owned()),
    };
    let options = FilterOptions {
        types: section.types.to_vec(),
        attributes: section
            .attributes
            .0
            .iter()
            .map(|(name, value)| (name.clone(), compare(value)))
            .collect(),
        expression: section.expression.as_ref().map(|expression| expression.value.clone()),
    };
    if let Err(error) = options.compile() {
        let place = section.expression.as_ref().map_or(section.place, |text| text.place);
        cx.report(Problem::error(place, error.said().to_owned()));
        return None;
    }
    Some(options)
}

fn backoff(section: &Redelivery) -> Backoff {
    Backoff {
        first: section.first.0,
        factor: section.factor.0,
        max: section.max.0,
        jitter: section.jitter.0,
    }
}

fn order(word: messages::Order) -> options::Order {
    match word {
        messages::Order::None => options::Order::None,
        messages::Order::Key => options::Order::Key { on_failure: OnFailure::Block },
        messages::Order::KeyPark => options::Order::Key { on_failure: OnFailure::Park },
    }
}

fn dead_letter(said: Option<&Switch<At<Name>>>, names: &Names, cx: &mut Cx) -> DeadLetter {
    match said {
        None => DeadLetter::Queue,
        Some(Switch::Off) => DeadLetter::None,
        Some(Switch::On(queue)) => {
            known("queue", queue, names.queues.keys().map(|name| &**name), cx);
            DeadLetter::To(queue.value.to_string())
        }
    }
}

/// The route by which a subscription's messages are pushed. The broker retries, so that the route does
/// not.
fn push_route(name: &Name, push: &PushTo, names: &Names, cx: &mut Cx) -> proxy::Route {
    known_service(&push.service, names, cx);
    let policy = proxy::Policy {
        timeout: timeout::Options { request: Some(push.timeout.0), ..timeout::Options::default() },
        ..proxy::Policy::default()
    };
    proxy::Route {
        name: internal(name),
        listeners: Vec::new(),
        is_internal: true,
        matches: Vec::new(),
        policy: Arc::new(policy),
        rewrite: proxy::Rewrite::default(),
        target: proxy::Target::Services(vec![proxy::Weighted {
            service: push.service.value.clone(),
            weight: 1,
        }]),
    }
}

/// The name of the route of a subscription; what is too long for a name stays as it is.
fn internal(name: &Name) -> Name {
    Name::new(&format!("push/{name}")).unwrap_or_else(|_too_long| name.clone())
}

/// Where messages go: just one of a topic and a queue, and one that is there.
pub(super) fn publish_to(
    topic: Option<&At<Name>>,
    queue: Option<&At<Name>>,
    place: Place,
    names: &Names,
    cx: &mut Cx,
) -> Option<To> {
    match (topic, queue) {
        (Some(topic), None) => {
            known("topic", topic, names.topics.keys().map(|name| &**name), cx);
            Some(To::Topic(topic.value.to_string()))
        }
        (None, Some(queue)) => {
            known("queue", queue, names.queues.keys().map(|name| &**name), cx);
            Some(To::Queue(queue.value.to_string()))
        }
        (None, None) | (Some(_), Some(_)) => {
            cx.report(
                Problem::error(place, "it is not said where messages go")
                    .help("say one of `topic` and `queue`"),
            );
            None
        }
    }
}

/// Reports a topic or queue that is not there.
fn known<'n>(what: &str, name: &At<Name>, all: impl Iterator<Item = &'n str> + Clone, cx: &mut Cx) {
    if !all.clone().any(|known| known == name.as_str()) {
        cx.report(
            Problem::error(name.place, format!("there is no {what} `{}`", name.value))
                .near(name.as_str(), all),
        );
    }
}
