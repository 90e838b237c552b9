//! Events of quotas: a key has reached a threshold.

use std::sync::{Arc, OnceLock};

use serde::Serialize;
use weft_broker::{
    Key, MessageBuilder, Publish,
    engine::{AnyTarget, Engines},
    message::Value,
};
use weft_gateway::quota::{Publish as PublishWarnings, Publishing, Warning};
use weft_kernel::{Error, Name, Reason, Result};

use super::view;

/// Type of the events.
const TYPE: &str = "io.weft.quota.threshold";

/// Publishes events to topics of the node.
pub(super) struct Events(Arc<OnceLock<Engines>>);

/// Data of an event.
#[derive(Serialize)]
struct Data<'a> {
    quota: &'a str,
    key: &'a str,
    percent: u8,
    used: u64,
    allowed: u64,
    since: String,
    until: String,
}

impl Events {
    pub(super) const fn new(engines: Arc<OnceLock<Engines>>) -> Self {
        Self(engines)
    }

    async fn publish(&self, topic: &Name, of: &[Warning]) -> Result<()> {
        let missing = || Error::new(Reason::NotFound, "the node keeps no topics");
        let engines = self.0.get().ok_or_else(missing)?;
        let target = AnyTarget::from(engines.topic(&Key::plain(topic.as_str())?)?);
        let events = of.iter().map(event).collect::<Result<Vec<_>>>()?;
        engines.publish(&target, &events, None).await.map(|_| ())
    }
}

impl PublishWarnings for Events {
    fn publish<'a>(&'a self, topic: &'a Name, of: &'a [Warning]) -> Publishing<'a> {
        Box::pin(self.publish(topic, of))
    }
}

/// The event of a warning: the same id for the same key, period and threshold, by which a topic knows it again.
fn event(warning: &Warning) -> Result<Publish> {
    let Warning { quota, key, percent, used, allowed, period } = warning;
    let data = Data {
        quota: quota.as_str(),
        key,
        percent: *percent,
        used: *used,
        allowed: *allowed,
        since: view::time(period.start),
        until: view::time(period.end),
    };
    let id = format!("{key}/{}/{percent}", data.since);
    let data = serde_json::to_vec(&data).map_err(|error| {
        Error::new(Reason::Internal, "an event could not be written").because(error)
    })?;
    let source = format!("/weft/quotas/{quota}");
    let message = MessageBuilder::event(256 + data.len())
        .attribute("id", Value::Text(&id))
        .attribute("source", Value::Text(&source))
        .attribute("type", Value::Text(TYPE))
        .attribute("subject", Value::Text(key))
        .attribute("datacontenttype", Value::Text("application/json"))
        .body(&data)
        .finish()?;
    Ok(Publish::new(message))
}
