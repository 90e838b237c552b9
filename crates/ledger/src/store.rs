//! What can be asked of a store: the trait that the embedded ledger and a store of several nodes share.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use weft_kernel::{Error, Result, Tick};

use crate::{
    options::{Durability, GroupOptions, LogOptions, MapOptions},
    record::{
        ConsumerId, GroupId, LeasedRecord, Limits, LogId, MapId, ReadItem, Timer, Token, Value,
    },
    transaction::{Op, Receipt, Refused, Seen, Transaction},
};

/// An answer that may take a while. Dropping it gives up the answer, not what was asked for.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// How much a consumer wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseLimits {
    /// Who asks: joined, or [`ConsumerId::SYSTEM`].
    pub consumer: ConsumerId,
    /// At most so many records.
    pub records: u32,
    /// At most so many bytes of keys and payloads, but always one record if any is ready.
    pub bytes: u64,
    /// How long each may take; `None` for the group's lease.
    pub lease: Option<Duration>,
}

/// Deliveries: in hand, or on their way from the disk.
pub enum Leased<'a> {
    /// At once; empty if nothing is ready.
    Now(Vec<LeasedRecord>),
    /// Being read. Dropped before it is done, it gives back what it had leased.
    Later(Pending<'a, Result<Vec<LeasedRecord>>>),
}

impl Leased<'_> {
    /// Waits for the deliveries.
    ///
    /// # Errors
    ///
    /// As for [`Store::lease`].
    pub async fn wait(self) -> Result<Vec<LeasedRecord>> {
        match self {
            Self::Now(deliveries) => Ok(deliveries),
            Self::Later(reading) => reading.await,
        }
    }
}

/// Who wants to consume from a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupConsumer {
    /// Distinct within the group, not [`ConsumerId::SYSTEM`].
    pub id: ConsumerId,
    /// The higher the sooner it is given something.
    pub priority: i32,
    /// Wants to be alone: refused if another is there, and refuses others while it is.
    pub exclusive: bool,
}

/// What a consumer is told when it joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Whether it is handed anything now; `false` behind the active one of a single-active group.
    pub active: bool,
    /// How many consumers the group has, with it.
    pub consumers: u32,
}

/// What a log holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct LogStats {
    /// The position of its oldest record, or its end if it has none.
    pub first: u64,
    /// The position after its newest visible record.
    pub end: u64,
    /// Records between the two.
    pub records: u64,
    /// Their bytes as stored: key, payload and 20 to 40 more each.
    pub bytes: u64,
    /// The bytes of those behind `end`, which cannot be read yet.
    pub unseen_bytes: u64,
    /// When its oldest record was appended, in wall-clock milliseconds; 0 without one.
    pub oldest_ms: u64,
    /// When its newest record was appended, in wall-clock milliseconds; 0 without one.
    pub last_ms: u64,
}

/// How a group stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct GroupStats {
    /// Records that can be handed out now, those behind a blocked key included.
    pub ready: u64,
    /// Records that are handed out.
    pub leased: u64,
    /// Records that wait for their retry or their due time.
    pub waiting: u64,
    /// The bytes of those that are handed out: in a segment a guess for those that were never read.
    pub leased_bytes: u64,
    /// The bytes of those that wait, likewise.
    pub waiting_bytes: u64,
    /// Records above `low` that are settled.
    pub done_above: u64,
    /// Everything below is settled.
    pub low: u64,
    /// The next position that was never looked at.
    pub cursor: u64,
    /// When the oldest record that is not settled was appended, in wall-clock milliseconds; 0 if unknown
    /// or none.
    pub oldest_ms: u64,
    /// Hand-outs since the store was opened.
    pub handouts: u64,
    /// Records settled as done since the store was opened.
    pub done: u64,
    /// Failures counted since the store was opened.
    pub failures: u64,
    /// Leases that ran out since the store was opened.
    pub expired_leases: u64,
    /// Records that could not be read when they were to be handed out, since the store was opened.
    pub lost: u64,
    /// Consumers that have joined.
    pub consumers: u32,
    /// Whether it is paused.
    pub paused: bool,
    /// Whether something is ready and a consumer waits that may have it: it is about to be handed out.
    pub awaited: bool,
}

