//! From the sections of messages to what is asked for: references are resolved, what cannot be kept is
//! refused.

mod engines;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use weft_api::time;
use weft_broker::{
    Key, MessageBuilder, Publish, ScheduleTarget, SubscriptionOptions, SubscriptionTarget,
    message::Value,
};
use weft_broker_http::{
    MESSAGES, PUBLISH, RESPOND_ASYNC, To,
    settings::{MESSAGE_MAX, schedule::Destination},
};
use weft_kernel::{ByteSize, Name, Reason};
use weft_proxy::plan as proxy;
use weft_resilience::timeout;

use super::{
    plan::{self, Messages},
    sections::{self, Amqp, Permissions, Schedule, Subscription},
};
use crate::components::storage;
use crate::config::{
    catalogue::{Checked, Sections},
    merge::NameSet,
    plan::AMQP,
    problem::Problem,
    setting::{At, Cx},
    source::Place,
};

/// Topics and queues that may be referred to.
struct Known {
    topics: NameSet,
    queues: NameSet,
}

/// What is said of messages, with the internal routes by which they are pushed. `None` if nothing is to be
/// kept.
pub(super) fn build(said: &mut Sections<'_>, cx: &mut Cx) -> Option<Messages> {
    let topics = said.entries(&sections::TOPICS, cx);
    let queues = said.entries(&sections::QUEUES, cx);
    let subscriptions = said.entries(&sections::SUBSCRIPTIONS, cx);
    let schedules = said.entries(&sections::SCHEDULES, cx);
    let is_kept = said.place(&storage::sections::LEDGER).is_some()
        || !(topics.is_empty() && queues.is_empty() && subscriptions.is_empty())
        || is_asked_for(said.proxy);
    let amqp_section = said.read(&sections::AMQP, cx);
    if is_kept {
        said.keep(At { value: MESSAGE_MAX, place: Place::BUILT_IN });
        if let Some(amqp) = &amqp_section {
            said.keep(amqp.message_max.clone());
        }
        for (_, section) in &queues {
            if let Some(value) = section.settings.message_max() {
                said.keep(At { value, place: section.place(&["message_max"]) });
            }
        }
    }
    let amqp_section = amqp_section?;
    keepable(&amqp_section.message_max, AMQP_MESSAGE_MAX, cx);
    let known =
        Known { topics: said.names(&sections::TOPICS), queues: said.names(&sections::QUEUES) };
    let mut messages = Messages {
        topics: Vec::new(),
        queues: Vec::new(),
        subscriptions: Vec::new(),
        schedules: Vec::new(),
        push: Vec::new(),
        services: Vec::new(),
        amqp: amqp_plan(&amqp_section, cx),
    };
    let engines = engines::Engines::of(&topics, &queues);
    for (name, section) in &topics {
        engines.check_topic(section, cx);
        messages.topics.push((name.value.clone(), section.settings.options()));
    }
    for (name, section) in &queues {
        let dead_letter = section.settings.dead_letter();
        known.queue(dead_letter, section.place(&["dead_letter"]), cx);
        engines.check_queue(section, cx);
        messages.queues.push((name.value.clone(), section.settings.options()));
    }
    for (name, section) in &subscriptions {
        engines.check_subscription(section, cx);
        let Some(options) = subscription(section, &known, cx) else { continue };
        if let Some(push) = section.settings.push() {
            let place = section.place(&["push", "service"]);
            let Ok(service) = Name::new(&push.service) else { continue };
            said.services().require("service", service.as_str(), place, cx);
            let route = push_route(internal("push", &name.value), service, Some(push.timeout.0));
            messages.push.push(plan::Push {
                subscription: name.value.clone(),
                route: route.name.clone(),
                path: push.path.clone(),
                concurrency: push.concurrency,
                timeout: push.timeout.0,
            });
            said.lead(route);
        }
        messages.subscriptions.push(plan::Subscription {
            name: name.value.clone(),
            topic: section.settings.topic().to_owned(),
            options,
        });
    }
    for (name, section) in &schedules {
        engines.check_schedule(section, cx);
        // One that is not there is reported, and has no bound.
        let bytes_max = match section.settings.to() {
            Destination::Topic(to) => {
                let found = messages.topics.iter().find(|(name, _)| name.as_str() == to);
                found.map_or(u64::MAX, |(_, options)| options.message_bytes_max)
            }
            Destination::Queue(to) => {
                let found = messages.queues.iter().find(|(name, _)| name.as_str() == to);
                found.map_or(u64::MAX, |(_, options)| options.message_bytes_max)
            }
        };
        if let Some(schedule) = schedule(name, section, &known, bytes_max, cx) {
            messages.schedules.push((name.value.clone(), schedule));
        }
    }
    if !is_kept {
        return None;
    }
    // What the API declares may be pushed to any service; each delivery has its own time.
    for service in &said.proxy.services {
        let name = &service.discovery.name;
        let route = push_route(internal("push-service", name), name.clone(), None);
        messages.services.push((name.clone(), route.name.clone()));
        said.lead_unnamed(route);
    }
    Some(messages)
}

