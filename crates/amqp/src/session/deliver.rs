//! Delivering: messages written as frames, and held until they are settled.

use std::{borrow::Cow, rc::Rc};

use tokio::time::Instant;
use weft_broker::{Delivery, Lease, Message, Verdict};
use weft_wire::amqp::{Method, Properties, Table, TableWriter, Value, write_content};

use super::{
    Session,
    settle::{Held, Holder},
};

/// A message as AMQP shows it.
struct Shown<'a> {
    exchange: Cow<'a, str>,
    key: Cow<'a, str>,
    properties: Cow<'a, [u8]>,
    body: bytes::Bytes,
}

/// The message in AMQP's form; one that came by another way is turned into it.
fn shown<'a>(message: &'a Message, queue: &str) -> Shown<'a> {
    if let Some(amqp) = message.amqp() {
        return Shown {
            exchange: Cow::Borrowed(amqp.exchange),
            key: Cow::Borrowed(amqp.routing_key),
            properties: Cow::Borrowed(amqp.properties),
            body: message.body(),
        };
    }
    let turned = message.to_amqp("", queue).ok();
    let view = turned.as_ref().and_then(Message::amqp);
    Shown {
        exchange: Cow::Borrowed(""),
        key: Cow::Owned(queue.to_owned()),
        properties: Cow::Owned(view.map_or_else(|| vec![0, 0], |view| view.properties.to_vec())),
        body: turned.as_ref().map_or_else(|| message.body(), Message::body),
    }
}

/// How often a message was delivered before and came back, as a quorum queue counts: at least once if it may
/// have been.
fn deliveries(lease: &Lease) -> u32 {
    lease.failures.max(u32::from(lease.handouts > 1))
}

/// The properties with the count of failed deliveries among the headers.
fn counted(raw: &[u8], failures: u32) -> Option<Vec<u8>> {
    let properties = Properties::parse(raw).ok()?;
    let mut table = Vec::new();
    {
        let mut table = TableWriter::new(&mut table);
        table.entry("x-delivery-count", Value::I64(failures.into()));
        for entry in properties.headers.unwrap_or_default().entries() {
            if entry.name != b"x-delivery-count" {
                table.copy(entry);
            }
        }
    }
    let headers = Table::parse(&table[4..]).ok()?;
    let mut out = Vec::with_capacity(raw.len() + 32);
    Properties { headers: Some(headers), ..properties }.write(&mut out);
    Some(out)
}

impl Session {
    /// Writes deliveries for a consumer, and holds them, or settles them if it does not.
    pub(super) async fn deliver(&mut self, number: usize, batch: Vec<Delivery>) {
        let now = Instant::now();
        let bytes_max = self.tuned.frame_bytes_max;
        let Some(slot) = self.consumers.get_mut(number) else { return };
        let Some(channel) = self.channels.get_mut(&slot.channel) else { return };
        self.feeds += 1;
        slot.fed = self.feeds;
        let entry = &slot.holder.entry;
        for delivery in batch {
            let Delivery { message, lease, .. } = delivery;
            let mut shown = shown(&message, &entry.name);
            if entry.arguments.quorum
                && let count @ 1.. = deliveries(&lease)
                && let Some(raw) = counted(&shown.properties, count)
            {
                shown.properties = Cow::Owned(raw);
            }
            let redelivered = lease.handouts > 1;
            let tag = if slot.no_ack {
                self.settling.add(&slot.holder, lease, Verdict::Accept);
                channel.unacked.pass()
            } else {
                slot.in_flight += 1;
                channel.in_flight += 1;
                channel.unacked.hold(Held {
                    lease,
                    holder: Rc::clone(&slot.holder),
                    to: Some((number, slot.serial)),
                    since: now,
                })
            };
            let method = Method::BasicDeliver {
                consumer_tag: &slot.tag,
                delivery_tag: tag,
                redelivered,
                exchange: &shown.exchange,
                routing_key: &shown.key,
            };
            let Shown { properties, body, .. } = &shown;
            write_content(slot.channel, &method, properties, body, bytes_max, &mut self.out);
        }
        if slot.no_ack {
            self.flush_settlements().await;
        }
    }

    /// Writes a message that was asked for.
    pub(super) fn got(
        &mut self,
        number: u16,
        holder: &Rc<Holder>,
        delivery: Delivery,
        no_ack: bool,
        left: u32,
    ) {
        let Some(channel) = self.channels.get_mut(&number) else { return };
        let Delivery { message, lease, .. } = delivery;
        let mut shown = shown(&message, &holder.entry.name);
        if holder.entry.arguments.quorum
            && let count @ 1.. = deliveries(&lease)
            && let Some(raw) = counted(&shown.properties, count)
        {
            shown.properties = Cow::Owned(raw);
        }
        let redelivered = lease.handouts > 1;
        let tag = if no_ack {
            self.settling.add(holder, lease, Verdict::Accept);
            channel.unacked.pass()
        } else {
            let (holder, since) = (Rc::clone(holder), Instant::now());
            channel.unacked.hold(Held { lease, holder, to: None, since })
        };
        let method = Method::BasicGetOk {
            delivery_tag: tag,
            redelivered,
            exchange: &shown.exchange,
            routing_key: &shown.key,
            message_count: left,
        };
        let bytes_max = self.tuned.frame_bytes_max;
        let Shown { properties, body, .. } = &shown;
        write_content(number, &method, properties, body, bytes_max, &mut self.out);
    }

    /// Writes a direct reply.
    pub(super) fn deliver_reply(&mut self, number: u16, tag: &str, message: &Message) {
        let Some(channel) = self.channels.get_mut(&number) else { return };
        let Some(amqp) = message.amqp() else { return };
        let method = Method::BasicDeliver {
            consumer_tag: tag,
            delivery_tag: channel.unacked.pass(),
            redelivered: false,
            exchange: amqp.exchange,
            routing_key: amqp.routing_key,
        };
        let bytes_max = self.tuned.frame_bytes_max;
        let body = message.body();
        write_content(number, &method, amqp.properties, &body, bytes_max, &mut self.out);
    }
}
