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
//! A schedule that is made again as it is goes on as if nothing had been said. One that the configuration
//! declares is changed and removed by what it declares, and by nobody else.

mod declared;
mod fire;
mod index;
mod stored;

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use weft_kernel::{Error, Reason, Result, Rng};
use weft_ledger::{Durability, ExpectValue, Receipt, Transaction, until_durable};

pub(crate) use self::{declared::StagedSchedules, index::Schedules};
use self::{
    index::Due,
    stored::{Stored, is_same},
};
use crate::{
    broker::Broker,
    cron::Cron,
    name::{Key, stored as names},
    publish::{Publish, PublishTarget},
};

/// Later than this is missed in any case; and a clock set back by more begins a rule anew.
const MISSED_AFTER_MS: u64 = 60_000;

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
    /// Whether the configuration declares it.
    pub declared: bool,
    /// What it publishes.
    pub publish: Publish,
}

/// A schedule that is declared: id, target, times and message.
pub type DeclaredSchedule = (Key, ScheduleTarget, When, Publish);

impl When {
    /// The first time after `now_ms` by the rule, or the time itself; wall milliseconds.
    ///
    /// # Errors
    /// [`Reason::MalformedRequest`] for an expression or time zone that cannot be read or never fires.
    pub fn first(&self, now_ms: u64) -> Result<u64> {
        match self {
            Self::At(at) => Ok(*at),
            Self::Recurring { cron, zone, .. } => {
                Cron::new(cron, zone)?.next(now_ms, now_ms).ok_or_else(|| {
                    let say = format!("the schedule never fires: `{cron}` fits no day");
                    Error::new(Reason::MalformedRequest, say)
                })
            }
        }
    }
}

/// Checks all of a schedule but for whether its target is there; `bytes_max` is the largest message that
/// the target takes.
///
/// # Errors
/// As [`Broker::schedule`].
pub fn check(of: &DeclaredSchedule, bytes_max: u64, now_ms: u64) -> Result<()> {
    let (id, target, when, publish) = of;
    let made = Stored::new(id, target, when, publish, now_ms, &mut Rng::seeded(0))?;
    made.check(publish, bytes_max)?;
    made.encode(&publish.message).map(|_| ())
}

impl Broker {
    /// Makes a schedule, or changes the one that has this id.
    ///
    /// # Errors
    /// [`Reason::MalformedRequest`] for an expression or time zone that cannot be read or never fires,
    /// [`Reason::NoQueue`] or [`Reason::NoTopic`] without its target, [`Reason::MessageTooLarge`], and
    /// [`Reason::DefinitionConflict`] for one that the configuration declares otherwise.
    pub async fn schedule(
        &self,
        id: &Key,
        target: ScheduleTarget,
        when: When,
        publish: &Publish,
    ) -> Result<Schedule> {
        let bytes_max = self.schedule_target(&id.space, &target)?.message_bytes_max();
        let fresh = Stored::new(id, &target, &when, publish, self.now_ms(), &mut self.rng())?;
        fresh.check(publish, bytes_max)?;
        let (map, entry) = (self.inner().maps.schedules, Bytes::from(names::schedule(id)));
        loop {
            let changing = self.inner().scheduling.read().await;
            let mut schedule = fresh.clone();
            let mut expect = ExpectValue::Absent;
            if let Some(value) = self.store().get(map, &entry).await? {
                expect = ExpectValue::Version(value.version);
                let (had, message) = Stored::decode(&value.data)?;
                schedule.go_on_from(&had, &mut self.rng());
                schedule.declared = had.declared;
                if schedule == had && is_same(&message, &publish.message) {
                    return schedule.public(message);
                }
                if had.declared {
                    return Err(is_declared(id));
                }
            }
            let value = schedule.encode(&publish.message)?;
            let put = Transaction::new(Durability::Fsync).put(map, entry.clone(), value, expect);
            match self.submit_schedule(put, &entry, Some(schedule.due_ms)).await {
                // It has fired meanwhile, or somebody else has changed it.
                Err(error) if error.reason() == Reason::VersionConflict => {}
                Err(error) => return Err(error),
                Ok(receipt) => {
                    drop(changing);
                    until_durable(self.store(), receipt.seq, receipt.durability).await?;
                    return schedule.public(publish.message.clone());
                }
            }
        }
    }

    /// Puts a change of one schedule into the store. It is noted when it is taken, and not when it is
    /// durable: who waits for that may leave before.
    async fn submit_schedule(
        &self,
        transaction: Transaction,
        entry: &Bytes,
        due_ms: Option<u64>,
    ) -> Result<Receipt> {
        let receipt = loop {
            match self.store().submit_now(transaction.clone()) {
                Ok(receipt) => break receipt,
                Err(refused) if refused.error.reason() == Reason::StorageBusy => self.room().await,
                Err(refused) => return Err(refused.error),
            }
        };
        self.note_schedule(entry, due_ms, receipt.seq);
        self.inner().stir.notify_one();
        Ok(receipt)
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
    /// [`Reason::DefinitionConflict`] for one that the configuration declares.
    pub async fn cancel_schedule(&self, id: &Key) -> Result<()> {
        let entry = Bytes::from(names::schedule(id));
        let changing = self.inner().scheduling.read().await;
        if self.inner().schedules.lock().is_declared(&entry) {
            return Err(is_declared(id));
        }
        let delete = Transaction::new(Durability::Fsync).delete(
            self.inner().maps.schedules,
            entry.clone(),
            ExpectValue::Present,
        );
        let taken = self.submit_schedule(delete, &entry, None).await;
        drop(changing);
        match taken {
            Ok(receipt) => until_durable(self.store(), receipt.seq, receipt.durability).await,
            Err(error) if error.reason() == Reason::VersionConflict => {
                Err(Error::new(Reason::NoMessage, format!("there is no schedule {id}")))
            }
            Err(error) => Err(error),
        }
    }

    /// One schedule by its id.
    ///
    /// # Errors
    /// What the store says.
    pub async fn schedule_of(&self, id: &Key) -> Result<Option<Schedule>> {
        let map = self.inner().maps.schedules;
        let Some(value) = self.store().get(map, names::schedule(id).as_bytes()).await? else {
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
        let first = names::schedule(&Key::new(space, "x")?);
        let prefix = first.strip_suffix('x').unwrap_or(&first);
        let after = after
            .map(|name| Key::new(space, name).map(|key| Bytes::from(names::schedule(&key))))
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
                let mut schedules = self.inner().schedules.lock();
                schedules.declare(&entry, schedule.declared);
                schedules.set(entry, due);
            }
        }
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

/// That only the configuration changes a schedule.
fn is_declared(id: &Key) -> Error {
    Error::new(
        Reason::DefinitionConflict,
        format!("schedule {id} is declared by the configuration, and changed there"),
    )
}