/// How one record of a group stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// To be handed out when its turn comes.
    Ready,
    /// Handed out.
    Leased {
        /// To whom.
        consumer: ConsumerId,
        /// Until when, on the monotonic clock.
        until: Tick,
    },
    /// Waiting for its retry or its due time, in wall-clock milliseconds.
    Waiting {
        /// When.
        due_ms: u64,
    },
    /// Ready, behind an earlier record of its key.
    Blocked,
}

/// A record that a group has not settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exception {
    /// Its position.
    pub position: u64,
    /// How it stands.
    pub standing: Standing,
    /// How often it was handed out.
    pub handouts: u32,
    /// How often it failed.
    pub failures: u32,
    /// The note of its last retry.
    pub note: Bytes,
}

/// What the store as a whole has done and holds, since it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Stats {
    /// The number of the newest transaction that is on disk.
    pub durable: u64,
    /// The number of the newest transaction submitted.
    pub submitted: u64,
    /// Transactions.
    pub transactions: u64,
    /// Transactions that were refused for one of their operations, or for their size.
    pub refused: u64,
    /// Records appended.
    pub appended: u64,
    /// Appends that were known already.
    pub duplicates: u64,
    /// Write groups.
    pub groups: u64,
    /// Syncs.
    pub syncs: u64,
    /// Time spent in syncs, in nanoseconds.
    pub sync_nanos: u64,
    /// Bytes written to the write-ahead log.
    pub written_bytes: u64,
    /// Bytes that wait to be written.
    pub pending_bytes: u64,
    /// Logs.
    pub logs: u64,
    /// Groups of consumption.
    pub consumption_groups: u64,
    /// Maps.
    pub maps: u64,
    /// About the bytes that memory takes for entries of maps: those that have changed since the last
    /// checkpoint, and those that were read.
    pub map_bytes: u64,
    /// Bytes of all records.
    pub record_bytes: u64,
    /// Bytes of the checkpoint's tables.
    pub index_bytes: u64,
    /// Whether appends are refused because the disk has no room.
    pub full: bool,
    /// Whether a file cannot be opened, read or made for now, and maintenance is suspended.
    pub unavailable: bool,
    /// Whether nothing is taken because a write has failed.
    pub poisoned: bool,
    /// Bytes of the files of the write-ahead log, those that are ready to be used included.
    pub wal_bytes: u64,
    /// Bytes of all segments.
    pub segment_bytes: u64,
    /// Damage that was found: records and files.
    pub damaged: u64,
}

/// A namespace of a transactional store of logs, groups and maps.
///
/// Object-safe. What is asked per message neither waits nor allocates a future; the rest does.
/// Errors have the kernel's reasons: `no_message` for an unknown log, group or map,
/// `definition_conflict`, `queue_full`, `lease_lost`, `position_conflict`, `version_conflict`,
/// `storage_busy`, `storage_full`, `storage_unavailable`, `storage_poisoned`, `malformed_request`, `message_too_large`.
pub trait Store: Send + Sync {
    /// Another namespace of the same store, made with its first use. A component has one for itself: names
    /// of logs, groups and maps are those within it, and so is what is due, which holds up nobody else.
    /// Ids are of the whole store: a transaction, submitted to whichever, may span namespaces.
    ///
    /// # Errors
    ///
    /// `malformed_request` for a name that is not of 1 to 64 characters of `a-z`, `0-9`, `-`, `_`, `.`.
    fn namespace(&self, name: &str) -> Result<Arc<dyn Store>>;

    // Definitions. Names have 1 to 512 bytes and do not begin with NUL. Each is durable when its future
    // answers.

