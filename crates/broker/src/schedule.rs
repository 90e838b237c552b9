//! Messages that are published at a time, once or again and again, and can be listed and cancelled.
//!
//! A schedule is an entry of the map `broker/schedules` with its message in it; the keeper publishes
//! the message and removes or moves the entry in one transaction, so that it fires once whatever
//! happens. (A delay that nobody needs to find again is cheaper as a message with a due time:
//! [`Publish::due_ms`].)
//!
//! What was due while nobody kept, by more than a minute, is missed: it fires once, late, or not at all,
//! as the schedule says. Each firing of a recurring event has an id of its own.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use weft_kernel::{Error, Reason, Result, Rng, Tick};
use weft_ledger::{Durability, ExpectValue, Op, Transaction, transaction::MAP_VALUE_BYTES_MAX};

use crate::{
    broker::Broker,
    cron::Cron,
    declare::decode,
    message::{Item, Message, MessageBuilder, Value},
    name::{Key, stored},
    publish::{Publish, Target},
    varint,
};

/// Later than this is missed.
const MISSED_AFTER: Duration = Duration::from_secs(60);
/// How long a schedule waits whose target is not there or takes nothing.
const PUT_OFF: Duration = Duration::from_secs(10);
const VERSION: u8 = 1;

/// What a schedule publishes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleTarget {
    /// A queue of the schedule's space.
    Queue(String),
    /// A topic of the schedule's space.
    Topic(String),
}

/// What happens to a firing that was missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Missed {
    /// It fires once, however many were missed.
    #[default]
    Once,
    /// It does not fire; the next one does.
    Skip,
}

/// When a schedule fires.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum When {
    /// Once, at this time in wall milliseconds.
    At(u64),
    /// Again and again.
    Recurring {
        /// A cron expression (see [`Cron`]).
        cron: String,
        /// An IANA time zone; empty for UTC.
        zone: String,
        /// What happens to what was missed.
        missed: Missed,
        /// Each firing is up to so much later, by chance.
        jitter: Duration,
    },
}

/// A schedule as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stored {
    space: String,
    id: String,
    target: ScheduleTarget,
    when: When,
    key: Vec<u8>,
    priority: u8,
    ttl: Option<Duration>,
    made_ms: u64,
    /// When it is due by its rule, and when it fires with its jitter.
    rule_ms: u64,
    due_ms: u64,
    fired: u64,
}

/// A schedule.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// Its id within its space.
    pub id: Key,
    /// What it publishes to.
    pub target: ScheduleTarget,
    /// When it fires.
    pub when: When,
    /// When it fires next: wall milliseconds.
    pub due_ms: u64,
    /// When it was made: wall milliseconds.
    pub made_ms: u64,
    /// How often it has fired.
    pub fired: u64,
    /// What it publishes.
    pub publish: Publish,
}

/// Which schedules there are, by when they are due.
#[derive(Debug, Default)]
pub(crate) struct Schedules {
    by_due: BTreeSet<(u64, Bytes)>,
    due_of: HashMap<Bytes, u64>,
}

impl Schedules {
    fn set(&mut self, entry: Bytes, due_ms: u64) {
        self.forget(&entry);
        self.by_due.insert((due_ms, entry.clone()));
        self.due_of.insert(entry, due_ms);
    }

    fn forget(&mut self, entry: &Bytes) {
        if let Some(due_ms) = self.due_of.remove(entry) {
            self.by_due.remove(&(due_ms, entry.clone()));
        }
    }
}

impl Stored {
    fn encode(&self, message: &Message) -> Result<Bytes> {
        let head = serde_json::to_vec(self).map_err(|error| {
            Error::new(Reason::Internal, "a schedule cannot be written").because(error)
        })?;
        let mut bytes = Vec::with_capacity(head.len() + message.len() + 8);
        bytes.push(VERSION);
        varint::put_bytes(&mut bytes, &head);
        bytes.extend_from_slice(message.stored());
        if bytes.len() > MAP_VALUE_BYTES_MAX {
            return Err(Error::new(
                Reason::MessageTooLarge,
                "a schedule and its message have at most 1 MiB together",
            ));
        }
        Ok(bytes.into())
    }

    fn decode(bytes: &Bytes) -> Result<(Self, Message)> {
        let corrupt = || Error::new(Reason::StorageCorrupt, "a schedule cannot be read");
        let mut rest: &[u8] = bytes;
        let (&version, after) = rest.split_first().ok_or_else(corrupt)?;
        rest = after;
        if version != VERSION {
            return Err(corrupt());
        }
        let head = varint::take_bytes(&mut rest).ok_or_else(corrupt)?;
        let message = Message::from_stored(bytes.slice(bytes.len() - rest.len()..))?;
        Ok((decode("a schedule", head)?, message))
    }

