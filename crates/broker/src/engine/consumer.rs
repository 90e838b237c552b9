//! Consumers of any engine, what they hand out, and what settles it.

use bytes::Bytes;
use weft_kernel::{Reason, Result};

use super::{AnySource, EngineConsumer, Engines, handles::ElsewhereSource};
use crate::{
    consume::{Consumer, ConsumerOptions, Delivery, Lease},
    message::Message,
    name::Key,
    settle::Verdict,
};

/// What settles a delivery of any engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnyLease {
    /// The broker's own.
    Embedded(Lease),
    /// The text of a lease: all that another engine hands out, and what a client without a connection has.
    Other(Box<str>),
}

impl AnyLease {
    /// All of it as one text.
    pub fn to_text(&self) -> String {
        match self {
            Self::Embedded(lease) => lease.to_text(),
            Self::Other(text) => text.to_string(),
        }
    }
}

/// A message handed out once, by any engine.
#[derive(Clone, Debug)]
pub struct AnyDelivery {
    /// The message.
    pub message: Message,
    /// What settles it.
    pub lease: AnyLease,
    /// Its position in its queue or topic.
    pub position: u64,
    /// Its ordering key.
    pub key: Bytes,
    /// When it was published: wall milliseconds.
    pub published_ms: u64,
    /// How often it had failed.
    pub failures: u32,
    /// How often it was handed out, this time included, as far as the engine knows.
    pub handouts: u32,
    /// The topic it is on; `None` from a queue.
    pub topic: Option<Key>,
}

impl From<Delivery> for AnyDelivery {
    fn from(delivery: Delivery) -> Self {
        Self {
            position: delivery.lease.position,
            failures: delivery.lease.failures,
            handouts: delivery.lease.handouts,
            message: delivery.message,
            lease: AnyLease::Embedded(delivery.lease),
            key: delivery.key,
            published_ms: delivery.published_ms,
            topic: delivery.topic.map(|topic| topic.key().clone()),
        }
    }
}

/// Deliveries of the broker as those of any engine.
pub(super) fn any(taken: Vec<Delivery>) -> Vec<AnyDelivery> {
    taken.into_iter().map(Into::into).collect()
}

/// A consumer of any engine. Dropped, it leaves and gives back what is not settled.
pub struct AnyConsumer {
    source: AnySource,
    kind: Kind,
}

enum Kind {
    Embedded(Consumer),
    Other(ElsewhereSource, Box<dyn EngineConsumer>),
}

impl Engines {
    /// Joins a queue or subscription.
    ///
    /// # Errors
    /// As [`Broker::consume`](crate::Broker::consume); [`Reason::NotSupported`] for options that the engine
    /// does not have.
    pub async fn consume(
        &self,
        source: impl Into<AnySource>,
        options: ConsumerOptions,
    ) -> Result<AnyConsumer> {
        let source = source.into();
        let kind = match &source {
            AnySource::Embedded(source) => {
                Kind::Embedded(self.0.embedded.consume(source.clone(), options)?)
            }
            AnySource::Other(source) => {
                let engine = source.engine();
                engine.capabilities().check_consumer(engine.name(), &options)?;
                Kind::Other(source.clone(), engine.consume(source.place(), options).await?)
            }
        };
        Ok(AnyConsumer { source, kind })
    }
}

impl AnyConsumer {
    /// What it consumes from.
    pub fn source(&self) -> &AnySource {
        &self.source
    }

    /// What is there now, at most `max` and as far as the prefetch allows, without waiting for more.
    ///
    /// # Errors
    /// As [`AnyConsumer::next_batch`].
    pub async fn try_batch(&mut self, max: u32) -> Result<Vec<AnyDelivery>> {
        match &mut self.kind {
            Kind::Embedded(consumer) => consumer.try_batch(max).await.map(any),
            Kind::Other(_, consumer) => consumer.now(max).await,
        }
    }

    /// Waits for messages and takes up to `max` of them, as far as the prefetch allows. Cancel-safe.
    ///
    /// # Errors
    /// [`Reason::NoQueue`] or [`Reason::NoSubscription`] once the source is deleted,
    /// [`Reason::EngineUnavailable`].
    pub async fn next_batch(&mut self, max: u32) -> Result<Vec<AnyDelivery>> {
        match &mut self.kind {
            Kind::Embedded(consumer) => consumer.next_batch(max).await.map(any),
            Kind::Other(_, consumer) => consumer.next(max).await,
        }
    }

    /// Settles deliveries; what came too late is passed over. The embedded engine does not wait for the
    /// disk, but for room.
    ///
    /// # Errors
    /// What the engine says; nothing is settled then, and it may be tried again.
    pub async fn settle(&mut self, verdicts: Vec<(AnyLease, Verdict)>) -> Result<()> {
        let consumer = match &self.kind {
            Kind::Embedded(consumer) => consumer,
            Kind::Other(source, _) => {
                return source.engine().settle(source.place(), verdicts).await.map(drop);
            }
        };
        let verdicts: Vec<(Lease, Verdict)> = verdicts
            .into_iter()
            .filter_map(|(lease, verdict)| match lease {
                AnyLease::Embedded(lease) => Some((lease, verdict)),
                AnyLease::Other(_) => None,
            })
            .collect();
        let settler = consumer.settler();
        loop {
            match settler.settle(&verdicts).await {
                Ok(_settled) => return Ok(()),
                // Nothing was settled, and what was delivered must not be delivered again for that.
                Err(error) if error.reason() == Reason::StorageBusy => settler.room().await,
                Err(error) => return Err(error),
            }
        }
    }

    /// Leaves, but what it holds stays leased until it is settled or its lease runs out.
    pub fn detach(self) {
        match self.kind {
            Kind::Embedded(consumer) => consumer.detach(),
            Kind::Other(_, consumer) => consumer.detach(),
        }
    }

    /// What is unsettled when it leaves counts for nothing: its client was told to go.
    pub fn forgive(&mut self) {
        match &mut self.kind {
            Kind::Embedded(consumer) => consumer.forgive(),
            Kind::Other(_, consumer) => consumer.forgive(),
        }
    }
}
