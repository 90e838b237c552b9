//! Declaring, altering and deleting queues, topics and subscriptions, and finding them again.
//!
//! A definition is an entry of the map `broker/definitions`, written after the log and the groups are
//! there and removed before they go: what has no definition does not exist, whatever a crash left
//! behind, and is swept away before its name is used again.

mod queue;
mod subscription;
mod together;
mod topic;

pub use together::{Declarations, Prepared};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use weft_kernel::{Error, Reason, Result};
use weft_ledger::{Durability, ExpectValue, GroupId, GroupOptions, LogId, LogOptions, Transaction};

use crate::{
    broker::Broker,
    name::{Key, SubscriptionKey},
    options::{QueueOptions, SubscriptionOptions, TopicOptions},
};

/// A definition as it is stored. Names are kept apart so that nothing is parsed out of a text.
#[derive(Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Definition {
    Queue { space: String, name: String, options: Box<QueueOptions> },
    Topic { space: String, name: String, options: Box<TopicOptions> },
    Subscription { space: String, topic: String, name: String, options: Box<SubscriptionOptions> },
}

impl Definition {
    pub(crate) fn of_queue(key: &Key, options: QueueOptions) -> Self {
        Self::Queue {
            space: key.space.to_string(),
            name: key.name.to_string(),
            options: Box::new(options),
        }
    }

    pub(crate) fn of_topic(key: &Key, options: TopicOptions) -> Self {
        Self::Topic {
            space: key.space.to_string(),
            name: key.name.to_string(),
            options: Box::new(options),
        }
    }

    pub(crate) fn of_subscription(key: &SubscriptionKey, options: SubscriptionOptions) -> Self {
        Self::Subscription {
            space: key.topic.space.to_string(),
            topic: key.topic.name.to_string(),
            name: key.name.to_string(),
            options: Box::new(options),
        }
    }
}

/// Refuses what is to be kept by another engine: the broker keeps what is its own.
fn check_engine(engine: Option<&str>) -> Result<()> {
    match engine {
        None => Ok(()),
        Some(name) => Err(Error::new(
            Reason::NotSupported,
            format!("engine: `{name}` is not the embedded engine, which is asked here"),
        )),
    }
}

pub(crate) fn encode(value: &impl Serialize) -> Result<Bytes> {
    serde_json::to_vec(value).map(Bytes::from).map_err(|error| {
        Error::new(Reason::Internal, "a definition cannot be written").because(error)
    })
}

pub(crate) fn decode<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| {
        Error::new(Reason::StorageCorrupt, format!("the definition of {what} cannot be read"))
            .because(error)
    })
}

/// Refuses a change of what stays as it was declared, and says of which.
fn check_fixed(fixed: &[(&str, bool)], remedy: &str) -> Result<()> {
    let changed: Vec<&str> =
        fixed.iter().filter_map(|(option, changed)| changed.then_some(*option)).collect();
    if changed.is_empty() {
        return Ok(());
    }
    let say = format!("{} cannot be altered: {remedy}", changed.join(" and "));
    Err(Error::new(Reason::DefinitionConflict, say))
}

impl Broker {
    /// Drops the log of a name that has no definition, with its groups: what is left of a declaration or
    /// deletion that a crash cut short was never or is no more there.
    async fn sweep_log(&self, name: &str) -> Result<()> {
        if let Some((log, _)) = self.store().find_log(name).await? {
            self.store().drop_log(log).await?;
        }
        Ok(())
    }

    /// The log of a definition, made, or altered where it is otherwise: a crash amid an alteration
    /// leaves the log ahead of its definition, which is what counts.
    async fn log_as_defined(&self, name: &str, options: LogOptions) -> Result<LogId> {
        match self.store().find_log(name).await? {
            Some((log, had)) => {
                if had != options {
                    self.store().alter_log(log, options).await?;
                }
                Ok(log)
            }
            None => self.store().create_log(name, options).await,
        }
    }

    /// The group of a definition, as [`Broker::log_as_defined`] has it for the log. One that is there has
    /// started, so its start is looked up no more.
    async fn group_as_defined(&self, name: &str, options: GroupOptions) -> Result<GroupId> {
        match self.store().find_group(name).await? {
            Some((group, had)) => {
                let options = GroupOptions { start: had.start, ..options };
                if had != options {
                    self.store().alter_group(group, options).await?;
                }
                Ok(group)
            }
            None => self.store().create_group(name, options).await,
        }
    }

    async fn define(&self, stored: String, definition: &Definition) -> Result<()> {
        let value = encode(definition)?;
        let put = Transaction::new(Durability::Fsync).put(
            self.inner().maps.definitions,
            stored,
            value,
            ExpectValue::Any,
        );
        self.store().commit(put).await?;
        Ok(())
    }

    /// Takes definitions back, all at once.
    async fn undefine(&self, stored: impl IntoIterator<Item = String>) -> Result<()> {
        let map = self.inner().maps.definitions;
        let delete = stored.into_iter().fold(Transaction::new(Durability::Fsync), |delete, one| {
            delete.delete(map, one, ExpectValue::Any)
        });
        self.store().commit(delete).await?;
        Ok(())
    }

    /// Finds again what was declared.
    pub(crate) async fn load(&self) -> Result<()> {
        let mut after = None;
        let mut subscriptions = Vec::new();
        loop {
            let map = self.inner().maps.definitions;
            let page = self.store().scan(map, b"", after.clone(), 256).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (stored, value) in page {
                let what = String::from_utf8_lossy(&stored).into_owned();
                if !matches!(stored.get(..2), Some(b"q/" | b"t/" | b"s/")) {
                    continue;
                }
                match decode(&what, &value.data)? {
                    Definition::Queue { space, name, options } => {
                        self.attach_queue(&Key::new(&space, &name)?, *options).await?;
                    }
                    Definition::Topic { space, name, options } => {
                        self.attach_topic(&Key::new(&space, &name)?, *options).await?;
                    }
                    // Topics come after subscriptions in the map's order.
                    Definition::Subscription { space, topic, name, options } => {
                        let topic = Key::new(&space, &topic)?;
                        subscriptions.push((SubscriptionKey::new(&topic, &name)?, *options));
                    }
                }
            }
        }
        for (key, options) in subscriptions {
            self.attach_subscription(&key, options).await?;
        }
        self.load_parked().await
    }
}
