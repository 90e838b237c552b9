//! Messages that are published at a time, once or again and again, and can be listed and cancelled.
//!
//! A schedule is an entry of the map `broker/schedules` with its message in it; maintenance publishes
//! the message and removes or moves the entry in one transaction, so that it fires once whatever
//! happens. (A delay that nobody needs to find again is cheaper as a message with a due time:
//! [`Publish::due_ms`].)
//!
//! A firing whose time came while nobody kept is missed once the next one is due too, or after a minute:
//! with [`Missed::Once`] all that were missed are one firing, with [`Missed::Skip`] none. A wall clock that
//! is set forward is like an absence; one that is set back by more than a minute begins the rule anew, so
//! that no schedule is silent until the clock is where it was. Each firing of a recurring event has an id
//! of its own.
//!
//! A schedule that is made again as it is goes on as if nothing had been said.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use weft_kernel::{Error, Reason, Result, Rng, Tick};
use weft_ledger::{
    Durability, ExpectValue, Op, Transaction, transaction::MAP_VALUE_BYTES_MAX, until_durable,
};

use crate::{
    broker::Broker,
    cron::Cron,
    declare::decode,
    message::{Item, Message, MessageBuilder, Value},
    name::{Key, stored},
    publish::{Publish, PublishTarget},
    varint,
};

/// Later than this is missed in any case; and a clock set back by more begins a rule anew.
const MISSED_AFTER_MS: u64 = 60_000;
/// How long a schedule waits whose target is not there or takes nothing.
const PUT_OFF: Duration = Duration::from_secs(10);
/// How many fire before other maintenance gets its turn.
const FIRED_AT_ONCE: usize = 1_000;
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
    /// They fire once together, at once.
    #[default]
    Once,
    /// They do not fire; the next one does.
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
    due_of: HashMap<Bytes, Due>,
    /// The latest time that the wall clock has shown.
    seen_ms: u64,
}

/// When a schedule is due, and the transaction that said so: a later one is never undone by who comes to
/// note an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Due {
    ms: u64,
    seq: u64,
}

impl Schedules {
    fn set(&mut self, entry: Bytes, due: Due) {
        if self.due_of.get(&entry).is_some_and(|known| known.seq > due.seq) {
            return;
        }
        self.remove(&entry);
        self.by_due.insert((due.ms, entry.clone()));
        self.due_of.insert(entry, due);
    }

    /// Forgets what a transaction has deleted.
    fn forget(&mut self, entry: &Bytes, seq: u64) {
        if self.due_of.get(entry).is_some_and(|known| known.seq <= seq) {
            self.remove(entry);
        }
    }

    fn remove(&mut self, entry: &Bytes) {
        if let Some(due) = self.due_of.remove(entry) {
            self.by_due.remove(&(due.ms, entry.clone()));
        }
    }

    /// Whether the wall clock was set back since it was looked at last.
    fn set_back(&mut self, now_ms: u64) -> bool {
        let back = self.seen_ms.saturating_sub(now_ms) > MISSED_AFTER_MS;
        self.seen_ms = if back { now_ms } else { self.seen_ms.max(now_ms) };
        back
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
        let Some(rule_ms) = self.next(after_ms)? else { return Ok(false) };
        self.rule_ms = rule_ms;
        self.shake(rng);
        Ok(true)
    }

    /// The first time after `after_ms` by its rule.
    fn next(&self, after_ms: u64) -> Result<Option<u64>> {
        let When::Recurring { cron, zone, .. } = &self.when else { return Ok(None) };
        Ok(Cron::new(cron, zone)?.next(after_ms, self.made_ms))
    }

    /// Adds its jitter.
    fn shake(&mut self, rng: &mut Rng) {
        let late = u64::try_from(rng.up_to(self.jitter()).as_millis()).unwrap_or(u64::MAX);
        self.due_ms = self.rule_ms.saturating_add(late);
    }

