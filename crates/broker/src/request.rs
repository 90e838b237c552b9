//! Request and reply over queues and topics.
//!
//! A request is a message with the attributes `replyto` and `correlationid`; the reply is published to
//! the name in `replyto` with the same `correlationid`, and completes the request that waits. The inbox
//! lives in this process: a reply to a request that is over is dropped. Where nobody listens, that is
//! told at once, before anything is published.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;
use tokio::sync::oneshot;
use weft_kernel::{Deadline, Error, Reason, Result};

use crate::{
    broker::Broker,
    message::{Item, Message, MessageBuilder, Value},
    publish::{Publish, PublishTarget, Published},
};

/// The most requests that may wait at a time.
pub const REQUESTS_MAX: usize = 100_000;
/// What the name of an inbox begins with.
pub const INBOX: &str = "_inbox.";
/// How long after its last consumer left a queue still counts as listened to: between two polls of a
/// client without a connection it has none.
const LISTENED: std::time::Duration = std::time::Duration::from_secs(5);

/// The requests that wait for their reply.
#[derive(Debug)]
pub(crate) struct Inbox {
    /// The name of this process' inbox, without what it begins with.
    node: u64,
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Message>>>,
}

impl Inbox {
    pub(crate) fn new(node: u64) -> Self {
        Self { node, next: AtomicU64::new(1), waiting: Mutex::default() }
    }

    fn name(&self) -> String {
        format!("{INBOX}{:016x}", self.node)
    }
}

/// Takes a request out of the inbox however it ends.
struct Waiting<'a>(&'a Inbox, u64);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.lock().remove(&self.1);
    }
}

impl Broker {
    /// Publishes a request, waits for its reply until the deadline, and gives it. Dropped, it forgets
    /// the reply, not the request.
    ///
    /// # Errors
    /// [`Reason::NoListener`] when nobody consumes the queue or subscribes to the topic,
    /// [`Reason::ReplyTimeout`] when no reply came in time, [`Reason::Overload`] when
    /// [`REQUESTS_MAX`] wait already, [`Reason::MalformedMessage`] for what is not an event, and what
    /// [`Broker::publish`] says.
    pub async fn request(
        &self,
        target: &PublishTarget,
        publish: Publish,
        deadline: Deadline,
    ) -> Result<Message> {
        if !self.is_listened_to(target) {
            let place = match target {
                PublishTarget::Queue(queue) => format!("nobody consumes queue {}", queue.key()),
                PublishTarget::Topic(topic) => {
                    format!("nobody subscribes to topic {}", topic.key())
                }
            };
            return Err(Error::new(Reason::NoListener, place));
        }
        let send = async |request| self.publish(target, &[request], None).await;
        self.ask(publish, deadline, send).await
    }

    /// Sends a request by `send`, with a place in the inbox for its reply, and waits for that until the
    /// deadline.
    pub(crate) async fn ask(
        &self,
        publish: Publish,
        deadline: Deadline,
        send: impl AsyncFnOnce(Publish) -> Result<Published>,
    ) -> Result<Message> {
        let inbox = &self.inner().inbox;
        let number = inbox.next.fetch_add(1, Ordering::Relaxed);
        let (tell, told) = oneshot::channel();
        {
            let mut waiting = inbox.waiting.lock();
            if waiting.len() >= REQUESTS_MAX {
                return Err(Error::new(Reason::Overload, "too many requests wait for their reply"));
            }
            waiting.insert(number, tell);
        }
        let _waiting = Waiting(inbox, number);
        let left = deadline.left(self.clock().now());
        let correlation = format!("{number:x}");
        let message = addressed(&publish.message, &inbox.name(), &correlation)?;
        // Nobody wants the answer to a request that is over.
        let ttl = match (publish.ttl, left) {
            (Some(ttl), Some(left)) => Some(ttl.min(left)),
            (ttl, left) => ttl.or(left),
        };
        let late = || Error::new(Reason::ReplyTimeout, "no reply came before the deadline");
        if left.is_some_and(|left| left.is_zero()) {
            return Err(late());
        }
        // The deadline is also that of the publish, which waits for room and for the disk.
        let answered = async {
            send(Publish { message, ttl, ..publish }).await?;
            told.await.map_err(|_error| late())
        };
        match left {
            None => answered.await,
            Some(left) => {
                tokio::time::timeout(left, answered).await.unwrap_or_else(|_| Err(late()))
            }
        }
    }

    /// Hands a reply to the request that it answers: `reply_to` and `correlation` are the request's
    /// attributes. Whether somebody still waits for it.
    pub fn reply(&self, reply_to: &str, correlation: &str, reply: Message) -> bool {
        let inbox = &self.inner().inbox;
        if reply_to != inbox.name() {
            return false;
        }
        let Ok(number) = u64::from_str_radix(correlation, 16) else { return false };
        let waiting = inbox.waiting.lock().remove(&number);
        waiting.is_some_and(|tell| tell.send(reply).is_ok())
    }

    fn is_listened_to(&self, target: &PublishTarget) -> bool {
        match target {
            PublishTarget::Queue(queue) => {
                let usage = &queue.usage;
                queue.consumers() > 0
                    || (usage.had_consumer() && self.clock().now().since(usage.last()) < LISTENED)
            }
            PublishTarget::Topic(topic) => topic.subscriptions() > 0,
        }
    }
}

/// The message with the attributes of a request.
fn addressed(message: &Message, reply_to: &str, correlation: &str) -> Result<Message> {
    let Some(event) = message.event() else {
        return Err(Error::new(Reason::MalformedMessage, "a request is an event"));
    };
    let mut builder = MessageBuilder::event(message.len() + 64);
    for item in event.items() {
        builder = match item {
            Item::Attribute("replyto" | "correlationid", _) => builder,
            Item::Attribute(name, value) => builder.attribute(name, value),
            Item::Header(name, value) => builder.header(name, value),
            Item::NoData => builder.no_data(),
        };
    }
    builder
        .attribute("replyto", Value::Text(reply_to))
        .attribute("correlationid", Value::Text(correlation))
        .body(&message.body())
        .finish()
}
