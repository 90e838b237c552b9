//! Messages that were given up and whose dead letter has no room yet.
//!
//! What becomes of such a message is decided, so nobody is handed it again: it stays leased, and the
//! lease is the broker's as soon as maintenance has seen it. When that lease runs out, maintenance tries
//! again to dead-letter it, until there is room. What was decided is stored when the node ends in order, and taken
//! up again at the next opening. A crash forgets it, and loses nothing: the message is handed out once more.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use weft_kernel::{Result, Tick};
use weft_ledger::{ConsumerId, Durability, ExpectValue, GroupId, Op, Transaction};

use crate::{
    broker::Broker,
    consume::Lease,
    history::History,
    message::Cause,
    settle::{Event, Outcome},
    settlement::Settlement,
    source::MessageSource,
    varint,
};

/// How long a message waits whose dead letter could not be taken.
pub(crate) const ROOM_WAIT: Duration = Duration::from_secs(10);
/// For so long after a refusal no other dead letter of the same source is tried.
const REFUSED: Duration = Duration::from_millis(500);
/// How many are stored in one transaction.
const AT_ONCE: usize = 16;
/// The version of what is stored of each.
const VERSION: u8 = 1;

/// The messages of a queue or subscription that wait for room among the dead letters.
#[derive(Debug, Default)]
pub(crate) struct DeadLettersWaiting {
    waiting: HashMap<(GroupId, u64), Outcome>,
    /// Until then it is not worth trying.
    until: Tick,
    /// Whether it was told that they wait.
    told: bool,
}

impl DeadLettersWaiting {
    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// What was decided about a message.
    pub(crate) fn decided(&self, lease: &Lease) -> Option<Outcome> {
        self.waiting.get(&(lease.group, lease.position)).cloned()
    }

    /// Whether it waits.
    pub(crate) fn has(&self, group: GroupId, position: u64) -> bool {
        self.waiting.contains_key(&(group, position))
    }

    /// Forgets what was dealt with otherwise.
    pub(crate) fn forget(&mut self, group: GroupId, position: u64) {
        if !self.waiting.is_empty() {
            self.waiting.remove(&(group, position));
            self.rest();
        }
    }

    /// Forgets all of a group.
    pub(crate) fn forget_group(&mut self, group: GroupId) {
        self.waiting.retain(|(of, _), _| *of != group);
        self.rest();
    }

    fn rest(&mut self) {
        if self.waiting.is_empty() {
            *self = Self::default();
        }
    }
}

impl Broker {
    /// Keeps messages whose dead letters were refused: each with what was decided about it.
    pub(crate) fn hold_dead_letters<'a>(
        &self,
        source: &MessageSource,
        refused: impl Iterator<Item = (&'a Lease, Outcome)>,
    ) {
        let now = self.clock().now();
        let (mut count, mut tell) = (0usize, false);
        for (lease, outcome) in refused {
            // A consumer's lease goes to maintenance at once, so that it does not end with the consumer.
            let span = if lease.is_of(ConsumerId::SYSTEM) { ROOM_WAIT } else { Duration::ZERO };
            let mut dead_letters_waiting = source.dead_letters_waiting().lock();
            if self.store().renew_now(lease.group, lease.position, lease.token, span).is_err() {
                dead_letters_waiting.forget(lease.group, lease.position);
                continue;
            }
            dead_letters_waiting.waiting.insert((lease.group, lease.position), outcome);
            dead_letters_waiting.until = now.plus(REFUSED);
            tell |= !std::mem::replace(&mut dead_letters_waiting.told, true);
            count += 1;
        }
        if tell {
            tracing::warn!(
                source = %source.name(), messages = count,
                "dead letters wait: a queue that is to take them is full"
            );
        }
    }

