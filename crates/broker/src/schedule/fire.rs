//! Firing: what is due is published and moved or removed in one transaction, with what was missed.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use weft_kernel::{Reason, Result, Tick};
use weft_ledger::{Durability, ExpectValue, Op, Transaction, has_ended, until_durable};

use super::{Missed, When, stored::Stored};
use crate::{
    broker::Broker,
    message::{Item, Message, MessageBuilder, Value},
    publish::{BatchReceipt, Publish, PublishTarget},
};

/// How long a schedule waits whose target is not there or takes nothing.
const PUT_OFF: Duration = Duration::from_secs(10);
/// How many fire before other maintenance gets its turn.
const FIRED_AT_ONCE: usize = 1_000;

impl Broker {
    /// Begins the rules of schedules anew that stand as on a clock that was ahead.
    pub(crate) async fn begin_anew(&self, now_ms: u64) -> Result<()> {
        let map = self.inner().maps.schedules;
        let entries = self.inner().schedules.lock().all();
        for entry in entries {
            let changing = self.inner().scheduling.read().await;
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
            let taken = self.submit_schedule(put, &entry, Some(schedule.due_ms)).await;
            drop(changing);
            match taken {
                Ok(receipt) => {
                    until_durable(self.store(), receipt.seq, receipt.durability).await?;
                }
                // Changed by somebody else meanwhile.
                Err(error) if error.reason() == Reason::VersionConflict => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// When the next schedule fires, on the broker's clock.
    pub(crate) fn next_schedule(&self) -> Option<Tick> {
        let (_, due) = self.inner().schedules.lock().first()?;
        let left = Duration::from_millis(due.ms.saturating_sub(self.now_ms()));
        Some(self.clock().now().plus(left))
    }

    /// Fires what is due. What is taken waits for the disk together.
    pub(crate) async fn fire_schedules(&self) -> Result<()> {
        let began_ms = self.now_ms();
        let set_back = self.inner().schedules.lock().set_back(began_ms);
        if set_back {
            self.begin_anew(began_ms).await?;
        }
        let mut taken = Vec::new();
        let fired = self.fire_due(&mut taken).await;
        for receipt in &taken {
            self.until_durable(receipt).await?;
        }
        fired
    }

    async fn fire_due(&self, taken: &mut Vec<BatchReceipt>) -> Result<()> {
        // What keeps coming while this goes on has its turn after the others have had theirs.
        for _ in 0..FIRED_AT_ONCE {
            let now_ms = self.now_ms();
            let Some((entry, due, since_ms)) = self.inner().schedules.lock().due(now_ms) else {
                return Ok(());
            };
            let fired = self.fire(&entry, now_ms, since_ms).await;
            match fired {
                Ok(Fired::Now(receipt)) => {
                    taken.push(receipt);
                    if self.inner().schedules.lock().no_longer_put_off(&entry) {
                        tracing::info!(schedule = %shown(&entry), "a schedule that was put off fires again");
                    }
                }
                Ok(Fired::NotDue(due_ms)) => self.note_schedule(&entry, due_ms, due.seq),
                // Changed by somebody else meanwhile, who notes it.
                Err(error) if error.reason() == Reason::VersionConflict => {
                    tokio::task::yield_now().await;
                }
                Err(error) if has_ended(&error) => return Err(error),
                Err(error) => {
                    // Said once, and again when it fires: it may be put off for days.
                    if self.inner().schedules.lock().put_off(&entry) {
                        tracing::warn!(
                            schedule = %shown(&entry),
                            error = %error.detail(),
                            "a schedule cannot fire, and is tried every 10 s"
                        );
                    }
                    let later = now_ms.saturating_add(PUT_OFF.as_millis() as u64);
                    self.note_schedule(&entry, Some(later), due.seq);
                }
            }
        }
        Ok(())
    }

    /// Publishes one schedule's message and moves or removes it. Since `since_ms` some schedule or other has
    /// been due: what became due after that was not missed, whenever its turn comes.
    async fn fire(&self, entry: &Bytes, now_ms: u64, since_ms: u64) -> Result<Fired> {
        let map = self.inner().maps.schedules;
        let changing = self.inner().scheduling.read().await;
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
        let fires = missed != Some(Missed::Skip) || schedule.skip_missed(since_ms)?;
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
        drop(changing);
        Ok(Fired::Now(receipt))
    }
}

/// What became of a schedule that seemed to be due.
enum Fired {
    /// It fired, or passed its turn over, by a transaction that is noted and may not be durable yet.
    Now(BatchReceipt),
    /// It is due later, or gone.
    NotDue(Option<u64>),
}

/// The id of a schedule, for people.
fn shown(entry: &Bytes) -> String {
    String::from_utf8_lossy(entry).replace('\0', "/")
}

/// The message of one firing: an event gets an id and a time of its own, the same if it is tried again.
pub(super) fn firing(message: &Message, rule_ms: u64) -> Result<Message> {
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
