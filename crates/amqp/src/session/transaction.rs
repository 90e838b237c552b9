//! Transactions of a channel (class `tx`): what was published and settled since the last commit happens
//! together or not at all.
//!
//! A publish is routed when it comes and held, for the queues that have those names at the commit; a
//! settlement takes its delivery out of what may be settled and holds it. A commit is one transaction of
//! the ledger and is answered once that is on disk and seen; what could not be routed and is mandatory
//! goes back then. One that is refused changes nothing and closes the channel, as RabbitMQ closes it. A
//! rollback, and the end of the channel, forget the publishes and put the deliveries back among the
//! unsettled.
//!
//! Invariant: what the open transactions of a connection hold is bounded by [`HELD_BYTES_MAX`].

use std::{borrow::Cow, rc::Rc};

use weft_broker::{Lease, Message, Settler, Verdict};
use weft_ledger::has_ended;
use weft_wire::amqp::Method;

use super::{
    Session,
    settle::{Held, Holder, returned},
    submit::Pending,
};
use crate::fault::Fault;

/// The most bytes that one transaction holds, each queue of a message counted: what the ledger writes in
/// one go. A single message may be larger.
const BYTES_MAX: usize = 8 << 20;
/// The most messages, each queue counted, and settlements of one transaction: the ledger's bound.
const ENTRIES_MAX: usize = 10_000;
/// The most bytes that all open transactions of a connection hold.
const HELD_BYTES_MAX: usize = 64 << 20;
/// What is counted for a settlement.
const SETTLEMENT_BYTES: usize = 256;

/// What was published and settled since the last commit.
#[derive(Debug, Default)]
pub(crate) struct Transaction {
    publishes: Vec<Said>,
    settled: Vec<Settled>,
    entries: usize,
    /// What the ledger would write of it.
    written: usize,
    /// What it holds.
    held: usize,
}

/// A publish that waits for the commit.
#[derive(Debug)]
pub(super) enum Said {
    /// For queues; what is mandatory goes back if none of them is there any more.
    Routed { one: Pending, mandatory: bool },
    /// For no queue, and mandatory: it goes back.
    Unrouted(Message),
    /// For somebody who waits for a direct reply.
    Reply { message: Message, mandatory: bool },
}

/// A settlement that waits for the commit.
#[derive(Debug)]
struct Settled {
    tag: u64,
    held: Held,
    how: How,
}

/// What was said about a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    Ack,
    Requeue,
    Reject,
}

impl How {
    pub(super) fn verdict(self, holder: &Holder) -> Verdict {
        match self {
            Self::Ack => Verdict::Accept,
            Self::Requeue => returned(&holder.entry),
            Self::Reject => Verdict::Reject { reason: Cow::Borrowed("rejected") },
        }
    }
}

/// What a transaction settles of one queue.
type Part = (Settler, Vec<(Lease, Verdict)>);

fn not_transactional() -> Fault {
    Fault::precondition("channel is not transactional")
}

impl Session {
    pub(super) fn tx_select(&mut self, number: u16) -> Result<(), Fault> {
        let channel = self.channel(number)?;
        if channel.confirms.is_some() {
            return Err(Fault::precondition("cannot switch from confirm to tx mode"));
        }
        channel.transaction.get_or_insert_default();
        Method::TxSelectOk {}.write(number, &mut self.out);
        Ok(())
    }

    pub(super) fn confirm_select(&mut self, number: u16, no_wait: bool) -> Result<(), Fault> {
        let channel = self.channel(number)?;
        if channel.transaction.is_some() {
            return Err(Fault::precondition("cannot switch from tx to confirm mode"));
        }
        channel.confirms.get_or_insert_default();
        if !no_wait {
            Method::ConfirmSelectOk {}.write(number, &mut self.out);
        }
        Ok(())
    }

    pub(super) fn tx_rollback(&mut self, number: u16) -> Result<(), Fault> {
        if self.channel(number)?.transaction.is_none() {
            return Err(not_transactional());
        }
        self.roll_back(number);
        Method::TxRollbackOk {}.write(number, &mut self.out);
        Ok(())
    }

    /// Forgets what was published, and holds again what was settled.
    pub(super) fn roll_back(&mut self, number: u16) {
        let Some(channel) = self.channels.get_mut(&number) else { return };
        let Some(open) = channel.transaction.as_mut().map(std::mem::take) else { return };
        for Settled { tag, held, .. } in open.settled {
            channel.unacked.put_back(tag, held);
        }
        self.transactions_bytes -= open.held;
    }

