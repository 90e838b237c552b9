//! Settling: acks, nacks and rejects, gathered by queue and handed to the broker together.

use std::{borrow::Cow, rc::Rc, sync::Arc, time::Duration};

use tokio::time::Instant;
use weft_broker::{Lease, Seen, Settler, Verdict};
use weft_wire::amqp::{Method, ReplyCode};

use super::{Session, transaction::How};
use crate::{fault::Fault, vhost::Entry};

/// A queue, and how its deliveries are settled.
#[derive(Debug)]
pub(crate) struct Holder {
    pub(crate) settler: Settler,
    pub(crate) entry: Arc<Entry>,
    /// Whether it stands for a single message that was fetched, and for no consumer.
    pub(crate) fetched: bool,
}

impl Holder {
    /// Whether deliveries of both may be settled together. What a consumer holds is counted by its own.
    fn settles_with(self: &Rc<Self>, other: &Rc<Self>) -> bool {
        let fetched = self.fetched && other.fetched;
        Rc::ptr_eq(self, other) || fetched && Arc::ptr_eq(&self.entry, &other.entry)
    }
}

/// A delivery that is not settled.
#[derive(Debug)]
pub(crate) struct Held {
    pub(super) lease: Lease,
    pub(super) holder: Rc<Holder>,
    /// The consumer it went to, by number and serial number; `None` if it was fetched.
    pub(super) to: Option<(usize, u64)>,
    pub(super) since: Instant,
}

/// Verdicts that wait to be handed over.
#[derive(Debug, Default)]
pub(crate) struct Settling {
    by_queue: Vec<(Rc<Holder>, Verdicts)>,
    /// When the dead letters of what was handed over are seen.
    seen: Seen,
}

/// What was said about deliveries of one queue.
type Verdicts = Vec<(Lease, Verdict)>;

impl Settling {
    pub(super) fn add(&mut self, holder: &Rc<Holder>, lease: Lease, verdict: Verdict) {
        // Nearly always the queue of the one before; a connection uses few at a time.
        match self.by_queue.iter_mut().rev().find(|(known, _)| known.settles_with(holder)) {
            Some((_, list)) => list.push((lease, verdict)),
            None => self.by_queue.push((Rc::clone(holder), vec![(lease, verdict)])),
        }
    }
}

/// What giving back means: in a queue that counts deliveries it is a failure, elsewhere it is not.
pub(super) fn returned(entry: &Entry) -> Verdict {
    if entry.arguments.quorum || entry.arguments.delivery_limit.is_some() {
        Verdict::Fail { reason: Cow::Borrowed("returned"), delay: Some(Duration::ZERO) }
    } else {
        Verdict::Release
    }
}

impl Session {
    pub(super) fn ack(&mut self, number: u16, tag: u64, multiple: bool) -> Result<(), Fault> {
        self.settle_each(number, tag, multiple, How::Ack)
    }

    pub(super) fn reject(
        &mut self,
        number: u16,
        tag: u64,
        multiple: bool,
        requeue: bool,
    ) -> Result<(), Fault> {
        let how = if requeue { How::Requeue } else { How::Reject };
        self.settle_each(number, tag, multiple, how)
    }

    fn settle_each(
        &mut self,
        number: u16,
        tag: u64,
        multiple: bool,
        how: How,
    ) -> Result<(), Fault> {
        let channel = self.channels.get_mut(&number);
        let Some(channel) = channel else { return Ok(()) };
        let all = multiple && tag == 0;
        if !all && !channel.unacked.knows(tag) {
            return Err(Fault::precondition(format_args!("unknown delivery tag {tag}")));
        }
        let waits = channel.transaction.is_some();
        let mut taken = Vec::new();
        if multiple {
            channel.unacked.take_until(tag, |tag, held| taken.push((tag, held)));
        } else if let Some(held) = channel.unacked.take(tag) {
            taken.push((tag, held));
        }
        if waits {
            return self.hold_settlements(number, taken, how);
        }
        for (_, held) in taken {
            self.let_go(number, &held);
            let verdict = how.verdict(&held.holder);
            self.settling.add(&held.holder, held.lease, verdict);
        }
        self.wake_starved(number);
        Ok(())
    }

