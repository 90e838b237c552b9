//! Messages: topics, queues, subscriptions and schedules.

use weft_kernel::Name;
use weft_proxy::plan::To;

use crate::config::{
    merge::Names,
    problem::Problem,
    setting::{At, Cx},
    source::Place,
};

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
pub(super) fn known<'n>(
    what: &str,
    name: &At<Name>,
    mut all: impl Iterator<Item = &'n str> + Clone,
    cx: &mut Cx,
) {
    if !all.clone().any(|known| known == name.as_str()) {
        cx.report(
            Problem::error(name.place, format!("there is no {what} `{}`", name.value))
                .near(name.as_str(), all.by_ref()),
        );
    }
}