    fn public(self, message: Message) -> Result<Schedule> {
        let publish = Publish {
            key: Bytes::from(self.key),
            priority: self.priority,
            ttl: self.ttl,
            ..Publish::new(message)
        };
        Ok(Schedule {
            id: Key::new(&self.space, &self.id)?,
            target: self.target,
            when: self.when,
            due_ms: self.due_ms,
            made_ms: self.made_ms,
            fired: self.fired,
            publish,
        })
    }

    /// Moves it to its first firing after `after_ms`; whether there is one.
    fn advance(&mut self, after_ms: u64, rng: &mut Rng) -> Result<bool> {
        let When::Recurring { cron, zone, jitter, .. } = &self.when else { return Ok(false) };
        let Some(rule_ms) = Cron::new(cron, zone)?.next(after_ms, self.made_ms) else {
            return Ok(false);
        };
        self.rule_ms = rule_ms;
        let late = u64::try_from(rng.up_to(*jitter).as_millis()).unwrap_or(u64::MAX);
        self.due_ms = rule_ms.saturating_add(late);
        Ok(true)
    }
}

impl Broker {
    /// Makes a schedule, or changes the one that has this id.
    ///
    /// # Errors
    /// [`Reason::MalformedRequest`] for an expression or time zone that cannot be read or never fires,
    /// [`Reason::NoQueue`] or [`Reason::NoTopic`] without its target, [`Reason::MessageTooLarge`].
    pub async fn schedule(
        &self,
        id: &Key,
        target: ScheduleTarget,
        when: When,
        publish: &Publish,
    ) -> Result<Schedule> {
        self.schedule_target(&id.space, &target)?;
        let made_ms = self.now_ms();
        let due_ms = if let When::At(at) = when { at } else { 0 };
        let mut schedule = Stored {
            space: id.space.to_string(),
            id: id.name.to_string(),
            target,
            when,
            key: publish.key.to_vec(),
            priority: publish.priority,
            ttl: publish.ttl,
            made_ms,
            rule_ms: due_ms,
            due_ms,
            fired: 0,
        };
        if matches!(schedule.when, When::Recurring { .. })
            && !schedule.advance(made_ms, &mut self.rng())?
        {
            return Err(Error::new(Reason::MalformedRequest, "the schedule never fires"));
        }
        let entry = Bytes::from(stored::schedule(id));
        let value = schedule.encode(&publish.message)?;
        let put = Transaction::new(Durability::Fsync).put(
            self.inner().maps.schedules,
            entry.clone(),
            value,
            ExpectValue::Any,
        );
        self.store().commit(put).await?;
        self.inner().schedules.lock().set(entry, schedule.due_ms);
        self.inner().stir.notify_one();
        schedule.public(publish.message.clone())
    }

    /// Cancels a schedule. What it has published stays published.
    ///
    /// # Errors
    /// [`Reason::NoMessage`] when there is none: it has fired, or never was.
    pub async fn cancel_schedule(&self, id: &Key) -> Result<()> {
        let entry = Bytes::from(stored::schedule(id));
        let delete = Transaction::new(Durability::Fsync).delete(
            self.inner().maps.schedules,
            entry.clone(),
            ExpectValue::Present,
        );
        match self.store().commit(delete).await {
            Ok(_) => {
                self.inner().schedules.lock().forget(&entry);
                Ok(())
            }
            Err(refused) if refused.error.reason() == Reason::VersionConflict => {
                Err(Error::new(Reason::NoMessage, format!("there is no schedule {id}")))
            }
            Err(refused) => Err(refused.into()),
        }
    }

    /// One schedule by its id.
    ///
    /// # Errors
    /// What the store says.
    pub async fn schedule_of(&self, id: &Key) -> Result<Option<Schedule>> {
        let map = self.inner().maps.schedules;
        let Some(value) = self.store().get(map, stored::schedule(id).as_bytes()).await? else {
            return Ok(None);
        };
        let (schedule, message) = Stored::decode(&value.data)?;
        schedule.public(message).map(Some)
    }

