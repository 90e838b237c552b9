//! A schedule as it is kept: its rule, where it stands in it, and its message.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use weft_kernel::{Error, Reason, Result, Rng};
use weft_ledger::transaction::MAP_VALUE_BYTES_MAX;

use super::{MISSED_AFTER_MS, Schedule, ScheduleTarget, When, fire::firing};
use crate::{
    cron::Cron,
    declare::decode,
    message::{Item, Message},
    name::Key,
    publish::{Publish, check_publish},
    varint,
};

const VERSION: u8 = 1;

/// A schedule as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stored {
    pub(super) space: String,
    id: String,
    pub(super) target: ScheduleTarget,
    pub(super) when: When,
    pub(super) key: Vec<u8>,
    pub(super) priority: u8,
    pub(super) ttl: Option<Duration>,
    made_ms: u64,
    /// When it is due by its rule, and when it fires with its jitter.
    pub(super) rule_ms: u64,
    pub(super) due_ms: u64,
    pub(super) fired: u64,
    /// Whether the configuration declares it. Records from before it was kept are of the API.
    #[serde(default)]
    pub(super) declared: bool,
}

impl Stored {
    /// A schedule that is made now, wherever it leads.
    ///
    /// # Errors
    /// [`Reason::MalformedRequest`] if it never fires.
    pub(super) fn new(
        id: &Key,
        target: &ScheduleTarget,
        when: &When,
        publish: &Publish,
        now_ms: u64,
        rng: &mut Rng,
    ) -> Result<Self> {
        let rule_ms = when.first(now_ms)?;
        let mut schedule = Self {
            space: id.space.to_string(),
            id: id.name.to_string(),
            target: target.clone(),
            when: when.clone(),
            key: publish.key.to_vec(),
            priority: publish.priority,
            ttl: publish.ttl,
            made_ms: now_ms,
            rule_ms,
            due_ms: rule_ms,
            fired: 0,
            declared: false,
        };
        schedule.shake(rng);
        Ok(schedule)
    }

    /// Checks that a target that takes messages up to this size takes what it fires.
    pub(super) fn check(&self, publish: &Publish, bytes_max: u64) -> Result<()> {
        let message = match &self.when {
            When::At(_) => publish.message.clone(),
            When::Recurring { .. } => firing(&publish.message, self.rule_ms)?,
        };
        check_publish(&Publish { message, ..publish.clone() }, bytes_max)
    }

    /// Its id within its space.
    pub(super) fn id(&self) -> Result<Key> {
        Key::new(&self.space, &self.id)
    }

    pub(super) fn encode(&self, message: &Message) -> Result<Bytes> {
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
                "the message is too large for a schedule: both have at most 1 MiB together",
            ));
        }
        Ok(bytes.into())
    }

    pub(super) fn decode(bytes: &Bytes) -> Result<(Self, Message)> {
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

    pub(super) fn public(self, message: Message) -> Result<Schedule> {
        let id = self.id()?;
        let publish = Publish {
            key: Bytes::from(self.key),
            priority: self.priority,
            ttl: self.ttl,
            ..Publish::new(message)
        };
        Ok(Schedule {
            id,
            target: self.target,
            when: self.when,
            due_ms: self.due_ms,
            made_ms: self.made_ms,
            fired: self.fired,
            declared: self.declared,
            publish,
        })
    }

    /// Moves it to its first firing after `after_ms`; whether there is one.
    pub(super) fn advance(&mut self, after_ms: u64, rng: &mut Rng) -> Result<bool> {
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
    pub(super) fn reached(&self, now_ms: u64) -> u64 {
        let jitter = u64::try_from(self.jitter().as_millis()).unwrap_or(u64::MAX);
        now_ms.saturating_sub(jitter).max(self.rule_ms)
    }

    /// Passes over the firings that were missed, if those are to be skipped; whether any is left that
    /// fires now.
    pub(super) fn skip_missed(&mut self, now_ms: u64) -> Result<bool> {
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
    pub(super) fn is_ahead(&self, now_ms: u64) -> Result<bool> {
        let next = self.next(now_ms.saturating_add(MISSED_AFTER_MS))?;
        Ok(next.is_some_and(|next| next < self.rule_ms))
    }

    /// Takes over where a schedule stands that had the same rule.
    pub(super) fn go_on_from(&mut self, had: &Self, rng: &mut Rng) {
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
pub(super) fn is_same(one: &Message, other: &Message) -> bool {
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