    /// A delivery does not count against what may be unsettled any more.
    pub(super) fn let_go(&mut self, number: u16, held: &Held) {
        let Some((consumer, serial)) = held.to else { return };
        let mut together = false;
        if let Some(channel) = self.channels.get_mut(&number) {
            channel.in_flight = channel.in_flight.saturating_sub(1);
            together = channel.prefetch_all != 0;
        }
        if let Some(slot) = self.consumers.get_mut(consumer).filter(|slot| slot.serial == serial) {
            slot.in_flight = slot.in_flight.saturating_sub(1);
            if !together && std::mem::take(&mut slot.starved) {
                self.hungry.push(consumer);
            }
        }
    }

    /// With a prefetch of the whole channel any of its consumers may have waited for what was let go: who
    /// was given nothing for longest comes first.
    pub(super) fn wake_starved(&mut self, number: u16) {
        let Some(channel) = self.channels.get(&number) else { return };
        if channel.prefetch_all == 0 {
            return;
        }
        let mut woken = Vec::new();
        for number in channel.consumers.values() {
            if let Some(slot) = self.consumers.get_mut(*number)
                && std::mem::take(&mut slot.starved)
            {
                woken.push((slot.fed, *number));
            }
        }
        woken.sort_unstable();
        self.hungry.extend(woken.into_iter().map(|(_, number)| number));
    }

    /// Gives a delivery back whose channel ends: lost, unless it is the server that ends it.
    pub(super) fn give_back(&mut self, held: Held) {
        let verdict = match returned(&held.holder.entry) {
            _ if self.forgives => Verdict::Release,
            Verdict::Release => Verdict::Lost,
            counted => counted,
        };
        self.settling.add(&held.holder, held.lease, verdict);
    }

    /// Gives back what is unsettled on a channel, whatever waits for a commit.
    fn give_back_all(&mut self, number: u16) {
        let Some(channel) = self.channels.get_mut(&number) else { return };
        let mut taken = Vec::new();
        channel.unacked.take_until(0, |_tag, held| taken.push(held));
        for held in taken {
            self.let_go(number, &held);
            let verdict = returned(&held.holder.entry);
            self.settling.add(&held.holder, held.lease, verdict);
        }
        self.wake_starved(number);
    }

    /// Gives back what is unsettled on a channel.
    pub(super) async fn recover(
        &mut self,
        number: u16,
        requeue: bool,
        answer: bool,
    ) -> Result<(), Fault> {
        if !requeue {
            return Err(Fault::new(ReplyCode::NotImplemented, "requeue=false"));
        }
        self.give_back_all(number);
        self.flush_settlements().await;
        if answer {
            Method::BasicRecoverOk {}.write(number, &mut self.out);
        }
        Ok(())
    }

    /// Hands the verdicts to the broker. One whose lease was lost is passed over: the message is with
    /// somebody else, or gone with its queue.
    pub(crate) async fn flush_settlements(&mut self) {
        for (holder, list) in std::mem::take(&mut self.settling.by_queue) {
            loop {
                match holder.settler.settle(&list).await {
                    Ok(settled) => {
                        self.settling.seen = self.settling.seen.and(settled.seen);
                        break;
                    }
                    Err(error) if error.reason() == weft_kernel::Reason::StorageBusy => {
                        self.server.broker.room().await;
                    }
                    // It went with its messages, and with them what was to be said of them.
                    Err(_error) if holder.entry.queue.is_deleted() => break,
                    Err(error) => {
                        tracing::warn!(queue = %holder.entry.name, error = %error.detail(),
                            "deliveries could not be settled and will be handed out again");
                        break;
                    }
                }
            }
        }
    }

    /// Waits until the dead letters of what was settled are seen.
    pub(super) async fn until_dead_lettered(&mut self) -> weft_kernel::Result<()> {
        let seen = std::mem::take(&mut self.settling.seen);
        self.server.broker.until_seen(seen).await
    }

    /// The channel with a delivery that is unsettled for longer than its queue allows.
    pub(crate) fn overdue(&self, now: Instant) -> Option<(u16, Duration)> {
        self.channels.iter().find_map(|(number, channel)| {
            let oldest = channel.unacked.oldest()?;
            let timeout = oldest.holder.entry.arguments.timeout();
            (now.saturating_duration_since(oldest.since) > timeout).then_some((*number, timeout))
        })
    }

    /// Closes a channel whose consumer has not settled in time.
    pub(crate) async fn time_out(&mut self, number: u16, timeout: Duration) {
        let ms = timeout.as_millis();
        let fault = Fault::precondition(format_args!(
            "delivery acknowledgement on channel {number} timed out. Timeout value used: {ms} ms. \
             This timeout value can be configured, see consumers doc guide to learn more"
        ));
        self.fail(number, &fault, (0, 0)).await;
    }
}
