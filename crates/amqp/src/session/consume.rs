//! Consumers: beginning and ending them, fetching for them, and fetching single messages.

use std::{rc::Rc, sync::Arc, task::Context, time::Duration};

use tokio::time::Instant;
use weft_broker::{Consumer, ConsumerOptions};
use weft_kernel::Reason;
use weft_wire::amqp::{Method, ReplyCode};

use super::{OUT_BYTES_MAX, Session, settle::Holder};
use crate::{arguments::consumer_priority, fault::Fault, options::Resource, reply, vhost::Entry};

/// How many messages are fetched at a time.
const FETCH_MAX: u32 = 256;
/// How many bytes of messages are fetched at a time.
const FETCH_BYTES_MAX: u64 = 256 << 10;
/// The most deliveries that a consumer without a prefetch may hold unsettled.
const UNSETTLED_MAX: u32 = 200_000;
/// How long somebody who looks at a queue waits at most for consumers that are about to take from it.
const HANDING_TIME: Duration = Duration::from_millis(250);
/// How often other tasks are let through before it is waited by time.
const HANDING_TURNS: u32 = 64;

/// A consumer of the connection.
pub(crate) struct Slot {
    pub(super) channel: u16,
    /// Tells it from an earlier one of the same number.
    pub(super) serial: u64,
    pub(super) tag: Arc<str>,
    pub(super) no_ack: bool,
    /// How many it may hold unsettled.
    pub(super) prefetch: u32,
    /// How many it holds.
    pub(super) in_flight: u32,
    /// It may take nothing until something is settled.
    pub(super) starved: bool,
    /// When it was given something last, by the connection's count.
    pub(super) fed: u64,
    pub(super) holder: Rc<Holder>,
    consumer: Consumer,
    waker: std::task::Waker,
}

impl Session {
    pub(super) fn qos(
        &mut self,
        number: u16,
        size: u32,
        count: u16,
        global: bool,
    ) -> Result<(), Fault> {
        if size != 0 {
            return Err(Fault::new(
                ReplyCode::NotImplemented,
                format_args!("prefetch_size!=0 ({size})"),
            ));
        }
        let channel = self.channel(number)?;
        if global {
            channel.prefetch_all = count;
            let consumers: Vec<usize> = channel.consumers.values().copied().collect();
            self.hungry.extend(consumers);
        } else {
            channel.prefetch = count;
        }
        Method::BasicQosOk {}.write(number, &mut self.out);
        Ok(())
    }

    pub(super) async fn consume(&mut self, number: u16, method: Method<'_>) -> Result<(), Fault> {
        let Method::BasicConsume {
            queue, consumer_tag, no_ack, exclusive, no_wait, arguments, ..
        } = method
        else {
            return Ok(());
        };
        let name = self.queue_name(number, queue)?;
        let tag: Arc<str> = if consumer_tag.is_empty() {
            crate::name::generated("amq.ctag-")?.into()
        } else {
            consumer_tag.into()
        };
        let channel = self.channel(number)?;
        let known = channel.consumers.contains_key(&tag)
            || channel.reply.as_ref().is_some_and(|(of, _)| *of == tag);
        if known {
            return Err(Fault::new(
                ReplyCode::NotAllowed,
                format_args!("attempt to reuse consumer tag '{tag}'"),
            ));
        }
        if &*name == reply::QUEUE {
            self.consume_replies(number, &tag, no_ack)?;
        } else {
            self.join(number, &name, &tag, no_ack, exclusive, arguments)?;
        }
        if !no_wait {
            Method::BasicConsumeOk { consumer_tag: &tag }.write(number, &mut self.out);
        }
        Ok(())
    }

    fn consume_replies(&mut self, number: u16, tag: &Arc<str>, no_ack: bool) -> Result<(), Fault> {
        if !no_ack {
            return Err(Fault::precondition("reply consumer cannot acknowledge"));
        }
        let channel = self.channel(number)?;
        if channel.reply.is_some() {
            return Err(Fault::precondition("reply consumer already set"));
        }
        let serial = channel.serial;
        let address = self.server.replies.enter(serial, self.replies.clone())?;
        self.channel(number)?.reply = Some((Arc::clone(tag), address));
        Ok(())
    }

