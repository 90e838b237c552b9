//! Dead letters: where they go, and the queues that keep them.
//!
//! A queue `orders` has its dead letters in the queue `orders.dead`, made when the first one dies: it
//! keeps them for 14 days, gives none up, and is consumed, looked at and redriven like any other.

use std::{sync::Arc, time::Duration};

use smallvec::SmallVec;
use weft_kernel::{Error, Reason, Result};
use weft_ledger::{Durability, Expect, NewRecord};

use crate::{
    broker::Broker,
    message::{Death, Message},
    name::Key,
    options::{DeadLetter, QueueOptions},
    publish::{Batch, Publish, PublishTarget},
    source::{MessageSource, Queue},
};

/// How long a dead letter is kept.
pub const DEAD_FOR: Duration = Duration::from_secs(14 * 86_400);

/// A message that is given up, and its story.
#[derive(Clone, Debug)]
pub struct DeadMessage {
    /// The message as it was published.
    pub message: Message,
    /// What happened to it.
    pub death: Death,
}

/// Says where the dead letters of queues go that have a hook for them ([`DeadLetter::Hook`]).
///
/// It is asked while a transaction is put together: it must be quick, must not wait, and must not call
/// the broker but to find queues.
pub trait DeadLetterRoute: Send + Sync {
    /// The queues that take a dead letter of `queue`, each with the message in the form it is to have.
    /// `hook` is the text of the queue's [`DeadLetter::Hook`]. Without any the message is dropped and
    /// counted.
    fn route(
        &self,
        queue: &Queue,
        hook: &str,
        dead_message: &DeadMessage,
    ) -> SmallVec<[(Arc<Queue>, Publish); 1]>;
}

/// The options of a queue of dead letters.
pub(crate) fn dead_queue_options() -> QueueOptions {
    QueueOptions {
        message_ttl: Some(DEAD_FOR),
        failures_max: None,
        dead_letter: DeadLetter::None,
        // Whatever could be published can be kept with its story.
        message_bytes_max: u64::MAX,
        ..QueueOptions::default()
    }
}

/// The queue of the dead letters of what is called `name`, in the space of a key; `None` if none is.
pub(crate) fn dead_key_of(
    dead_letter: &DeadLetter,
    space: &Key,
    name: &str,
) -> Result<Option<Key>> {
    match dead_letter {
        DeadLetter::To(name) => space.sibling(name).map(Some),
        DeadLetter::Queue => space.sibling(&format!("{name}.dead")).map(Some),
        DeadLetter::Hook(_) | DeadLetter::None => Ok(None),
    }
}

/// Checks that what is called `name`, in the space of a key, can have the dead letters it asks for.
///
/// # Errors
/// [`Reason::MalformedRequest`] when its name leaves no room for `.dead`.
pub(crate) fn check_dead_key(dead_letter: &DeadLetter, space: &Key, name: &str) -> Result<()> {
    dead_key_of(dead_letter, space, name).map(|_| ()).map_err(|error| {
        let say = format!("dead_letter: the name `{name}` leaves no room for `.dead`");
        Error::new(Reason::MalformedRequest, say).because(error)
    })
}

impl Broker {
    /// The queue that keeps the dead letters of a queue or subscription; `None` if none does.
    ///
    /// # Errors
    /// When its name leaves no room for `.dead`.
    pub fn dead_key(&self, source: &MessageSource) -> Result<Option<Key>> {
        match source {
            MessageSource::Queue(queue) => {
                let settings = queue.settings();
                dead_key_of(&settings.options.dead_letter, &queue.key, &queue.key.name)
            }
            MessageSource::Subscription(subscription) => {
                let (settings, key) = (subscription.settings(), &subscription.key);
                dead_key_of(&settings.options.dead_letter, &key.topic, &key.name)
            }
        }
    }

    /// The queue of dead letters, made if it is not there.
    async fn dead_queue(&self, source: &MessageSource) -> Result<Arc<Queue>> {
        let Some(key) = self.dead_key(source)? else {
            return Err(Error::new(Reason::Misconfigured, "there is nowhere for dead letters"));
        };
        loop {
            if let Ok(queue) = self.queue(&key) {
                return Ok(queue);
            }
            match self.declare_queue(&key, dead_queue_options()).await {
                // Somebody else made a queue of this name: that is where they go.
                Err(error) if error.reason() == Reason::DefinitionConflict => {}
                made => return made,
            }
        }
    }

    /// Adds the dead letter of a message to the transaction that gives it up.
    pub(crate) async fn dead_letter(
        &self,
        source: &MessageSource,
        dead_message: DeadMessage,
        batch: &mut Batch,
    ) -> Result<()> {
        if let MessageSource::Queue(queue) = source {
            let hook = match &queue.settings().options.dead_letter {
                DeadLetter::Hook(hook) => Some(hook.clone()),
                DeadLetter::Queue | DeadLetter::To(_) | DeadLetter::None => None,
            };
            if let Some(hook) = hook {
                let Some(route) = self.inner().route.get() else {
                    return Err(Error::new(
                        Reason::Misconfigured,
                        format!(
                            "queue {} has a hook for its dead letters, and nobody is there to route them",
                            queue.key
                        ),
                    ));
                };
                for (target, publish) in route.route(queue, &hook, &dead_message) {
                    // A queue that was deleted meanwhile is as if it had not been bound.
                    if !target.is_deleted() {
                        batch.dead_letter(&target, &publish);
                    }
                }
                return Ok(());
            }
        }
        let queue = self.dead_queue(source).await?;
        let (ttl, transient) = {
            let settings = queue.settings.read();
            (settings.options.message_ttl, settings.options.transient)
        };
        let expires_ms = ttl.map_or(0, |ttl| {
            self.now_ms().saturating_add(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX))
        });
        let data = dead_message.message.dead_lettered(&dead_message.death);
        let record = NewRecord {
            key: dead_message.death.key.clone(),
            priority: dead_message.death.priority,
            expires_ms,
            ..NewRecord::new(data)
        };
        let level = if transient { Durability::Memory } else { Durability::Fsync };
        batch.push(
            PublishTarget::Queue(queue),
            dead_message.message.len(),
            record,
            level,
            Expect::Any,
        );
        Ok(())
    }
}