    fn jitter(&self) -> Duration {
        match &self.when {
            When::At(_) => Duration::ZERO,
            When::Recurring { jitter, .. } => *jitter,
        }
    }

    /// Before this, whatever should have fired has been missed or is being fired. What jitter may still
    /// put off is not missed.
    fn reached(&self, now_ms: u64) -> u64 {
        let jitter = u64::try_from(self.jitter().as_millis()).unwrap_or(u64::MAX);
        now_ms.saturating_sub(jitter).max(self.rule_ms)
    }

    /// Passes over the firings that were missed, if those are to be skipped; whether any is left that
    /// fires now.
    fn skip_missed(&mut self, now_ms: u64) -> Result<bool> {
        let jitter_ms = u64::try_from(self.jitter().as_millis()).unwrap_or(u64::MAX);
        let over = |ms: u64| ms.saturating_add(jitter_ms) <= now_ms;
        if !self.next(self.rule_ms)?.is_some_and(over)
            && now_ms.saturating_sub(self.due_ms) <= MISSED_AFTER_MS
        {
            return Ok(true);
        }
        // The last one whose time has come may be only a moment late.
        let from = now_ms.saturating_sub(jitter_ms).saturating_sub(MISSED_AFTER_MS);
        let mut last = None;
        let mut at = from.max(self.rule_ms);
        while let Some(next) = self.next(at)?.filter(|next| over(*next)) {
            (last, at) = (Some(next), next);
        }
        if let Some(last) = last {
            (self.rule_ms, self.due_ms) = (last, last);
        }
        Ok(last.is_some())
    }

    /// Whether it stands as it would on a clock that was more than a minute ahead.
    fn is_ahead(&self, now_ms: u64) -> Result<bool> {
        let next = self.next(now_ms.saturating_add(MISSED_AFTER_MS))?;
        Ok(next.is_some_and(|next| next < self.rule_ms))
    }

    /// Takes over where a schedule stands that had the same rule.
    fn go_on_from(&mut self, had: &Self, rng: &mut Rng) {
        let same = match (&self.when, &had.when) {
            (
                When::Recurring { cron, zone, .. },
                When::Recurring { cron: had_cron, zone: had_zone, .. },
            ) => (cron, zone) == (had_cron, had_zone),
            (now, had) => now == had,
        };
        if !same {
            return;
        }
        (self.made_ms, self.fired, self.rule_ms) = (had.made_ms, had.fired, had.rule_ms);
        self.due_ms = had.due_ms;
        if self.jitter() != had.jitter() {
            self.shake(rng);
        }
    }
}

