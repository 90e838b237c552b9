//! What a dead letter tells beside the message: why it died, where it came from, and each attempt.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    history::History,
    name::{Key, SubscriptionKey},
    varint,
};

/// Why a message was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// It failed as often as it may.
    Failures,
    /// A consumer rejected it.
    Rejected,
    /// It expired before anybody took it.
    Expired,
    /// The queue was full, and it was the oldest.
    Overflow,
    /// It follows a message of the same key that was given up.
    Parked,
}

impl Cause {
    /// Every cause, for tables.
    pub const ALL: [Self; 5] =
        [Self::Failures, Self::Rejected, Self::Expired, Self::Overflow, Self::Parked];

    /// The stable word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Failures => "failures",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Overflow => "overflow",
            Self::Parked => "parked",
        }
    }

    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Failures => 1,
            Self::Rejected => 2,
            Self::Expired => 3,
            Self::Overflow => 4,
            Self::Parked => 5,
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.code() == code)
    }
}

/// Where a dead letter came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeadLetterSource {
    /// A queue.
    Queue(Key),
    /// A subscription, and the topic that the message was on.
    Subscription(SubscriptionKey, Key),
}

impl DeadLetterSource {
    /// The queue or subscription in words.
    pub fn text(&self) -> String {
        match self {
            Self::Queue(key) => key.to_string(),
            Self::Subscription(key, _) => key.to_string(),
        }
    }
}

/// Why a message died, where, and what was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    /// Why it was given up.
    pub cause: Cause,
    /// What the last consumer said, if anything.
    pub reason: String,
    /// Where it came from.
    pub origin: DeadLetterSource,
    /// Its position there.
    pub position: u64,
    /// When it was published, in wall milliseconds.
    pub published_ms: u64,
    /// When it was given up, in wall milliseconds.
    pub died_ms: u64,
    /// How often it had failed.
    pub failures: u32,
    /// How often it had been handed out.
    pub handouts: u32,
    /// Its ordering key.
    pub key: Bytes,
    /// Its priority.
    pub priority: u8,
    /// Each attempt that failed, as far as it is kept.
    pub history: History,
}

impl Death {
    pub(super) fn write(&self, head: &mut Vec<u8>) {
        head.push(self.cause.code());
        let (space, topic, subscription, on) = match &self.origin {
            DeadLetterSource::Queue(key) => (&key.space, &key.name, "", ""),
            DeadLetterSource::Subscription(key, on) => {
                (&key.topic.space, &key.topic.name, &*key.name, &*on.name)
            }
        };
        for text in [space, topic, subscription, on] {
            varint::put_bytes(head, text.as_bytes());
        }
        for number in [
            self.position,
            self.published_ms,
            self.died_ms,
            u64::from(self.failures),
            u64::from(self.handouts),
            u64::from(self.priority),
        ] {
            varint::put(head, number);
        }
        varint::put_bytes(head, self.reason.as_bytes());
        varint::put_bytes(head, &self.key);
        varint::put_bytes(head, self.history.stored());
    }

    pub(super) fn read(head: &Bytes) -> Option<Self> {
        let mut from: &[u8] = head;
        let (&code, rest) = from.split_first()?;
        from = rest;
        let space: Arc<str> = varint::take_text(&mut from)?.into();
        let name: Arc<str> = varint::take_text(&mut from)?.into();
        let subscription = varint::take_text(&mut from)?;
        let on = varint::take_text(&mut from)?;
        let key = Key { space: space.clone(), name };
        let origin = if subscription.is_empty() {
            DeadLetterSource::Queue(key)
        } else {
            let on = Key { space, name: on.into() };
            DeadLetterSource::Subscription(
                SubscriptionKey { topic: key, name: subscription.into() },
                on,
            )
        };
        let mut number = || varint::take(&mut from);
        let (position, published_ms, died_ms) = (number()?, number()?, number()?);
        let (failures, handouts, priority) = (number()?, number()?, number()?);
        Some(Self {
            cause: Cause::from_code(code)?,
            origin,
            position,
            published_ms,
            died_ms,
            failures: u32::try_from(failures).ok()?,
            handouts: u32::try_from(handouts).ok()?,
            priority: u8::try_from(priority).ok()?,
            reason: varint::take_text(&mut from)?.to_owned(),
            key: Bytes::copy_from_slice(varint::take_bytes(&mut from)?),
            history: History::from_stored(Bytes::copy_from_slice(varint::take_bytes(&mut from)?)),
        })
    }
}
