//! The targets of routes that lead to messages.

use weft_broker_http::{Api, MESSAGES, PUBLISH, PublishSettings, To};
use weft_kernel::Name;
use weft_proxy::plan::Binding;

use crate::config::{
    catalogue::{Bound, KeyOf, TargetKey},
    problem::Problem,
    setting::{At, Cx, Setting as _, settings},
    text::{HeaderName, PlainPath},
    tree::Node,
};

/// Their keys in a route.
pub static ALL: [TargetKey; 2] = [
    TargetKey {
        field: KeyOf::<Option<PublishSection>>::new(
            "publish",
            "Topic or queue that each request is published to as a message.",
        )
        .field(),
        build: publish,
    },
    TargetKey {
        field: KeyOf::<Option<PlainPath>>::new(
            "messages",
            "Path below which the messages API (topics, queues, subscriptions) is served, as `/v1/…`.",
        )
        .field(),
        build: messages,
    },
];

settings! {
    /// Publication of requests as messages; a request is answered once its message is stored.
    pub struct PublishSection = "publish", short "topic" {
        /// Name of the topic.
        topic: Option<At<Name>>,
        /// Name of the queue.
        queue: Option<At<Name>>,
        /// CloudEvents `type` of messages without one; the name of the route otherwise.
        types("type"): Option<String>,
        /// Header field with the ordering key of the message; `partitionkey` counts in any case.
        key: Option<HeaderName>,
    }
}

/// How the requests of a route become messages. That what they go to is there is checked with the whole plan.
fn publish(route: &Name, node: &Node, cx: &mut Cx) -> Option<Bound> {
    let section = PublishSection::read(node, cx)?;
    let (to, place) = match (&section.topic, &section.queue) {
        (Some(topic), None) => (To::Topic(topic.value.to_string()), topic.place),
        (None, Some(queue)) => (To::Queue(queue.value.to_string()), queue.place),
        (None, None) => {
            cx.report(
                Problem::error(section.place, "`publish` needs a `topic` or a `queue`")
                    .help("name the one that messages are published to"),
            );
            return None;
        }
        (Some(_), Some(queue)) => {
            cx.report(
                Problem::error(queue.place, "`topic` and `queue` exclude each other").help(
                    "keep one of them; a queue can take a topic's messages by a subscription",
                ),
            );
            return None;
        }
    };
    let publish = PublishSettings {
        to,
        event_type: Some(section.types.unwrap_or_else(|| route.to_string())),
        key: section.key.map(|name| name.0),
    };
    Some(Bound { binding: Binding::new(PUBLISH, publish), place })
}

/// The API of messages, below a path.
fn messages(_route: &Name, node: &Node, cx: &mut Cx) -> Option<Bound> {
    let path = At::<PlainPath>::read(node, cx)?;
    let prefix = path.value.0.trim_end_matches('/').to_owned();
    Some(Bound { binding: Binding::new(MESSAGES, Api { prefix }), place: path.place })
}