    /// The schedules of a space after the id `after`, by id, at most `limit`.
    ///
    /// # Errors
    /// What the store says.
    pub async fn schedules(
        &self,
        space: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Schedule>> {
        let first = stored::schedule(&Key::new(space, "x")?);
        let prefix = first.strip_suffix('x').unwrap_or(&first);
        let after = after
            .map(|name| Key::new(space, name).map(|key| Bytes::from(stored::schedule(&key))))
            .transpose()?;
        let map = self.inner().maps.schedules;
        let page = self.store().scan(map, prefix.as_bytes(), after, limit).await?;
        page.into_iter()
            .map(|(_, value)| {
                let (schedule, message) = Stored::decode(&value.data)?;
                schedule.public(message)
            })
            .collect()
    }

    pub(crate) async fn load_schedules(&self) -> Result<()> {
        let mut after = None;
        loop {
            let map = self.inner().maps.schedules;
            let page = self.store().scan(map, b"", after, 256).await?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            for (entry, value) in page {
                let (schedule, _) = Stored::decode(&value.data)?;
                self.inner().schedules.lock().set(entry, schedule.due_ms);
            }
        }
    }

    /// When the next schedule fires, on the broker's clock.
    pub(crate) fn next_schedule(&self) -> Option<Tick> {
        let due_ms = self.inner().schedules.lock().by_due.first().map(|(due_ms, _)| *due_ms)?;
        let left = Duration::from_millis(due_ms.saturating_sub(self.now_ms()));
        Some(self.clock().now().plus(left))
    }

    /// Fires what is due.
    pub(crate) async fn fire_schedules(&self) -> Result<()> {
        loop {
            let now_ms = self.now_ms();
            let due = {
                let schedules = self.inner().schedules.lock();
                schedules.by_due.first().filter(|(due_ms, _)| *due_ms <= now_ms).cloned()
            };
            let Some((_, entry)) = due else { return Ok(()) };
            match self.fire(&entry, now_ms).await {
                Ok(Some(due_ms)) => self.inner().schedules.lock().set(entry, due_ms),
                Ok(None) => self.inner().schedules.lock().forget(&entry),
                // Changed by somebody else meanwhile: what they wrote is in the index already.
                Err(error) if error.reason() == Reason::VersionConflict => {}
                Err(error) if error.reason() == Reason::StoragePoisoned => return Err(error),
                Err(_) => {
                    let later = now_ms.saturating_add(PUT_OFF.as_millis() as u64);
                    self.inner().schedules.lock().set(entry, later);
                }
            }
        }
    }

    /// Publishes one schedule's message and moves or removes it; when it is due again.
    async fn fire(&self, entry: &Bytes, now_ms: u64) -> Result<Option<u64>> {
        let map = self.inner().maps.schedules;
        let Some(value) = self.store().get(map, entry).await? else { return Ok(None) };
        let (mut schedule, message) = Stored::decode(&value.data)?;
        if schedule.due_ms > now_ms {
            return Ok(Some(schedule.due_ms));
        }
        let target = self.schedule_target(&schedule.space, &schedule.target)?;
        let recurring = match &schedule.when {
            When::At(_) => None,
            When::Recurring { missed, .. } => Some(*missed),
        };
        let late = Duration::from_millis(now_ms - schedule.due_ms) > MISSED_AFTER;
        let mut batch = self.batch();
        if !(late && recurring == Some(Missed::Skip)) {
            let message = match recurring {
                None => message.clone(),
                Some(_) => firing(&message, schedule.rule_ms)?,
            };
            let publish = Publish {
                key: Bytes::from(schedule.key.clone()),
                priority: schedule.priority,
                ttl: schedule.ttl,
                ..Publish::new(message)
            };
            match &target {
                Target::Queue(queue) => batch.queue(queue, &publish)?,
                Target::Topic(topic) => batch.topic(topic, &publish, None)?,
            }
            schedule.fired += 1;
        }
        let after = if late { now_ms } else { schedule.rule_ms };
        let expect = ExpectValue::Version(value.version);
        let again = recurring.is_some() && schedule.advance(after, &mut self.rng())?;
        let op = if again {
            let value = schedule.encode(&message)?;
            Op::Put { map, key: entry.clone(), value, expires_ms: 0, expect }
        } else {
            Op::Delete { map, key: entry.clone(), expect }
        };
        batch.op(op, Durability::Fsync);
        self.commit(batch).await?;
        Ok(again.then_some(schedule.due_ms))
    }

    fn schedule_target(&self, space: &str, target: &ScheduleTarget) -> Result<Target> {
        Ok(match target {
            ScheduleTarget::Queue(name) => Target::Queue(self.queue(&Key::new(space, name)?)?),
            ScheduleTarget::Topic(name) => Target::Topic(self.topic(&Key::new(space, name)?)?),
        })
    }
}

/// The message of one firing: an event gets an id and a time of its own, the same if it is tried again.
fn firing(message: &Message, rule_ms: u64) -> Result<Message> {
    let Some(event) = message.event() else { return Ok(message.clone()) };
    let id = format!("{}-{rule_ms}", event.id());
    let time = i64::try_from(rule_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    let time = time.unwrap_or_default().to_string();
    let mut builder = MessageBuilder::event(message.len() + 64);
    for item in event.items() {
        builder = match item {
            Item::Attribute("id" | "time", _) => builder,
            Item::Attribute(name, value) => builder.attribute(name, value),
            Item::Header(name, value) => builder.header(name, value),
            Item::NoData => builder.no_data(),
        };
    }
    builder
        .attribute("id", Value::Text(&id))
        .attribute("time", Value::Text(&time))
        .body(&message.body())
        .finish()
}