    fn join(
        &mut self,
        number: u16,
        name: &str,
        tag: &Arc<str>,
        no_ack: bool,
        exclusive: bool,
        arguments: weft_wire::amqp::Table<'_>,
    ) -> Result<(), Fault> {
        let vhost = self.vhost()?;
        self.may_read(Resource::Queue(name))?;
        let entry = vhost.usable(name, self.id)?;
        let priority = consumer_priority(arguments, name, &vhost.name)?;
        let options = ConsumerOptions {
            // What may be unsettled is counted here, where channels are known.
            prefetch: u32::MAX,
            prefetch_bytes: u64::MAX,
            lease: None,
            priority: priority.clamp(i32::MIN.into(), i32::MAX.into()) as i32,
            exclusive,
            owner: Some(self.id),
            counts_loss: false,
        };
        let consumer =
            self.server.broker.consume(Arc::clone(&entry.queue), options).map_err(|error| {
                match error.reason() {
                    Reason::QueueLocked => Fault::refused(format_args!(
                        "queue '{name}' in vhost '{}' in exclusive use",
                        vhost.name
                    )),
                    Reason::NoQueue => Fault::no_queue(name, &vhost.name),
                    _ => error.into(),
                }
            })?;
        let settler = consumer.settler();
        let serial = self.next_serial;
        self.next_serial += 1;
        let place = self.consumers.vacant_entry();
        let slot = place.key();
        let Some(channel) = self.channels.get_mut(&number) else { return Ok(()) };
        place.insert(Slot {
            channel: number,
            serial,
            tag: Arc::clone(tag),
            no_ack,
            prefetch: match channel.prefetch {
                0 => UNSETTLED_MAX,
                count => count.into(),
            },
            in_flight: 0,
            starved: false,
            fed: 0,
            holder: Rc::new(Holder { settler, entry, fetched: false }),
            consumer,
            waker: self.ready.waker(slot),
        });
        channel.consumers.insert(Arc::clone(tag), slot);
        self.hungry.push(slot);
        Ok(())
    }

    pub(super) async fn cancel(
        &mut self,
        number: u16,
        tag: &str,
        no_wait: bool,
    ) -> Result<(), Fault> {
        let channel = self.channel(number)?;
        if channel.reply.as_ref().is_some_and(|(of, _)| **of == *tag) {
            channel.reply = None;
        }
        if let Some(&slot) = channel.consumers.get(tag)
            && let Some(slot) = self.consumers.get(slot)
        {
            let entry = Arc::clone(&slot.holder.entry);
            self.hand_out(&entry).await;
        }
        // What the consumer holds stays with the channel until it is settled.
        let slot = self.channel(number)?.consumers.remove(tag);
        if let Some(slot) = slot.and_then(|slot| self.consumers.try_remove(slot)) {
            self.end_consumer(slot).await;
        }
        if !no_wait {
            Method::BasicCancelOk { consumer_tag: tag }.write(number, &mut self.out);
        }
        Ok(())
    }

    /// Ends a consumer; an auto-delete queue goes with its last.
    pub(super) async fn end_consumer(&mut self, slot: Slot) {
        let entry = Arc::clone(&slot.holder.entry);
        slot.consumer.detach();
        if !entry.declared.auto_delete || entry.queue.consumers() > 0 {
            return;
        }
        let Some(vhost) = self.vhost.clone() else { return };
        if let Err(fault) = vhost.delete_queue(&entry, self.id).await {
            tracing::warn!(queue = %entry.name, error = fault.text, "an auto-delete queue stays");
        }
    }

    /// Whether something could be fetched for a consumer now.
    pub(crate) fn is_hungry(&self) -> bool {
        !self.hungry.is_empty() && self.out.len() < OUT_BYTES_MAX
    }

    /// Whether the queue of a consumer could not be read.
    pub(crate) fn is_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Lets consumers try again whose queue could not be read.
    pub(crate) fn read_again(&mut self) {
        self.hungry.append(&mut self.unread);
    }

    /// Fetches for the consumers that were woken or may take again.
    pub(crate) async fn feed(&mut self) {
        let mut turn = std::mem::take(&mut self.hungry);
        for number in self.ready.take() {
            if !turn.contains(&number) {
                turn.push(number);
            }
        }
        for number in turn {
            let Some(slot) = self.consumers.get(number) else { continue };
            if self.deaf {
                // Somebody else has it.
                slot.consumer.pass_turn();
                continue;
            }
            let _fetching = slot.holder.entry.fetch();
            while self.fetch(number).await {}
        }
    }

