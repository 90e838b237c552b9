//! Payloads that are held to a schema, by whoever keeps schemas: a seam, since the broker knows none.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use weft_kernel::{Error, Reason, Result};

use crate::{broker::Broker, message::Message, name::Key};

/// What becomes of a message that does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Enforcement {
    /// Nobody looks.
    #[default]
    Off,
    /// It is taken, counted and logged.
    Warn,
    /// It is refused.
    Reject,
}

/// The schema that the messages of a topic are held to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PayloadSchema {
    /// The subject of the registry.
    pub subject: String,
    /// What becomes of a message that does not fit.
    #[serde(default)]
    pub enforce: Enforcement,
}

/// Holds messages to schemas.
pub trait PayloadCheck: Send + Sync {
    /// Holds a message for a topic to a schema. Must be quick and must not wait.
    ///
    /// # Errors
    /// [`Reason::SchemaMismatch`] with where and why, if it is to be refused.
    fn check(&self, topic: &Key, schema: &PayloadSchema, message: &Message) -> Result<()>;
}

impl Broker {
    /// Has what is published from now on held to schemas, where topics say so; the first who checks stays.
    pub fn check_payloads_by(&self, check: Arc<dyn PayloadCheck>) {
        let _ = self.inner().payload_check.set(check);
    }
}

/// Refuses a message that does not fit the schema of its topic.
pub(crate) fn check(
    by: Option<&Arc<dyn PayloadCheck>>,
    topic: &Key,
    schema: &PayloadSchema,
    message: &Message,
) -> Result<()> {
    match (schema.enforce, by) {
        (Enforcement::Off, _) => Ok(()),
        (_, Some(by)) => by.check(topic, schema, message),
        (Enforcement::Warn, None) => Ok(()),
        (Enforcement::Reject, None) => Err(Error::new(
            Reason::Misconfigured,
            format!(
                "topic {topic} holds messages to the schemas of {}, and this node keeps no schemas",
                schema.subject
            ),
        )),
    }
}