    /// Creates a log. With a name that exists it answers the id if the options are the same.
    ///
    /// # Errors
    ///
    /// `definition_conflict` if the name has other options.
    fn create_log<'a>(&'a self, name: &'a str, options: LogOptions) -> Pending<'a, Result<LogId>>;
    /// Changes what can be altered of a log.
    ///
    /// # Errors
    ///
    /// `no_message` without the log, `definition_conflict` if storage or order would change.
    fn alter_log(&self, log: LogId, options: LogOptions) -> Pending<'_, Result<()>>;
    /// Removes a log, its records and its groups. Consumers of the groups are woken and told
    /// `no_message`.
    ///
    /// # Errors
    ///
    /// `no_message` without the log.
    fn drop_log(&self, log: LogId) -> Pending<'_, Result<()>>;
    /// The log of a name.
    fn find_log<'a>(&'a self, name: &'a str) -> Pending<'a, Result<Option<(LogId, LogOptions)>>>;
    /// Logs whose name begins with `prefix` and stands after `after`, by name, at most `limit`.
    fn logs<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> Pending<'a, Result<Vec<(String, LogId, LogOptions)>>>;

    /// Creates a group. With a name that exists it answers the id if the options are the same but for
    /// their start.
    ///
    /// # Errors
    ///
    /// `no_message` without the log, `definition_conflict` if the name has other options, or if the
    /// log has an owner, or the group is to be owner and the log has groups.
    fn create_group<'a>(
        &'a self,
        name: &'a str,
        options: GroupOptions,
    ) -> Pending<'a, Result<GroupId>>;
    /// Changes what can be altered of a group: its lease, and whether one consumer is active.
    ///
    /// # Errors
    ///
    /// `no_message` without the group, `definition_conflict` if anything else would change.
    fn alter_group(&self, group: GroupId, options: GroupOptions) -> Pending<'_, Result<()>>;
    /// Removes a group; its log stays. Its consumers are woken and told `no_message`.
    ///
    /// # Errors
    ///
    /// `no_message` without the group.
    fn drop_group(&self, group: GroupId) -> Pending<'_, Result<()>>;
    /// The group of a name.
    fn find_group<'a>(
        &'a self,
        name: &'a str,
    ) -> Pending<'a, Result<Option<(GroupId, GroupOptions)>>>;
    /// Groups whose name begins with `prefix` and stands after `after`, by name, at most `limit`.
    fn groups<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> Pending<'a, Result<Vec<(String, GroupId, GroupOptions)>>>;

    /// Creates a map. With a name that exists it answers the id if the options are the same.
    ///
    /// # Errors
    ///
    /// `definition_conflict` if the name has other options.
    fn create_map<'a>(&'a self, name: &'a str, options: MapOptions) -> Pending<'a, Result<MapId>>;
    /// Removes a map and its entries.
    ///
    /// # Errors
    ///
    /// `no_message` without the map.
    fn drop_map(&self, map: MapId) -> Pending<'_, Result<()>>;

    // Transactions.

    /// Checks a transaction and applies it, without waiting for the disk: it is done when
    /// [`Store::poll_durable`] says so for the receipt's number and level.
    ///
    /// # Errors
    ///
    /// `storage_busy` when too much waits to be written ([`Store::poll_room`] tells when to try again),
    /// and what the operations say. Nothing is applied then. An entry of a map of which an operation expects
    /// something may have to be read from the disk first; [`Store::commit`] does that without blocking.
    fn submit(&self, transaction: Transaction) -> Result<Receipt, Refused>;
    /// Which operations would be refused now, and why, if they were submitted in parts, of which each
    /// is done as a whole or left out. `parts` says with which operation each begins, in order. Nothing
    /// is applied. So whoever can go on without a part that is refused asks once, however many are.
    fn refusals(&self, ops: &[Op], parts: &[u32]) -> Vec<(usize, Error)>;
    /// Waits for room, submits, and waits until the transaction is done and what it appends is seen.
    /// Dropped, it may have been submitted or not.
    ///
    /// # Errors
    ///
    /// As for [`Store::submit`], but never `storage_busy`.
    fn commit(&self, transaction: Transaction) -> Pending<'_, Result<Receipt, Refused>>;
    /// The number of the newest transaction that is done at a level; all before it are as well.
    fn durable(&self, level: Durability) -> u64;
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
    /// Ready when [`Store::submit`] has room; wakes the task otherwise.
    fn poll_room(&self, context: &mut Context<'_>) -> Poll<()>;

    // Reading.

    /// Records of a log from a position on, in order; empty at the end.
    ///
    /// # Errors
    ///
    /// `no_message` without the log.
    fn read(&self, log: LogId, from: u64, limits: Limits) -> Pending<'_, Result<Vec<ReadItem>>>;
    /// The first position of a log that was appended at or after a time (wall-clock milliseconds), or
    /// its end.
    ///
    /// # Errors
    ///
    /// `no_message` without the log.
    fn position_at(&self, log: LogId, time_ms: u64) -> Pending<'_, Result<u64>>;
    /// What a log holds.
    ///
    /// # Errors
    ///
    /// `no_message` without the log.
    fn log_stats(&self, log: LogId) -> Result<LogStats>;

    // Consuming.

    /// Lets a consumer into a group.
    ///
    /// # Errors
    ///
    /// `no_message` without the group, `queue_locked` if it wants to be alone and is not or another is,
    /// `definition_conflict` if its id is there.
    fn join(&self, group: GroupId, consumer: GroupConsumer) -> Result<Joined>;
    /// Takes a consumer out of a group. With `requeue` its deliveries are ready again (not as failures);
    /// else they stay leased until they run out or are settled.
    fn leave(&self, group: GroupId, consumer: ConsumerId, requeue: bool);
    /// Whether a consumer of the group is handed anything (it is the active one, and nothing is paused).
    fn active(&self, group: GroupId, consumer: ConsumerId) -> bool;
    /// Leases what is ready, in order, without waiting for more.
    ///
    /// # Errors
    ///
    /// `no_message` without the group, or if the consumer has not joined.
    fn lease(&self, group: GroupId, ask: LeaseLimits) -> Result<Leased<'_>>;
    /// Ready when a lease by this consumer could give something, or would fail; wakes the task
    /// otherwise. Consumers are woken one at a time, those of the highest priority first, and first
    /// come, first served among equals; who was woken and does not lease after all must call
    /// [`Store::pass_turn`] ([`wait_ready`] does).
    fn poll_ready(
        &self,
        group: GroupId,
        consumer: ConsumerId,
        context: &mut Context<'_>,
    ) -> Poll<()>;
    /// How many records a consumer should lease at a time, so that all that wait have their part: one by
    /// one while little is ready, more of much; without a bound while no other waits.
    fn share(&self, group: GroupId, consumer: ConsumerId) -> u32;
    /// Gives up waiting; if the consumer had been woken, another one is.
    fn pass_turn(&self, group: GroupId, consumer: ConsumerId);
    /// Starts the lease of a delivery anew, `span` from now.
    ///
    /// # Errors
    ///
    /// `lease_lost` if it is not this token's any more.
    fn renew(&self, group: GroupId, position: u64, token: Token, span: Duration) -> Result<()>;
    /// How a group stands.
    ///
    /// # Errors
    ///
    /// `no_message` without the group.
    fn group_stats(&self, group: GroupId) -> Result<GroupStats>;
    /// Records from a position on that a group has not settled, with how they stand, as far as the limits
    /// go; empty if there are none.
    ///
    /// # Errors
    ///
    /// `no_message` without the group.
    fn peek(
        &self,
        group: GroupId,
        from: u64,
        limits: Limits,
    ) -> Pending<'_, Result<Vec<(Exception, ReadItem)>>>;
    /// Whether a group has a record at a position that it has not settled, without reading it; `false`
    /// without the group.
    fn holds(&self, group: GroupId, position: u64) -> bool;
    /// Has a record leased to the system with the next [`Store::overdue`], whatever it waits for, as if it
    /// had expired; `false` if it is settled or leased, or stands behind another of its key.
    ///
    /// # Errors
    ///
    /// `no_message` without the group, and what the disk says.
    fn recall(&self, group: GroupId, position: u64) -> Pending<'_, Result<bool>>;
    /// Stops or resumes handing out. It does not survive a restart.
    ///
    /// # Errors
    ///
    /// `no_message` without the group.
    fn pause(&self, group: GroupId, paused: bool) -> Result<()>;

    // Time, each in this namespace alone. What is due in one that nobody asks for waits.

    /// When [`Store::overdue`] and [`Store::take_timers`] are to be called next; `None` while nothing waits
    /// for its time.
    fn next_due(&self) -> Option<Tick>;
    /// Ready once [`Store::next_due`] has become earlier than it was when it was last asked; wakes the
    /// task otherwise. For one task: the one that serves the namespace.
    fn poll_due(&self, context: &mut Context<'_>) -> Poll<()>;
    /// Does what is due: retries and delayed records become ready, and leases that ran out and records
    /// that expired are handed out, as fresh leases of [`ConsumerId::SYSTEM`] with
    /// [`Why`](crate::record::Why) they are, at most `limit`, for the caller to settle.
    fn overdue(&self, limit: usize) -> Pending<'_, Result<Vec<LeasedRecord>>>;

    /// Takes timers whose time has come, the earliest of each map first, at most `limit`. Who takes one has
    /// it alone for `lease`; unless a transaction has ended it or set it anew by then, it is handed out
    /// again, also after a restart. So what is done about a timer belongs into the transaction that ends
    /// it. What they show is durable.
    fn take_timers(&self, limit: usize, lease: Duration) -> Pending<'_, Result<Vec<Timer>>>;

    // Maps. Entries that expire are not shown from then on, and deleted in the background.

    /// An entry of a map. What it shows is durable.
    ///
    /// # Errors
    ///
    /// `no_message` without the map, and what the disk says.
    fn get<'a>(&'a self, map: MapId, key: &'a [u8]) -> Pending<'a, Result<Option<Value>>>;
    /// Entries whose key begins with `prefix` and stands after `after`, by key, at most `limit`. What
    /// they show is durable, and as of one moment.
    ///
    /// # Errors
    ///
    /// `no_message` without the map, and what the disk says.
    fn scan<'a>(
        &'a self,
        map: MapId,
        prefix: &'a [u8],
        after: Option<Bytes>,
        limit: usize,
    ) -> Pending<'a, Result<Vec<(Bytes, Value)>>>;

    // The whole.

    /// Why nothing more is taken, if a write has failed.
    fn poisoned(&self) -> Option<String>;
    /// Whether the disk has no room for appends.
    fn full(&self) -> bool;
    /// The newest damage that was found since the store was opened, a sentence each.
    fn damage(&self) -> Vec<String> {
        Vec::new()
    }
    /// What was done and is held.
    fn stats(&self) -> Stats;
}

