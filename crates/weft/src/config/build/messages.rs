//! Messages: topics, queues and subscriptions, and where they are kept.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use weft_broker::{
    MessageBuilder, Publish, ScheduleTarget, SubscriptionOptions, SubscriptionTarget,
    message::Value,
};
use weft_broker_http::{
    MESSAGES, PUBLISH, RESPOND_ASYNC, To,
    settings::{MESSAGE_MAX, schedule::Destination, subscription::PushSettings},
};
use weft_kernel::{ByteSize, Name};
use weft_proxy::plan as proxy;
use weft_resilience::timeout;

use super::{known_service, ledger};
use crate::config::{
    merge::{Names, Read},
    plan::{self, Messages},
    problem::Problem,
    sections::{Amqp, Schedule, Subscription, messages},
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
        services: Vec::new(),
        amqp: amqp(amqp_section, cx),
    };
    for (name, section) in &said.topics {
        messages.topics.push((name.value.clone(), section.settings.options()));
    }
    for (name, section) in &said.queues {
        let dead_letter = section.settings.dead_letter();
        known_queue(dead_letter, section.place(&["dead_letter"]), &read.names, cx);
        messages.queues.push((name.value.clone(), section.settings.options()));
    }
    for (name, section) in &said.subscriptions {
        let Some(options) = subscription(section, &read.names, cx) else { continue };
        if let Some(push) = section.settings.push() {
            let place = section.place(&["push", "service"]);
            let Some(service) = service(push, place, &read.names, cx) else { continue };
            let route = push_route(internal("push", &name.value), service, Some(push.timeout.0));
            messages.push.push(plan::Push {
                subscription: name.value.clone(),
                route: route.name.clone(),
                path: push.path.clone(),
                concurrency: push.concurrency,
                timeout: push.timeout.0,
            });
            proxy.routes.push(Arc::new(route));
        }
        messages.subscriptions.push(plan::Subscription {
            name: name.value.clone(),
            topic: section.settings.topic().to_owned(),
            options,
        });
    }
    for (name, section) in &said.schedules {
        if let Some(schedule) = schedule(name, section, &read.names, cx) {
            messages.schedules.push((name.value.clone(), schedule));
        }
    }
    // What the API declares may be pushed to any service; each delivery has its own time.
    messages.services = proxy
        .services
        .iter()
        .map(|service| {
            let name = &service.discovery.name;
            Arc::new(push_route(internal("push-service", name), name.clone(), None))
        })
        .collect();
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

fn subscription(section: &Subscription, names: &Names, cx: &mut Cx) -> Option<SubscriptionOptions> {
    let settings = &section.settings;
    let topic = settings.topic();
    if !topic.contains(['*', '>']) {
        known("topic", topic, section.place(&["topic"]), &names.topics, cx);
    }
    known_queue(settings.queue(), section.place(&["queue"]), names, cx);
    known_queue(settings.dead_letter(), section.place(&["dead_letter"]), names, cx);
    let mut options = settings.options().ok()?;
    if let SubscriptionTarget::Push(target) = &mut options.target {
        target.configured = true;
    }
    Some(options)
}

/// A message and the times at which it is published.
fn schedule(
    name: &At<Name>,
    section: &Schedule,
    names: &Names,
    cx: &mut Cx,
) -> Option<plan::Schedule> {
    let settings = &section.settings;
    let target = match settings.to() {
        Destination::Topic(topic) => {
            known("topic", topic, section.place(&["to", "topic"]), &names.topics, cx);
            ScheduleTarget::Topic(topic.clone())
        }
        Destination::Queue(queue) => {
            known("queue", queue, section.place(&["to", "queue"]), &names.queues, cx);
            ScheduleTarget::Queue(queue.clone())
        }
    };
    let message = MessageBuilder::event(256)
        .attribute("id", Value::Text(name.as_str()))
        .attribute("source", Value::Text("/weft/schedules"))
        .attribute("type", Value::Text(settings.event_type()))
        .attribute("datacontenttype", Value::Text(settings.media()));
    let message = match settings.body().ok()? {
        Some(data) => message.body(&data).finish(),
        None => message.no_data().finish(),
    };
    let message = message
        .map_err(|error| cx.report(Problem::error(name.place, error.said().to_owned())))
        .ok()?;
    let key = Bytes::copy_from_slice(settings.key().as_bytes());
    let when = settings.when().ok()?;
    Some(plan::Schedule { when, target, publish: Publish { key, ..Publish::new(message) } })
}

/// The service that messages are pushed to.
fn service(push: &PushSettings, place: Place, names: &Names, cx: &mut Cx) -> Option<Name> {
    let value = Name::new(&push.service).ok()?;
    known_service(&At { value: value.clone(), place }, names, cx);
    Some(value)
}

/// An internal route by which messages are pushed to a service. The broker retries, so that the route does
/// not.
fn push_route(name: Name, service: Name, timeout: Option<Duration>) -> proxy::Route {
    let policy = proxy::Policy {
        timeout: timeout::Options { request: timeout, ..timeout::Options::default() },
        ..proxy::Policy::default()
    };
    proxy::Route {
        name,
        listeners: Vec::new(),
        is_internal: true,
        matches: Vec::new(),
        policy: Arc::new(policy),
        rewrite: proxy::Rewrite::default(),
        target: proxy::Target::Services(vec![proxy::Weighted { service, weight: 1 }]),
    }
}

/// The name of an internal route; what is too long for a name stays as it is.
fn internal(kind: &str, name: &Name) -> Name {
    Name::new(&format!("{kind}/{name}")).unwrap_or_else(|_too_long| name.clone())
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
            known("topic", topic.as_str(), topic.place, &names.topics, cx);
            Some(To::Topic(topic.value.to_string()))
        }
        (None, Some(queue)) => {
            known("queue", queue.as_str(), queue.place, &names.queues, cx);
            Some(To::Queue(queue.value.to_string()))
        }
        (None, None) => {
            cx.report(
                Problem::error(place, "`publish` needs a `topic` or a `queue`")
                    .help("name the one that messages are published to"),
            );
            None
        }
        (Some(_), Some(queue)) => {
            cx.report(
                Problem::error(queue.place, "`topic` and `queue` exclude each other").help(
                    "keep one of them; a queue can take a topic's messages by a subscription",
                ),
            );
            None
        }
    }
}

/// Reports a queue that is named and not there.
fn known_queue(name: Option<&str>, place: Place, names: &Names, cx: &mut Cx) {
    if let Some(name) = name {
        known("queue", name, place, &names.queues, cx);
    }
}

/// Reports a topic or queue that is not there.
fn known(what: &str, name: &str, place: Place, all: &BTreeMap<Arc<str>, Place>, cx: &mut Cx) {
    if !all.contains_key(name) {
        cx.report(
            Problem::error(place, format!("there is no {what} `{name}`"))
                .near(name, all.keys().map(|name| &**name)),
        );
    }
}