/// Whether two messages are the same but for what each making of an event gives anew: its id, and where
/// its trace begins.
fn is_same(one: &Message, other: &Message) -> bool {
    if one.stored() == other.stored() {
        return true;
    }
    let (Some(one_event), Some(other_event)) = (one.event(), other.event()) else { return false };
    let anew = |item: &Item<'_>| {
        matches!(item, Item::Attribute("id" | "time" | "traceparent" | "tracestate", _))
    };
    one_event.items().filter(|item| !anew(item)).eq(other_event.items().filter(|item| !anew(item)))
        && one.body() == other.body()
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
        let fresh = self.new_schedule(id, target, when, publish)?;
        let (map, entry) = (self.inner().maps.schedules, Bytes::from(stored::schedule(id)));
        loop {
            let mut schedule = fresh.clone();
            let mut expect = ExpectValue::Absent;
            if let Some(value) = self.store().get(map, &entry).await? {
                expect = ExpectValue::Version(value.version);
                let (had, message) = Stored::decode(&value.data)?;
                schedule.go_on_from(&had, &mut self.rng());
                if schedule == had && is_same(&message, &publish.message) {
                    return schedule.public(message);
                }
            }
            let value = schedule.encode(&publish.message)?;
            let put = Transaction::new(Durability::Fsync).put(map, entry.clone(), value, expect);
            match self.put_schedule(put, &entry, Some(schedule.due_ms)).await {
                // It has fired meanwhile, or somebody else has changed it.
                Err(error) if error.reason() == Reason::VersionConflict => {}
                Err(error) => return Err(error),
                Ok(()) => return schedule.public(publish.message.clone()),
            }
        }
    }

    /// A schedule as it is kept that is made now, wherever it leads.
    fn new_schedule(
        &self,
        id: &Key,
        target: ScheduleTarget,
        when: When,
        publish: &Publish,
    ) -> Result<Stored> {
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
        Ok(schedule)
    }

    /// Checks that a schedule can be made or changed, but for whether its target is there.
    pub(crate) fn check_schedule(
        &self,
        id: &Key,
        target: &ScheduleTarget,
        when: &When,
        publish: &Publish,
    ) -> Result<()> {
        let schedule = self.new_schedule(id, target.clone(), when.clone(), publish)?;
        schedule.encode(&publish.message).map(|_| ())
    }

    /// Commits a change of one schedule. It is noted when it is taken, and not when it is durable: who
    /// waits for that may leave before.
    async fn put_schedule(
        &self,
        transaction: Transaction,
        entry: &Bytes,
        due_ms: Option<u64>,
    ) -> Result<()> {
        let receipt = loop {
            match self.store().submit_now(transaction.clone()) {
                Ok(receipt) => break receipt,
                Err(refused) if refused.error.reason() == Reason::StorageBusy => self.room().await,
                Err(refused) => return Err(refused.error),
            }
        };
        self.note_schedule(entry, due_ms, receipt.seq);
        self.inner().stir.notify_one();
        until_durable(self.store(), receipt.seq, receipt.durability).await
    }

    fn note_schedule(&self, entry: &Bytes, due_ms: Option<u64>, seq: u64) {
        let mut schedules = self.inner().schedules.lock();
        match due_ms {
            Some(ms) => schedules.set(entry.clone(), Due { ms, seq }),
            None => schedules.forget(entry, seq),
        }
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
        match self.put_schedule(delete, &entry, None).await {
            Err(error) if error.reason() == Reason::VersionConflict => {
                Err(Error::new(Reason::NoMessage, format!("there is no schedule {id}")))
            }
            done => done,
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
                let due = Due { ms: schedule.due_ms, seq: 0 };
                self.inner().schedules.lock().set(entry, due);
            }
        }
    }

    /// Begins the rules of schedules anew that stand as on a clock that was ahead.
    pub(crate) async fn begin_anew(&self, now_ms: u64) -> Result<()> {
        let map = self.inner().maps.schedules;
        let entries: Vec<Bytes> = self.inner().schedules.lock().due_of.keys().cloned().collect();
        for entry in entries {
            let Some(value) = self.store().get(map, &entry).await? else { continue };
            let (mut schedule, message) = Stored::decode(&value.data)?;
            if !schedule.is_ahead(now_ms)? || !schedule.advance(now_ms, &mut self.rng())? {
                continue;
            }
            let put = Transaction::new(Durability::Memory).put(
                map,
                entry.clone(),
                schedule.encode(&message)?,
                ExpectValue::Version(value.version),
            );
            match self.put_schedule(put, &entry, Some(schedule.due_ms)).await {
                Err(error) if error.reason() != Reason::VersionConflict => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// When the next schedule fires, on the broker's clock.
    pub(crate) fn next_schedule(&self) -> Option<Tick> {
        let due_ms = self.inner().schedules.lock().by_due.first().map(|(due_ms, _)| *due_ms)?;
        let left = Duration::from_millis(due_ms.saturating_sub(self.now_ms()));
        Some(self.clock().now().plus(left))
    }

    /// Fires what is due.
    pub(crate) async fn fire_schedules(&self) -> Result<()> {
        let began_ms = self.now_ms();
        let set_back = self.inner().schedules.lock().set_back(began_ms);
        if set_back {
            self.begin_anew(began_ms).await?;
        }
        // What keeps coming while this goes on has its turn after the others have had theirs.
        for _ in 0..FIRED_AT_ONCE {
            let now_ms = self.now_ms();
            let due = {
                let schedules = self.inner().schedules.lock();
                let first = schedules.by_due.first().filter(|(due_ms, _)| *due_ms <= now_ms);
                first.and_then(|(_, entry)| Some((entry.clone(), *schedules.due_of.get(entry)?)))
            };
            let Some((entry, due)) = due else { return Ok(()) };
            match self.fire(&entry, now_ms).await {
                Ok(Fired::At(due_ms, seq)) => self.note_schedule(&entry, due_ms, seq),
                Ok(Fired::NotDue(due_ms)) => self.note_schedule(&entry, due_ms, due.seq),
                // Changed by somebody else meanwhile, who notes it.
                Err(error) if error.reason() == Reason::VersionConflict => {
                    tokio::task::yield_now().await;
                }
                Err(error) if error.reason() == Reason::StoragePoisoned => return Err(error),
                Err(error) => {
                    tracing::debug!(error = %error.detail(), "a schedule could not fire, and is put off");
                    let later = now_ms.saturating_add(PUT_OFF.as_millis() as u64);
                    self.note_schedule(&entry, Some(later), due.seq);
                }
            }
        }
        Ok(())
    }

    /// Publishes one schedule's message and moves or removes it.
    async fn fire(&self, entry: &Bytes, now_ms: u64) -> Result<Fired> {
        let map = self.inner().maps.schedules;
        let Some(value) = self.store().get(map, entry).await? else {
            return Ok(Fired::NotDue(None));
        };
        let (mut schedule, message) = Stored::decode(&value.data)?;
        if schedule.due_ms > now_ms {
            return Ok(Fired::NotDue(Some(schedule.due_ms)));
        }
        let target = self.schedule_target(&schedule.space, &schedule.target)?;
        let missed = match &schedule.when {
            When::At(_) => None,
            When::Recurring { missed, .. } => Some(*missed),
        };
        let fires = missed != Some(Missed::Skip) || schedule.skip_missed(now_ms)?;
        let mut batch = self.batch();
        if fires {
            let message = match missed {
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
                PublishTarget::Queue(queue) => batch.queue(queue, &publish)?,
                PublishTarget::Topic(topic) => batch.topic(topic, &publish, None)?,
            }
            schedule.fired += 1;
        }
        let expect = ExpectValue::Version(value.version);
        let reached = schedule.reached(now_ms);
        let again = missed.is_some() && schedule.advance(reached, &mut self.rng())?;
        let op = if again {
            let value = schedule.encode(&message)?;
            Op::Put { map, key: entry.clone(), value, expires_ms: 0, expect }
        } else {
            Op::Delete { map, key: entry.clone(), expect }
        };
        batch.op(op, Durability::Fsync);
        let receipt = self.submit_with_room(batch).await?;
        // What is taken is noted, also if it never gets to the disk.
        self.note_schedule(entry, again.then_some(schedule.due_ms), receipt.seq);
        self.until_durable(&receipt).await?;
        Ok(Fired::At(again.then_some(schedule.due_ms), receipt.seq))
    }

    fn schedule_target(&self, space: &str, target: &ScheduleTarget) -> Result<PublishTarget> {
        Ok(match target {
            ScheduleTarget::Queue(name) => {
                PublishTarget::Queue(self.queue(&Key::new(space, name)?)?)
            }
            ScheduleTarget::Topic(name) => {
                PublishTarget::Topic(self.topic(&Key::new(space, name)?)?)
            }
        })
    }
}

/// What became of a schedule that seemed to be due; and when it is due again, if ever.
enum Fired {
    /// It fired, or passed its turn over, by a transaction.
    At(Option<u64>, u64),
    /// It is due later, or gone.
    NotDue(Option<u64>),
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