/// Waits until a transaction is done at its level.
///
/// # Errors
///
/// `storage_poisoned` if it never will be.
pub async fn until_durable(store: &dyn Store, seq: u64, level: Durability) -> Result<()> {
    std::future::poll_fn(|context| store.poll_durable(seq, level, context)).await
}

/// Waits until records that were appended are seen by readers and consumers.
///
/// # Errors
///
/// `storage_poisoned` if they never will be.
pub async fn until_seen(store: &dyn Store, seen: Seen) -> Result<()> {
    until_durable(store, seen.written, Durability::Os).await?;
    until_durable(store, seen.synced, Durability::Fsync).await
}

/// Waits until [`Store::submit`] has room.
pub async fn room(store: &dyn Store) {
    std::future::poll_fn(|context| store.poll_room(context)).await;
}

/// Waits until the time of [`Store::next_due`] has to be read again.
pub async fn due_changed(store: &dyn Store) {
    std::future::poll_fn(|context| store.poll_due(context)).await;
}

/// Waits until a lease by `consumer` could give something; lease at once afterwards. Cancel-safe: a
/// turn that was given and not seen goes to the next.
pub fn wait_ready(store: &dyn Store, group: GroupId, consumer: ConsumerId) -> WaitReady<'_> {
    WaitReady { store, group, consumer, waiting: false }
}

/// The future of [`wait_ready`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct WaitReady<'a> {
    store: &'a dyn Store,
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
