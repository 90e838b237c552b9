//! Messages of topics and events of streams held to the registry: what the broker and the streams ask.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use weft_broker::{Enforcement, Key, Message, PayloadCheck, PayloadSchema};
use weft_events::EventCheck;
use weft_kernel::{Error, Reason, Result, SystemClock, Tick};
use weft_schemas::{PayloadVerdict, Registry};

/// Time after one mismatch was logged in which no other is.
const SAID: Duration = Duration::from_secs(1);

/// Holds messages to schemas, and counts those that do not fit.
pub(super) struct Payloads {
    registry: Registry,
    /// What events are held to, by their types.
    pub(super) events: ArcSwap<HashMap<String, PayloadSchema>>,
    /// Those that were taken all the same, and those that were refused.
    pub(super) warned: AtomicU64,
    pub(super) refused: AtomicU64,
    /// When one was logged.
    said: Mutex<Option<Tick>>,
}

impl Payloads {
    pub(super) fn new(registry: Registry) -> Arc<Self> {
        let zero = AtomicU64::default;
        Arc::new(Self {
            registry,
            events: ArcSwap::default(),
            warned: zero(),
            refused: zero(),
            said: Mutex::default(),
        })
    }
}

impl PayloadCheck for Payloads {
    fn check(&self, topic: &Key, schema: &PayloadSchema, message: &Message) -> Result<()> {
        self.hold(schema, message, &format_args!("topic {topic}"))
    }
}

impl EventCheck for Payloads {
    fn check(&self, event: &Message) -> Result<()> {
        let events = self.events.load();
        let Some(kind) = event.event().filter(|_| !events.is_empty()) else { return Ok(()) };
        match events.get(kind.kind()) {
            Some(schema) if schema.enforce != Enforcement::Off => {
                self.hold(schema, event, &format_args!("events of type {}", kind.kind()))
            }
            _ => Ok(()),
        }
    }
}

impl Payloads {
    fn hold(&self, schema: &PayloadSchema, message: &Message, of: &dyn fmt::Display) -> Result<()> {
        let subject = &schema.subject;
        let rejects = schema.enforce == Enforcement::Reject;
        let fault = match self.registry.hold(subject, &message.body()) {
            PayloadVerdict::Fits => return Ok(()),
            PayloadVerdict::Unread if rejects => {
                let say = format!("the schemas of {subject} are being read: try again");
                return Err(Error::new(Reason::StorageBusy, say));
            }
            PayloadVerdict::Unread => return Ok(()),
            PayloadVerdict::Differs(fault) => fault,
        };
        let path = if fault.path.is_empty() { "/" } else { &fault.path };
        let say = format!(
            "the payload does not fit the schema of {subject} for {of}: at {path}: {}",
            fault.said
        );
        if rejects {
            self.refused.fetch_add(1, Relaxed);
            return Err(Error::new(Reason::SchemaMismatch, say));
        }
        let count = self.warned.fetch_add(1, Relaxed) + 1;
        let now = SystemClock::tick();
        let is_due = {
            let mut said = self.said.lock();
            let is_due = said.is_none_or(|last| last.plus(SAID) <= now);
            if is_due {
                *said = Some(now);
            }
            is_due
        };
        if is_due {
            tracing::warn!(count, "{say}");
        }
        Ok(())
    }
}
