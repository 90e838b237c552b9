//! What settles a delivery, and the delivery.

use std::sync::Arc;

use bytes::Bytes;
use weft_kernel::{Error, Reason, Result};
use weft_ledger::{ConsumerId, GroupId, Limits, LogId, Record, Token};

use super::Settler;
use crate::{
    broker::Broker,
    message::Message,
    source::{MessageSource, Topic},
};

/// What settles a delivery: small, and without the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub(crate) group: GroupId,
    pub(crate) log: LogId,
    /// The position of the message in its queue or topic.
    pub position: u64,
    pub(crate) token: Token,
    /// How often it had failed.
    pub failures: u32,
    /// How often it was handed out, this time included.
    pub handouts: u32,
    pub(crate) note: Bytes,
    pub(crate) keyed: bool,
    /// Who took it.
    pub(super) consumer: ConsumerId,
}

impl Lease {
    /// A number that no other delivery of this life of the store has.
    pub fn id(&self) -> u64 {
        self.token.lease
    }

    /// The same once the broker has it: its consumer let it run out.
    pub(crate) fn taken_over(self) -> Self {
        Self { consumer: ConsumerId::SYSTEM, ..self }
    }

    /// Whether a consumer took it.
    pub(crate) fn is_of(&self, consumer: ConsumerId) -> bool {
        self.consumer == consumer
    }

    /// All of it as one text, for an API without a connection ([`Broker::lease_of_text`]).
    pub fn to_text(&self) -> String {
        format!(
            "{:x}.{:x}.{:x}.{:x}.{:x}.{:x}.{:x}.{}",
            self.group.0,
            self.position,
            self.token.epoch,
            self.token.lease,
            self.failures,
            self.handouts,
            self.consumer.0,
            u8::from(self.keyed),
        )
    }
}

impl Broker {
    /// The delivery that a text stands for, and what settles it. Whether it still runs is found out by
    /// settling it.
    ///
    /// # Errors
    /// [`Reason::LeaseLost`] when the text is not one of a delivery, or its source is gone.
    pub async fn lease_of_text(&self, text: &str) -> Result<(Settler, Lease)> {
        let lost = || Error::new(Reason::LeaseLost, "this is not the lease of a delivery");
        let mut parts = text.split('.').map(|part| u64::from_str_radix(part, 16).ok());
        let mut number = || parts.next().flatten();
        let small = |number: u64| u32::try_from(number).ok();
        let mut read = || {
            Some((
                GroupId(small(number()?)?),
                number()?,
                Token { epoch: small(number()?)?, lease: number()? },
                small(number()?)?,
                small(number()?)?,
                ConsumerId(number()?),
                number()? != 0,
            ))
        };
        let (group, position, token, failures, handouts, consumer, keyed) =
            read().ok_or_else(lost)?;
        let source = self.source_of(group).ok_or_else(lost)?;
        let log = match &source {
            MessageSource::Queue(queue) => queue.log,
            MessageSource::Subscription(_) => source.topic(group).ok_or_else(lost)?.log,
        };
        // Only what has failed before has a note.
        let note = if failures == 0 {
            Bytes::new()
        } else {
            let one = Limits { records: 1, bytes: 1 };
            let found = self.store().peek(group, position, one).await?;
            found
                .into_iter()
                .find(|(exception, _)| exception.position == position)
                .map(|(exception, _)| exception.note)
                .unwrap_or_default()
        };
        let lease =
            Lease { group, log, position, token, failures, handouts, note, keyed, consumer };
        // The consumer that took it may still be there, and gets room again.
        let held = self.held(consumer).unwrap_or_default();
        let settler = Settler { broker: self.clone(), source, consumer, held };
        Ok((settler, lease))
    }
}

/// A message handed out once.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The message.
    pub message: Message,
    /// What settles it.
    pub lease: Lease,
    /// Its ordering key.
    pub key: Bytes,
    /// When it was published: wall milliseconds.
    pub published_ms: u64,
    /// Its priority.
    pub priority: u8,
    /// The topic it is on; `None` from a queue.
    pub topic: Option<Arc<Topic>>,
}

pub(crate) fn lease_of(delivery: &weft_ledger::LeasedRecord) -> Lease {
    Lease {
        group: delivery.group,
        log: delivery.record.log,
        position: delivery.position,
        token: delivery.token,
        failures: delivery.failures,
        handouts: delivery.handouts,
        note: delivery.note.clone(),
        keyed: !delivery.record.key.is_empty(),
        consumer: delivery.consumer,
    }
}

/// The message of a record. What the broker did not write is handed out as bytes, not swallowed.
pub(crate) fn open(record: &Record) -> Message {
    Message::from_stored(record.data.clone())
        .unwrap_or_else(|_error| Message::foreign(record.data.clone()))
}

/// What is handed out for what the store handed out.
pub(crate) fn delivery(leased: &weft_ledger::LeasedRecord, topic: Option<Arc<Topic>>) -> Delivery {
    Delivery {
        message: open(&leased.record),
        lease: lease_of(leased),
        key: leased.record.key.clone(),
        published_ms: leased.record.time_ms,
        priority: leased.record.priority,
        topic,
    }
}

/// That a lease is lost, as an error.
pub fn lease_lost(position: u64) -> Error {
    Error::new(
        Reason::LeaseLost,
        format!("the lease of the message at position {position} is over"),
    )
}