/// Whether a listener or a route leads to messages.
fn is_asked_for(proxy: &proxy::Plan) -> bool {
    proxy.listeners.iter().any(|of| matches!(of.protocol, proxy::Protocol::Local(AMQP)))
        || proxy.routes.iter().any(|route| {
            let is_messages =
                |binding: &proxy::Binding| [PUBLISH, MESSAGES].contains(&binding.handler);
            matches!(&route.target, proxy::Target::Local(binding) if is_messages(binding))
                || route.policy.policies.iter().any(|policy| policy.handler == RESPOND_ASYNC)
        })
}

/// Reports routes that publish to what is not there.
pub(super) fn check(whole: &Checked<'_>, cx: &mut Cx) {
    let known =
        Known { topics: whole.names(&sections::TOPICS), queues: whole.names(&sections::QUEUES) };
    for (route, place) in whole.routes() {
        if let proxy::Target::Local(binding) = &route.target
            && binding.handler == PUBLISH
            && let Ok(publish) = binding.settings::<weft_broker_http::PublishSettings>()
        {
            match &publish.to {
                To::Topic(topic) => known.topic(topic, place, cx),
                To::Queue(queue) => known.queue(Some(queue), place, cx),
            }
        }
    }
}

/// How AMQP is spoken.
fn amqp_plan(section: &Amqp, cx: &mut Cx) -> plan::Amqp {
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

fn permissions((vhost, of): &(At<String>, Permissions)) -> plan::AmqpPermissions {
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

fn subscription(section: &Subscription, known: &Known, cx: &mut Cx) -> Option<SubscriptionOptions> {
    let settings = &section.settings;
    let topic = settings.topic();
    if !topic.contains(['*', '>']) {
        known.topic(topic, section.place(&["topic"]), cx);
    }
    known.queue(settings.queue(), section.place(&["queue"]), cx);
    known.queue(settings.dead_letter(), section.place(&["dead_letter"]), cx);
    let mut options = settings.options().ok()?;
    if let SubscriptionTarget::Push(target) = &mut options.target {
        target.configured = true;
    }
    Some(options)
}

/// A message and the times at which it is published to what takes at most so many bytes.
fn schedule(
    name: &At<Name>,
    section: &Schedule,
    known: &Known,
    bytes_max: u64,
    cx: &mut Cx,
) -> Option<plan::Schedule> {
    let settings = &section.settings;
    let target = match settings.to() {
        Destination::Topic(topic) => {
            known.topic(topic, section.place(&["to", "topic"]), cx);
            ScheduleTarget::Topic(topic.clone())
        }
        Destination::Queue(queue) => {
            known.queue(Some(queue), section.place(&["to", "queue"]), cx);
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
    let publish = Publish { key, ..Publish::new(message) };
    let declared = match Key::plain(name.as_str()) {
        Ok(id) => Ok((id, target, settings.when().ok()?, publish)),
        Err(error) => Err(error),
    };
    // What the broker would refuse once it is declared.
    let checked = declared.and_then(|declared| {
        weft_broker::schedule::check(&declared, bytes_max, time::now_ms()).map(|()| declared)
    });
    match checked {
        Ok((_, target, when, publish)) => Some(plan::Schedule { when, target, publish }),
        Err(error) => {
            let problem = match error.reason() {
                Reason::MessageTooLarge => {
                    Problem::error(section.place(&["data"]), error.said().to_owned()).help(
                        "keep what is larger elsewhere and publish where it is, or raise \
                             `message_max` of what it is published to",
                    )
                }
                _ => Problem::error(name.place, error.said().to_owned()),
            };
            cx.report(problem);
            None
        }
    }
}

/// An internal route by which messages are pushed to a service. The broker retries, so that the route does
/// not.
fn push_route(name: Name, service: Name, timeout: Option<Duration>) -> proxy::Route {
    let policy = proxy::RoutePolicies {
        timeout: timeout::Options { request: timeout, ..timeout::Options::default() },
        ..proxy::RoutePolicies::default()
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

impl Known {
    /// Reports a topic that is not there.
    fn topic(&self, name: &str, place: Place, cx: &mut Cx) {
        self.topics.require("topic", name, place, cx);
    }

    /// Reports a queue that is named and not there.
    fn queue(&self, name: Option<&str>, place: Place, cx: &mut Cx) {
        if let Some(name) = name {
            self.queues.require("queue", name, place, cx);
        }
    }
}