    /// Parts deliveries whose lease ran out while they wait for room from the others; those for which
    /// it is too soon to try again are leased on.
    pub(crate) fn lease_on<'a>(
        &self,
        source: &MessageSource,
        settlements: Vec<Settlement<'a>>,
    ) -> Vec<Settlement<'a>> {
        let now = self.clock().now();
        let dead_letters_waiting = source.dead_letters_waiting().lock();
        if dead_letters_waiting.len() == 0 || now >= dead_letters_waiting.until {
            return settlements;
        }
        let mut tried = Vec::with_capacity(settlements.len());
        for settlement in settlements {
            let lease = settlement.lease;
            if !matches!(settlement.event, Event::DeadLetterWaiting)
                || self
                    .store()
                    .renew_now(lease.group, lease.position, lease.token, ROOM_WAIT)
                    .is_err()
            {
                tried.push(settlement);
            }
        }
        tried
    }

    /// Stores what was decided about messages that wait for room, before the store is closed in order.
    pub(crate) fn store_dead_letters_waiting(&self) {
        let queues = self.queues().into_iter().filter(|queue| !queue.options().transient);
        let subscriptions = self.subscriptions().into_iter().map(MessageSource::Subscription);
        for source in queues.map(MessageSource::Queue).chain(subscriptions) {
            let dead_letters_waiting = source.dead_letters_waiting().lock();
            let puts: Vec<Op> = dead_letters_waiting
                .waiting
                .iter()
                .filter_map(|(&(group, position), outcome)| {
                    Some(Op::Put {
                        map: self.inner().maps.dead_letters_waiting,
                        key: entry(group, position),
                        value: encode(outcome)?,
                        expires_ms: 0,
                        expect: ExpectValue::Any,
                    })
                })
                .collect();
            for puts in puts.chunks(AT_ONCE) {
                let mut write = Transaction::new(Durability::Fsync);
                write.ops.extend(puts.iter().cloned());
                if let Err(refused) = self.store().submit_now(write) {
                    tracing::warn!(
                        source = %source.name(), error = %refused.error.detail(),
                        "messages whose dead letters wait are handed out once more"
                    );
                    break;
                }
            }
        }
    }

    /// Takes up again what was decided in an earlier life that has ended in order: maintenance has the
    /// messages, and nobody else is handed them.
    ///
    /// # Errors
    /// What the store says.
    pub(crate) async fn load_dead_letters_waiting(&self) -> Result<()> {
        let map = self.inner().maps.dead_letters_waiting;
        let (mut after, mut found) = (None, Vec::new());
        loop {
            let page = self.store().scan(map, b"", after, 256).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            found.extend(page);
        }
        for (entry, value) in &found {
            let (Some((group, position)), Some(outcome)) = (of_entry(entry), decode(&value.data))
            else {
                continue;
            };
            let source = self.source_of(group).filter(|source| source.policy().dead_letters);
            let Some(source) = source else { continue };
            match self.store().recall(group, position).await {
                Ok(true) => {
                    source.dead_letters_waiting().lock().waiting.insert((group, position), outcome);
                }
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(
                        source = %source.name(), position, error = %error.detail(),
                        "a message whose dead letter waits is handed out once more"
                    );
                }
            }
        }
        // A crash from here on forgets them, as any does.
        for entries in found.chunks(256) {
            let mut forget = Transaction::new(Durability::Fsync);
            forget.ops.extend(entries.iter().map(|(key, _)| Op::Delete {
                map,
                key: key.clone(),
                expect: ExpectValue::Any,
            }));
            self.store().commit(forget).await?;
        }
        Ok(())
    }
}

fn entry(group: GroupId, position: u64) -> Bytes {
    let mut entry = group.0.to_be_bytes().to_vec();
    entry.extend_from_slice(&position.to_be_bytes());
    entry.into()
}

fn of_entry(entry: &[u8]) -> Option<(GroupId, u64)> {
    let (group, position) = entry.split_first_chunk()?;
    let position = position.try_into().ok()?;
    Some((GroupId(u32::from_be_bytes(*group)), u64::from_be_bytes(position)))
}

/// `version u8 = 1 | cause u8 | whether its key is parked u8 | failures varint | reason | history`, the last
/// two counted.
fn encode(outcome: &Outcome) -> Option<Bytes> {
    let Outcome::DeadLetter { cause, reason, failures, history, park } = outcome else {
        return None;
    };
    let mut bytes = vec![VERSION, cause.code(), u8::from(*park)];
    varint::put(&mut bytes, u64::from(*failures));
    varint::put_bytes(&mut bytes, reason.as_bytes());
    varint::put_bytes(&mut bytes, history.stored());
    Some(bytes.into())
}

fn decode(mut from: &[u8]) -> Option<Outcome> {
    let (&[VERSION, cause, park], rest) = from.split_first_chunk()? else { return None };
    from = rest;
    Some(Outcome::DeadLetter {
        cause: Cause::from_code(cause)?,
        failures: u32::try_from(varint::take(&mut from)?).ok()?,
        reason: varint::take_text(&mut from)?.to_owned(),
        history: History::from_stored(Bytes::copy_from_slice(varint::take_bytes(&mut from)?)),
        park: park != 0,
    })
}