    /// Lets the consumers that wait have what is ready in a queue, before anybody else looks at it: what
    /// was published is theirs, and neither counted nor fetched, emptied or deleted.
    pub(super) async fn hand_out(&mut self, entry: &Entry) {
        if entry.queue.consumers() == 0 {
            return;
        }
        let end = Instant::now() + HANDING_TIME;
        for turn in 0u32.. {
            self.feed().await;
            let others = entry.is_fetched() || self.server.broker.is_awaited(&entry.queue);
            if !others || Instant::now() >= end {
                return;
            }
            if turn < HANDING_TURNS {
                tokio::task::yield_now().await;
            } else {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }

    /// Fetches once for a consumer; whether there may be more.
    async fn fetch(&mut self, number: usize) -> bool {
        let full = self.out.len() >= OUT_BYTES_MAX;
        let Some(slot) = self.consumers.get_mut(number) else { return false };
        let Some(channel) = self.channels.get(&slot.channel) else { return false };
        if full {
            // Somebody else may have it meanwhile.
            slot.consumer.pass_turn();
            if !self.hungry.contains(&number) {
                self.hungry.push(number);
            }
            return false;
        }
        let mut credit = FETCH_MAX;
        let left = match channel.prefetch_all {
            0 => u32::MAX,
            all => u32::from(all).saturating_sub(channel.in_flight),
        };
        if !slot.no_ack {
            credit = credit.min(slot.prefetch.saturating_sub(slot.in_flight)).min(left);
        } else if left == 0 {
            // What needs no ack does not count, but waits with the others while the channel is full.
            credit = 0;
        }
        if credit == 0 {
            slot.starved = true;
            slot.consumer.pass_turn();
            return false;
        }
        // Who has just taken stands behind those that wait, and leaves them their part.
        let waker = slot.waker.clone();
        if slot.consumer.poll_ready(&mut Context::from_waker(&waker)).is_pending() {
            return false;
        }
        credit = credit.min(slot.consumer.share());
        match slot.consumer.try_batch_within(credit, FETCH_BYTES_MAX).await {
            Ok(batch) if batch.is_empty() => {
                slot.consumer.poll_ready(&mut Context::from_waker(&waker)).is_ready()
            }
            Ok(batch) => {
                self.deliver(number, batch).await;
                true
            }
            Err(error)
                if error.reason() == Reason::NoQueue || slot.holder.entry.queue.is_deleted() =>
            {
                self.queue_went(number).await;
                false
            }
            Err(error) => {
                let (queue, error) = (&slot.holder.entry.name, error.detail());
                tracing::warn!(%queue, error, "nothing can be taken from a queue for now");
                self.unread.push(number);
                false
            }
        }
    }

    /// The queue of a consumer is gone: the client is told, if it wants to be.
    async fn queue_went(&mut self, number: usize) {
        let Some(slot) = self.consumers.try_remove(number) else { return };
        if let Some(channel) = self.channels.get_mut(&slot.channel) {
            channel.consumers.remove(&slot.tag);
        }
        if self.abilities.cancel_notify {
            Method::BasicCancel { consumer_tag: &slot.tag, no_wait: true }
                .write(slot.channel, &mut self.out);
        }
        let Some(vhost) = self.vhost.clone() else { return };
        if let Err(error) = vhost.queue_gone(&slot.holder.entry.name).await {
            tracing::warn!(error = %error.detail(), "the bindings of a deleted queue could not be erased");
        }
    }

    pub(super) async fn get(
        &mut self,
        number: u16,
        queue: &str,
        no_ack: bool,
    ) -> Result<(), Fault> {
        let name = self.queue_name(number, queue)?;
        self.may_read(Resource::Queue(&name))?;
        let vhost = self.vhost()?;
        let entry = vhost.usable(&name, self.id)?;
        vhost.touch(&entry).await;
        self.hand_out(&entry).await;
        let (mut found, settler) =
            self.server.broker.take_ready(&entry.queue, 1, Some(self.id)).await.map_err(
                |error| match error.reason() {
                    Reason::NoQueue => Fault::no_queue(&name, &vhost.name),
                    _ => error.into(),
                },
            )?;
        let Some(delivery) = found.pop() else {
            Method::BasicGetEmpty { cluster_id: "" }.write(number, &mut self.out);
            return Ok(());
        };
        let left = self.depth(&entry);
        let holder = Rc::new(Holder { settler, entry, fetched: true });
        self.got(number, &holder, delivery, no_ack, left);
        if no_ack {
            self.flush_settlements().await;
        }
        Ok(())
    }

    /// How many messages of a queue are ready, as AMQP counts them.
    pub(super) fn depth(&self, entry: &Entry) -> u32 {
        let ready = self.server.broker.queue_view(&entry.queue).ready;
        u32::try_from(ready).unwrap_or(u32::MAX)
    }

    /// The name of a queue; the empty one is the last that was declared on the channel.
    pub(super) fn queue_name(&mut self, number: u16, name: &str) -> Result<Arc<str>, Fault> {
        if !name.is_empty() {
            return Ok(name.into());
        }
        self.channel(number)?
            .last_queue
            .clone()
            .ok_or_else(|| Fault::new(ReplyCode::NotFound, "no previously declared queue"))
    }

    /// Refuses what the user may not declare or delete.
    pub(super) fn may_configure(&self, of: Resource<'_>) -> Result<(), Fault> {
        self.may(self.grant.configure.allows(of), of)
    }

    /// Refuses what the user may not publish to.
    pub(super) fn may_write(&self, of: Resource<'_>) -> Result<(), Fault> {
        self.may(self.grant.write.allows(of), of)
    }

    /// Refuses what the user may not consume.
    pub(super) fn may_read(&self, of: Resource<'_>) -> Result<(), Fault> {
        self.may(self.grant.read.allows(of), of)
    }

    fn may(&self, allowed: bool, of: Resource<'_>) -> Result<(), Fault> {
        if allowed {
            return Ok(());
        }
        let vhost = self.vhost.as_ref().map_or("", |vhost| &vhost.name);
        Err(Fault::no_access(of, vhost, self.user_name()))
    }

    /// An answer came for a channel that waits for direct replies.
    pub(crate) fn replied(&mut self, reply: reply::Reply) {
        let found = self.channels.iter().find(|(_, channel)| channel.serial == reply.channel);
        let Some((&number, channel)) = found else { return };
        let Some((tag, _)) = &channel.reply else { return };
        let tag = Arc::clone(tag);
        self.deliver_reply(number, &tag, &reply.message);
    }
}
