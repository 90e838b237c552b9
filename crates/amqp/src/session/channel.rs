//! Channels: opening and closing them, and which part follows which method.

use std::{collections::HashMap, sync::Arc};

use weft_wire::amqp::{Frame, FrameKind, Method, ReplyCode};

use super::{Session, method_id, publish::Assembly, settle::Held, transaction::Transaction};
use crate::{confirms::Confirms, fault::Fault, reply::Address, unacked::Unacked};

/// A channel.
#[derive(Debug)]
pub(super) struct Channel {
    /// Tells it from an earlier one of the same number.
    pub(super) serial: u64,
    /// The server has closed it, and the client has not acknowledged that.
    closing: bool,
    /// A publish of which not all is there.
    pub(super) assembly: Option<Assembly>,
    /// There if publishes are confirmed.
    pub(super) confirms: Option<Confirms>,
    /// There if what is published and settled waits for a commit.
    pub(super) transaction: Option<Transaction>,
    pub(super) unacked: Unacked<Held>,
    /// The consumers by their tags.
    pub(super) consumers: HashMap<Arc<str>, usize>,
    /// How many deliveries to consumers are unsettled.
    pub(super) in_flight: u32,
    /// The prefetch of consumers to come; 0 is none.
    pub(super) prefetch: u16,
    /// The prefetch of all consumers together; 0 is none.
    pub(super) prefetch_all: u16,
    /// The queue that an empty name stands for.
    pub(super) last_queue: Option<Arc<str>>,
    /// The consumer of direct replies: its tag and its address.
    pub(super) reply: Option<(Arc<str>, Address)>,
}

impl Session {
    /// Follows a frame of a channel; answers how much of `rest` it used up too.
    pub(super) async fn channel_frame(&mut self, frame: Frame<'_>, rest: &[u8]) -> usize {
        let number = frame.channel;
        let result = match frame.kind {
            _ if self.has_no_room_for(number) => Err(self.channels_exhausted()),
            FrameKind::Method => match Method::parse(frame.payload) {
                Ok(method) => self.channel_method(number, method, rest).await,
                Err(error) => Err(Fault::of_method(error, frame.payload)),
            },
            FrameKind::Header => self.content_header(number, frame.payload).await.map(|()| 0),
            FrameKind::Body => self.content_body(number, frame.payload).await.map(|()| 0),
            FrameKind::Heartbeat => Ok(0),
        };
        match result {
            Ok(used) => used,
            Err(fault) => {
                let at = match frame.kind {
                    _ if fault.code == ReplyCode::NotAllowed && !self.is_live(number) => (0, 0),
                    FrameKind::Method => method_id(frame),
                    _ if !self.is_live(number) => (0, 0),
                    _ => (60, 40),
                };
                self.fail(number, &fault, at).await;
                0
            }
        }
    }

    /// Closes the channel, or the connection, as the fault says.
    pub(super) async fn fail(&mut self, number: u16, fault: &Fault, at: (u16, u16)) {
        tracing::debug!(peer = self.peer.address, channel = number, fault = fault.text, "refused");
        if fault.connection {
            self.end_connection(fault, at).await;
            return;
        }
        // What was published before is published, and what was settled before is settled.
        self.flush().await;
        Method::ChannelClose {
            reply_code: fault.code.number(),
            reply_text: &fault.text,
            class_id: at.0,
            method_id: at.1,
        }
        .write(number, &mut self.out);
        self.release_channel(number).await;
        if let Some(channel) = self.channels.get_mut(&number) {
            channel.closing = true;
        }
    }

    /// Whether frames of a channel are followed: not if the server has closed it.
    pub(super) fn is_live(&self, number: u16) -> bool {
        self.channels.get(&number).is_some_and(|channel| !channel.closing)
    }

    /// An open channel.
    pub(super) fn channel(&mut self, number: u16) -> Result<&mut Channel, Fault> {
        self.channels
            .get_mut(&number)
            .ok_or_else(|| Fault::new(ReplyCode::ChannelError, "expected 'channel.open'"))
    }

    async fn channel_method(
        &mut self,
        number: u16,
        method: Method<'_>,
        rest: &[u8],
    ) -> Result<usize, Fault> {
        match self.channels.get(&number) {
            None if matches!(method, Method::ChannelOpen { .. }) => {
                return self.open_channel(number).map(|()| 0);
            }
            // Both ends may have closed it at the same time.
            None if matches!(method, Method::ChannelCloseOk {}) => return Ok(0),
            None => {
                return Err(Fault::new(ReplyCode::ChannelError, "expected 'channel.open'"));
            }
            Some(channel) if channel.closing => {
                match method {
                    Method::ChannelOpen { .. } => {
                        let seen = "second 'channel.open' seen";
                        return Err(Fault::new(ReplyCode::ChannelError, seen));
                    }
                    Method::ChannelCloseOk {} => {
                        self.channels.remove(&number);
                    }
                    Method::ChannelClose { .. } => {
                        self.channels.remove(&number);
                        Method::ChannelCloseOk {}.write(number, &mut self.out);
                    }
                    _ => {}
                }
                return Ok(0);
            }
            Some(Channel { assembly: Some(assembly), .. }) => return Err(assembly.awaited()),
            Some(_) => {}
        }
        match method {
            Method::BasicPublish { .. } => return self.publish(number, method, rest).await,
            Method::BasicAck { delivery_tag, multiple } => {
                self.ack(number, delivery_tag, multiple)?;
                return Ok(0);
            }
            Method::BasicNack { delivery_tag, multiple, requeue } => {
                self.reject(number, delivery_tag, multiple, requeue)?;
                return Ok(0);
            }
            Method::BasicReject { delivery_tag, requeue } => {
                self.reject(number, delivery_tag, false, requeue)?;
                return Ok(0);
            }
            _ => {}
        }
        // Everything else sees what was published and settled before it.
        self.flush().await;
        self.land().await;
        if !self.is_live(number) {
            // What was before has closed it.
            return Ok(0);
        }
        self.slow_method(number, method).await.map(|()| 0)
    }

