//! What only a store within this process can do: answer at once, under a lock of about a microsecond.
//!
//! What is asked once per message (submitting, leasing, settling, waiting for a turn) neither waits nor
//! allocates a future here. A store across a network cannot keep that promise, so that it is no part of
//! [`Store`]: whoever asks for an [`EmbeddedStore`] says that it must be this one. The broker does.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use weft_kernel::{Error, Result, Tick};

use super::{
    GroupConsumer, GroupStats, Joined, LeaseLimits, Leased, LogStats, Pending, Stats, Store,
};
use crate::{
    options::Durability,
    record::{ConsumerId, GroupId, LeasedRecord, LogId, Token},
    transaction::{Op, Receipt, Refused, Seen, Transaction},
};

/// A namespace of a store within this process. What ends in `_now` answers at once; polls wake the task.
pub trait EmbeddedStore: Store {
    /// As [`Store::namespace`].
    ///
    /// # Errors
    ///
    /// As [`Store::namespace`].
    fn embedded_namespace(&self, name: &str) -> Result<Arc<dyn EmbeddedStore>>;
    /// Checks a transaction and applies it, without waiting for the disk: it is done when
    /// [`EmbeddedStore::poll_durable`] says so for the receipt's number and level.
    ///
    /// # Errors
    ///
    /// `storage_busy` when too much waits to be written ([`EmbeddedStore::poll_room`] tells when to try again),
    /// and what the operations say. Nothing is applied then. An entry of a map of which an operation expects
    /// something may have to be read from the disk first; [`Store::commit`] does that without blocking.
    fn submit_now(&self, transaction: Transaction) -> Result<Receipt, Refused>;
    /// Which operations would be refused now, and why, if they were submitted in parts, of which each
    /// is done as a whole or left out. `parts` says with which operation each begins, in order. Nothing
    /// is applied. So whoever can go on without a part that is refused asks once, however many are.
    fn refusals_now(&self, ops: &[Op], parts: &[u32]) -> Vec<(usize, Error)>;
    /// What a log holds.
    ///
    /// # Errors
    ///
    /// `no_message` without the log.
    fn log_stats_now(&self, log: LogId) -> Result<LogStats>;
    /// Lets a consumer into a group.
    ///
    /// # Errors
    ///
    /// `no_message` without the group, `queue_locked` if it wants to be alone and is not or another is,
    /// `definition_conflict` if its id is there.
    fn join_now(&self, group: GroupId, consumer: GroupConsumer) -> Result<Joined>;
    /// Takes a consumer out of a group. With `requeue` its deliveries are ready again (not as failures);
    /// else they stay leased until they run out or are settled.
    fn leave_now(&self, group: GroupId, consumer: ConsumerId, requeue: bool);
    /// Whether a consumer of the group is handed anything (it is the active one, and nothing is paused).
    fn active_now(&self, group: GroupId, consumer: ConsumerId) -> bool;
    /// Leases what is ready, in order, without waiting for more.
    ///
    /// # Errors
    ///
    /// `no_message` without the group, or if the consumer has not joined.
    fn lease_now(&self, group: GroupId, ask: LeaseLimits) -> Result<Leased<'_>>;
    /// As [`EmbeddedStore::lease_now`], but as far as the limits go wherever the records are: waits for the
    /// disk, also while another consumer reads from it, rather than give less. So it is empty only if
    /// nothing is ready. Dropped before it is done, it gives back what it had leased.
    fn lease_fully(
        &self,
        group: GroupId,
        ask: LeaseLimits,
    ) -> Pending<'_, Result<Vec<LeasedRecord>>>;
    /// How many records a consumer should lease at a time, so that all that wait have their part: one by
    /// one while little is ready, more of much; without a bound while no other waits.
    fn share_now(&self, group: GroupId, consumer: ConsumerId) -> u32;
    /// Starts the lease of a delivery anew, `span` from now.
    ///
    /// # Errors
    ///
    /// `lease_lost` if it is not this token's any more.
    fn renew_now(&self, group: GroupId, position: u64, token: Token, span: Duration) -> Result<()>;
    /// How a group stands.
    ///
    /// # Errors
    ///
    /// `no_message` without the group.
    fn group_stats_now(&self, group: GroupId) -> Result<GroupStats>;
    /// Whether a group has a record at a position that it has not settled, without reading it; `false`
    /// without the group.
    fn holds_now(&self, group: GroupId, position: u64) -> bool;
    /// Stops or resumes handing out. It does not survive a restart.
    ///
    /// # Errors
    ///
    /// `no_message` without the group.
    fn pause_now(&self, group: GroupId, paused: bool) -> Result<()>;
    /// When [`Store::overdue`] and [`Store::take_timers`] are to be called next; `None` while nothing waits
    /// for its time.
    fn next_due_now(&self) -> Option<Tick>;
    /// Why nothing more is taken, once that is so: see [`has_ended`](crate::has_ended).
    fn ended_now(&self) -> Option<Error>;
    /// Whether the disk has no room for appends.
    fn full_now(&self) -> bool;
    /// The newest damage that was found since the store was opened, a sentence each.
    fn damage_now(&self) -> Vec<String> {
        Vec::new()
    }
    /// What was done and is held.
    fn stats_now(&self) -> Stats;
    /// The number of the newest transaction that is done at a level; all before it are as well.
    fn durable_now(&self, level: Durability) -> u64;
    /// Ready once the transaction of a number is done at a level; wakes the task otherwise.
    ///
    /// # Errors
    ///
    /// `storage_poisoned` if it never will be.
    fn poll_durable(
        &self,
        seq: u64,
        level: Durability,
        context: &mut Context<'_>,
    ) -> Poll<Result<()>>;
    /// Ready when [`EmbeddedStore::submit_now`] has room; wakes the task otherwise.
    fn poll_room(&self, context: &mut Context<'_>) -> Poll<()>;
    /// Ready when a lease by this consumer could give something, or would fail; wakes the task
    /// otherwise. Consumers are woken one at a time, those of the highest priority first, and first
    /// come, first served among equals; who was woken and does not lease after all must call
    /// [`EmbeddedStore::pass_turn`] ([`wait_ready`] does).
    fn poll_ready(
        &self,
        group: GroupId,
        consumer: ConsumerId,
        context: &mut Context<'_>,
    ) -> Poll<()>;
    /// Gives up waiting; if the consumer had been woken, another one is.
    fn pass_turn(&self, group: GroupId, consumer: ConsumerId);
    /// Whether a record of the namespace waits for a time of the wall clock, which somebody may set: then
    /// [`Store::overdue`](crate::Store::overdue), which looks at that clock, has to be called now and then.
    fn waits_for_wall_now(&self) -> bool;
    /// Ready once [`EmbeddedStore::next_due_now`] has become earlier than it was when it was last asked; wakes the
    /// task otherwise. For one task: the one that serves the namespace.
    fn poll_due(&self, context: &mut Context<'_>) -> Poll<()>;
}

/// Waits until a transaction is done at its level.
///
/// # Errors
///
/// `storage_poisoned` if it never will be.
pub async fn until_durable(store: &dyn EmbeddedStore, seq: u64, level: Durability) -> Result<()> {
    std::future::poll_fn(|context| store.poll_durable(seq, level, context)).await
}

/// Waits until records that were appended are seen by readers and consumers.
///
/// # Errors
///
/// `storage_poisoned` if they never will be.
pub async fn until_seen(store: &dyn EmbeddedStore, seen: Seen) -> Result<()> {
    until_durable(store, seen.written, Durability::Os).await?;
    until_durable(store, seen.synced, Durability::Fsync).await
}

/// Waits until [`EmbeddedStore::submit_now`] has room.
pub async fn room(store: &dyn EmbeddedStore) {
    std::future::poll_fn(|context| store.poll_room(context)).await;
}

/// Waits until the time of [`EmbeddedStore::next_due_now`] has to be read again.
pub async fn due_changed(store: &dyn EmbeddedStore) {
    std::future::poll_fn(|context| store.poll_due(context)).await;
}

/// Waits until a lease by `consumer` could give something; lease at once afterwards. Cancel-safe: a
/// turn that was given and not seen goes to the next.
pub fn wait_ready(
    store: &dyn EmbeddedStore,
    group: GroupId,
    consumer: ConsumerId,
) -> WaitReady<'_> {
    WaitReady { store, group, consumer, waiting: false }
}

/// The future of [`wait_ready`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct WaitReady<'a> {
    store: &'a dyn EmbeddedStore,
    group: GroupId,
    consumer: ConsumerId,
    waiting: bool,
}

impl Future for WaitReady<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let poll = self.store.poll_ready(self.group, self.consumer, context);
        self.waiting = poll.is_pending();
        poll
    }
}

impl Drop for WaitReady<'_> {
    fn drop(&mut self) {
        if self.waiting {
            self.store.pass_turn(self.group, self.consumer);
        }
    }
}