    pub(super) async fn tx_commit(&mut self, number: u16) -> Result<(), Fault> {
        let open = self.channel(number)?.transaction.as_mut();
        let mut open = open.map(std::mem::take).ok_or_else(not_transactional)?;
        self.find_again(&mut open.publishes)?;
        let broker = self.server.broker.clone();
        let mut batch = broker.batch();
        let mut parts: Vec<(Rc<Holder>, Part)> = Vec::new();
        let mut done = Ok(());
        for said in &open.publishes {
            if let Said::Routed { one, .. } = said {
                let queues = one.targets.iter();
                let queues = queues.map(|to| (&to.queue, to.arguments.priority(one.priority)));
                done = done.and_then(|()| batch.publish(queues, &one.publish));
            }
        }
        for Settled { held, how, .. } in &open.settled {
            let verdict = (held.lease.clone(), how.verdict(&held.holder));
            match parts.iter_mut().find(|(holder, _)| Rc::ptr_eq(holder, &held.holder)) {
                Some((_, (_, list))) => list.push(verdict),
                None => {
                    let part = (held.holder.settler.clone(), vec![verdict]);
                    parts.push((Rc::clone(&held.holder), part));
                }
            }
        }
        let parts: Vec<Part> = parts.into_iter().map(|(_, part)| part).collect();
        let receipt = match done {
            Ok(()) => broker.transact(batch, &parts).await,
            Err(error) => Err(error),
        };
        let receipt = match receipt {
            Ok(receipt) => receipt,
            Err(error) => {
                // It is as it was: the end of the channel, which follows, rolls it back.
                if let Some(channel) = self.channels.get_mut(&number) {
                    channel.transaction = Some(open);
                }
                let fault = match has_ended(&error) {
                    true => Fault::from(error),
                    false => Fault::precondition(format_args!(
                        "the transaction was refused, and nothing of it was done: {error}"
                    )),
                };
                return Err(fault);
            }
        };
        self.transactions_bytes -= open.held;
        for Settled { held, .. } in &open.settled {
            self.let_go(number, held);
        }
        self.wake_starved(number);
        if let Some(receipt) = &receipt {
            broker.until_durable(receipt).await?;
        }
        for said in open.publishes {
            match said {
                Said::Routed { .. } => {}
                Said::Unrouted(message) => self.give_back_unrouted(number, &message),
                Said::Reply { message, mandatory } => self.reply(number, &message, mandatory),
            }
        }
        Method::TxCommitOk {}.write(number, &mut self.out);
        Ok(())
    }

    /// Finds the queues of held publishes by their names again where one was deleted since: who made a
    /// queue of that name meanwhile gets the message.
    fn find_again(&self, publishes: &mut [Said]) -> Result<(), Fault> {
        let vhost = self.vhost()?;
        for said in publishes {
            let Said::Routed { one, mandatory } = said else { continue };
            if !one.targets.iter().any(|to| to.queue.is_deleted()) {
                continue;
            }
            one.targets = one.targets.iter().filter_map(|to| vhost.entry(&to.name)).collect();
            if one.targets.is_empty() && *mandatory {
                *said = Said::Unrouted(one.publish.message.clone());
            }
        }
        Ok(())
    }

    /// Whether what is said on a channel waits for a commit.
    pub(super) fn is_transactional(&self, number: u16) -> bool {
        self.channels.get(&number).is_some_and(|channel| channel.transaction.is_some())
    }

    /// Holds a publish until the commit.
    pub(super) fn hold_publish(&mut self, number: u16, said: Said) -> Result<(), Fault> {
        let (entries, written, held) = match &said {
            Said::Routed { one, .. } => {
                let (copies, bytes) = (one.targets.len(), one.publish.message.len());
                (copies, bytes.saturating_mul(copies), bytes)
            }
            Said::Unrouted(message) | Said::Reply { message, .. } => (0, 0, message.len()),
        };
        let open = self.grow(number, entries, written, held)?;
        open.publishes.push(said);
        Ok(())
    }

    /// Holds settlements until the commit.
    pub(super) fn hold_settlements(
        &mut self,
        number: u16,
        taken: Vec<(u64, Held)>,
        how: How,
    ) -> Result<(), Fault> {
        let bytes = taken.len() * SETTLEMENT_BYTES;
        match self.grow(number, taken.len(), bytes, bytes) {
            Ok(open) => {
                let settled = taken.into_iter().map(|(tag, held)| Settled { tag, held, how });
                open.settled.extend(settled);
                Ok(())
            }
            Err(fault) => {
                if let Some(channel) = self.channels.get_mut(&number) {
                    taken.into_iter().for_each(|(tag, held)| channel.unacked.put_back(tag, held));
                }
                Err(fault)
            }
        }
    }

    fn grow(
        &mut self,
        number: u16,
        entries: usize,
        written: usize,
        held: usize,
    ) -> Result<&mut Transaction, Fault> {
        let all = self.transactions_bytes + held;
        let channel = self.channels.get_mut(&number);
        let open = channel.and_then(|channel| channel.transaction.as_mut());
        let open = open.ok_or_else(not_transactional)?;
        if open.entries + entries > ENTRIES_MAX {
            return Err(Fault::precondition(format_args!(
                "a transaction has at most {ENTRIES_MAX} messages and acknowledgements: commit more often"
            )));
        }
        if open.written + written > BYTES_MAX && open.entries > 0 {
            return Err(Fault::precondition(format_args!(
                "a transaction has at most {BYTES_MAX} bytes: commit more often"
            )));
        }
        if all > HELD_BYTES_MAX && all > held {
            return Err(Fault::precondition(format_args!(
                "the open transactions of a connection hold at most {HELD_BYTES_MAX} bytes: commit more often"
            )));
        }
        self.transactions_bytes = all;
        open.entries += entries;
        open.written += written;
        open.held += held;
        Ok(open)
    }
}