    async fn slow_method(&mut self, number: u16, method: Method<'_>) -> Result<(), Fault> {
        match method {
            Method::ChannelOpen { .. } => {
                Err(Fault::new(ReplyCode::ChannelError, "second 'channel.open' seen"))
            }
            Method::ChannelClose { .. } => {
                self.release_channel(number).await;
                self.channels.remove(&number);
                Method::ChannelCloseOk {}.write(number, &mut self.out);
                Ok(())
            }
            Method::ChannelCloseOk {} => Ok(()),
            Method::ChannelFlow { active: true } => {
                Method::ChannelFlowOk { active: true }.write(number, &mut self.out);
                Ok(())
            }
            Method::ChannelFlow { active: false } => {
                Err(Fault::new(ReplyCode::NotImplemented, "active=false"))
            }
            Method::ChannelFlowOk { .. } => Ok(()),
            Method::AccessRequest { .. } => {
                Method::AccessRequestOk { ticket: 1 }.write(number, &mut self.out);
                Ok(())
            }
            Method::ExchangeDeclare { .. }
            | Method::ExchangeDelete { .. }
            | Method::ExchangeBind { .. }
            | Method::ExchangeUnbind { .. } => self.exchange_method(number, method).await,
            Method::QueueDeclare { .. }
            | Method::QueueBind { .. }
            | Method::QueueUnbind { .. }
            | Method::QueuePurge { .. }
            | Method::QueueDelete { .. } => self.queue_method(number, method).await,
            Method::BasicQos { prefetch_size, prefetch_count, global } => {
                self.qos(number, prefetch_size, prefetch_count, global)
            }
            Method::BasicConsume { .. } => self.consume(number, method).await,
            Method::BasicCancel { consumer_tag, no_wait } => {
                self.cancel(number, consumer_tag, no_wait).await
            }
            Method::BasicGet { queue, no_ack, .. } => self.get(number, queue, no_ack).await,
            Method::BasicRecover { requeue } => self.recover(number, requeue, true).await,
            Method::BasicRecoverAsync { requeue } => self.recover(number, requeue, false).await,
            Method::ConfirmSelect { no_wait } => self.confirm_select(number, no_wait),
            Method::TxSelect {} => self.tx_select(number),
            Method::TxCommit {} => self.tx_commit(number).await,
            Method::TxRollback {} => self.tx_rollback(number),
            _ => Err(Fault::new(ReplyCode::CommandInvalid, "unimplemented method")),
        }
    }

    /// Whether a channel is not there, and must not be opened either. As in RabbitMQ the limit is one of
    /// how many there are, whatever numbers they have.
    fn has_no_room_for(&self, number: u16) -> bool {
        let max = self.tuned.channels_max;
        max != 0 && self.channels.len() >= usize::from(max) && !self.channels.contains_key(&number)
    }

    fn channels_exhausted(&self) -> Fault {
        let (open, max) = (self.channels.len(), self.tuned.channels_max);
        Fault::new(
            ReplyCode::NotAllowed,
            format_args!(
                "number of channels opened ({open}) has reached the negotiated channel_max ({max})"
            ),
        )
    }

    fn open_channel(&mut self, number: u16) -> Result<(), Fault> {
        let serial = self.next_serial;
        self.next_serial += 1;
        let channel = Channel {
            serial,
            closing: false,
            assembly: None,
            confirms: None,
            transaction: None,
            unacked: Unacked::default(),
            consumers: HashMap::new(),
            in_flight: 0,
            prefetch: 0,
            prefetch_all: 0,
            last_queue: None,
            reply: None,
        };
        self.channels.insert(number, channel);
        Method::ChannelOpenOk { reserved: b"" }.write(number, &mut self.out);
        Ok(())
    }

    /// Ends the consumers of a channel, and gives back what was not settled.
    pub(super) async fn release_channel(&mut self, number: u16) {
        self.roll_back(number);
        let Some(channel) = self.channels.get_mut(&number) else { return };
        channel.assembly = None;
        channel.transaction = None;
        channel.confirms = None;
        channel.reply = None;
        let consumers: Vec<usize> = channel.consumers.drain().map(|(_, slot)| slot).collect();
        let mut held = Vec::with_capacity(channel.unacked.len());
        channel.unacked.take_until(0, |_tag, delivery| held.push(delivery));
        for delivery in held {
            self.give_back(delivery);
        }
        let slots: Vec<_> =
            consumers.into_iter().filter_map(|slot| self.consumers.try_remove(slot)).collect();
        // Back in the queue before its consumer leaves: an auto-delete queue goes with the last.
        self.flush_settlements().await;
        for slot in slots {
            self.end_consumer(slot).await;
        }
    }
}
