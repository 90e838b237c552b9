//! What can be asked of a store: the trait that the embedded ledger and a store of several nodes share
//! ([`Store`]), and what only the embedded one can do ([`EmbeddedStore`]).

mod answer;
mod consuming;
mod embedded;
mod stats;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use weft_kernel::{Error, Reason, Result, Tick};

pub use self::{
    answer::{Pending, StoreAnswer},
    consuming::{Exception, GroupConsumer, Joined, LeaseLimits, Leased, Standing},
    embedded::{
        EmbeddedStore, WaitReady, due_changed, room, until_durable, until_seen, wait_ready,
    },
    stats::{GroupStats, LogStats, Stats},
};
use crate::{
    options::{GroupOptions, LogOptions, MapOptions},
    record::{
        ConsumerId, GroupId, LeasedRecord, Limits, LogId, MapId, ReadItem, Timer, Token, Value,
    },
    transaction::{Receipt, Refused, Transaction},
};

/// A namespace of a transactional store of logs, groups and maps.
///
/// Object-safe, and decided so that a store across a network can implement it without blocking a thread:
/// whatever may need I/O answers with a [`StoreAnswer`]. One that is embedded answers at once where it can, which
/// costs no allocation, and has an [`EmbeddedStore`] beside it for what must be asked once per message.
/// Errors have the kernel's reasons: `no_message` for an unknown log, group or map,
/// `definition_conflict`, `queue_full`, `lease_lost`, `position_conflict`, `version_conflict`,
/// `storage_busy`, `storage_full`, `storage_unavailable`, `storage_poisoned`, `malformed_request`,
/// `message_too_large`. Any answer may be `storage_unavailable` where the store cannot be reached: whether
/// what was asked for was done is not known then.
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
    fn create_log<'a>(
        &'a self,
        name: &'a str,
        options: LogOptions,
    ) -> StoreAnswer<'a, Result<LogId>>;
    /// Changes what can be altered of a log.
    ///
    /// # Errors
    ///
    /// `no_message` without the log, `definition_conflict` if storage or order would change.
    fn alter_log(&self, log: LogId, options: LogOptions) -> StoreAnswer<'_, Result<()>>;
    /// Removes a log, its records and its groups. Consumers of the groups are woken and told
    /// `no_message`.
    ///
    /// # Errors
    ///
    /// `no_message` without the log.
    fn drop_log(&self, log: LogId) -> StoreAnswer<'_, Result<()>>;
    /// The log of a name.
    fn find_log<'a>(
        &'a self,
        name: &'a str,
    ) -> StoreAnswer<'a, Result<Option<(LogId, LogOptions)>>>;
    /// Logs whose name begins with `prefix` and stands after `after`, by name, at most `limit`.
    fn logs<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> StoreAnswer<'a, Result<Vec<(String, LogId, LogOptions)>>>;

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
    ) -> StoreAnswer<'a, Result<GroupId>>;
    /// Changes what can be altered of a group: its lease, and whether one consumer is active.
    ///
    /// # Errors
    ///
    /// `no_message` without the group, `definition_conflict` if anything else would change.
    fn alter_group(&self, group: GroupId, options: GroupOptions) -> StoreAnswer<'_, Result<()>>;
    /// Removes a group; its log stays. Its consumers are woken and told `no_message`.
    ///
    /// # Errors
    ///
    /// `no_message` without the group.
    fn drop_group(&self, group: GroupId) -> StoreAnswer<'_, Result<()>>;
    /// The group of a name.
    fn find_group<'a>(
        &'a self,
        name: &'a str,
    ) -> StoreAnswer<'a, Result<Option<(GroupId, GroupOptions)>>>;
    /// Groups whose name begins with `prefix` and stands after `after`, by name, at most `limit`.
    fn groups<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> StoreAnswer<'a, Result<Vec<(String, GroupId, GroupOptions)>>>;

    /// Creates a map. With a name that exists it answers the id if the options are the same.
    ///
    /// # Errors
    ///
    /// `definition_conflict` if the name has other options.
    fn create_map<'a>(
        &'a self,
        name: &'a str,
        options: MapOptions,
    ) -> StoreAnswer<'a, Result<MapId>>;
    /// Removes a map and its entries.
    ///
    /// # Errors
    ///
    /// `no_message` without the map.
    fn drop_map(&self, map: MapId) -> StoreAnswer<'_, Result<()>>;

    // Transactions.

    /// Waits for room, submits, and waits until the transaction is done and what it appends is seen.
    /// Dropped, it may have been submitted or not.
    ///
    /// # Errors
    ///
    /// What the operations say; nothing is applied then. Never `storage_busy`.
    fn commit(&self, transaction: Transaction) -> StoreAnswer<'_, Result<Receipt, Refused>>;

    // Reading.

    /// Records of a log from a position on, in order; empty at the end.
    ///
    /// # Errors
    ///
    /// `no_message` without the log.
    fn read(&self, log: LogId, from: u64, limits: Limits)
    -> StoreAnswer<'_, Result<Vec<ReadItem>>>;
    /// The first position of a log that was appended at or after a time (wall-clock milliseconds), or
    /// its end.
    ///
    /// # Errors
    ///
    /// `no_message` without the log.
    fn position_at(&self, log: LogId, time_ms: u64) -> StoreAnswer<'_, Result<u64>>;
    /// What a log holds.
    ///
    /// # Errors
    ///
    /// `no_message` without the log.
    fn log_stats(&self, log: LogId) -> StoreAnswer<'_, Result<LogStats>>;

    // Consuming.

    /// Lets a consumer into a group.
    ///
    /// # Errors
    ///
    /// `no_message` without the group, `queue_locked` if it wants to be alone and is not or another is,
    /// `definition_conflict` if its id is there.
    fn join(&self, group: GroupId, consumer: GroupConsumer) -> StoreAnswer<'_, Result<Joined>>;
    /// Takes a consumer out of a group. With `requeue` its deliveries are ready again (not as failures);
    /// else they stay leased until they run out or are settled.
    ///
    /// # Errors
    ///
    /// What the way to the store says; the consumer goes then with its connection.
    fn leave(
        &self,
        group: GroupId,
        consumer: ConsumerId,
        requeue: bool,
    ) -> StoreAnswer<'_, Result<()>>;
    /// Whether a consumer of the group is handed anything (it is the active one, and nothing is paused).
    ///
    /// # Errors
    ///
    /// What the way to the store says.
    fn active(&self, group: GroupId, consumer: ConsumerId) -> StoreAnswer<'_, Result<bool>>;
    /// Leases what is ready, in order, without waiting for more.
    /// Dropped before it is done, what it leases is given back, or comes back once its time is over.
    ///
    /// # Errors
    ///
    /// `no_message` without the group, or if the consumer has not joined.
    fn lease(&self, group: GroupId, ask: LeaseLimits)
    -> StoreAnswer<'_, Result<Vec<LeasedRecord>>>;
    /// Waits until a lease by this consumer could give something, or would fail; lease at once afterwards.
    /// Consumers are woken one at a time, those of the highest priority first, and first come, first served
    /// among equals. Cancel-safe: a turn that was given and not seen goes to the next.
    ///
    /// # Errors
    ///
    /// What the way to the store says.
    fn ready(&self, group: GroupId, consumer: ConsumerId) -> StoreAnswer<'_, Result<()>>;
    /// Starts the lease of a delivery anew, `span` from now.
    ///
    /// # Errors
    ///
    /// `lease_lost` if it is not this token's any more.
    fn renew(
        &self,
        group: GroupId,
        position: u64,
        token: Token,
        span: Duration,
    ) -> StoreAnswer<'_, Result<()>>;
    /// How a group stands.
    ///
    /// # Errors
    ///
    /// `no_message` without the group.
    fn group_stats(&self, group: GroupId) -> StoreAnswer<'_, Result<GroupStats>>;
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
    ) -> StoreAnswer<'_, Result<Vec<(Exception, ReadItem)>>>;
    /// Whether a group has a record at a position that it has not settled, without reading it; `false`
    /// without the group.
    ///
    /// # Errors
    ///
    /// What the way to the store says.
    fn holds(&self, group: GroupId, position: u64) -> StoreAnswer<'_, Result<bool>>;
    /// Has a record leased to the system with the next [`Store::overdue`], whatever it waits for, as if it
    /// had expired; `false` if it is settled or leased, or stands behind another of its key.
    ///
    /// # Errors
    ///
    /// `no_message` without the group, and what the disk says.
    fn recall(&self, group: GroupId, position: u64) -> StoreAnswer<'_, Result<bool>>;
    /// Stops or resumes handing out. It does not survive a restart.
    ///
    /// # Errors
    ///
    /// `no_message` without the group.
    fn pause(&self, group: GroupId, paused: bool) -> StoreAnswer<'_, Result<()>>;

    // Time, each in this namespace alone. What is due in one that nobody asks for waits.

    /// When [`Store::overdue`] and [`Store::take_timers`] are to be called next; `None` while nothing waits
    /// for its time.
    ///
    /// # Errors
    ///
    /// What the way to the store says.
    fn next_due(&self) -> StoreAnswer<'_, Result<Option<Tick>>>;
    /// Waits until [`Store::next_due`] has become earlier than it was when it was last asked. For one task:
    /// the one that does what is due in the namespace.
    ///
    /// # Errors
    ///
    /// What the way to the store says.
    fn due_changed(&self) -> StoreAnswer<'_, Result<()>>;
    /// Does what is due: retries and delayed records become ready, and leases that ran out and records
    /// that expired are handed out, as fresh leases of [`ConsumerId::SYSTEM`] with
    /// [`Why`](crate::record::Why) they are, at most `limit`, for the caller to settle.
    fn overdue(&self, limit: usize) -> StoreAnswer<'_, Result<Vec<LeasedRecord>>>;

    /// Takes timers whose time has come, the earliest of each map first, at most `limit`. Who takes one has
    /// it alone for `lease`; unless a transaction has ended it or set it anew by then, it is handed out
    /// again, also after a restart. So what is done about a timer belongs into the transaction that ends
    /// it. What they show is durable.
    fn take_timers(&self, limit: usize, lease: Duration) -> StoreAnswer<'_, Result<Vec<Timer>>>;

    // Maps. Entries that expire are not shown from then on, and deleted in the background.

    /// An entry of a map. What it shows is durable.
    ///
    /// # Errors
    ///
    /// `no_message` without the map, and what the disk says.
    fn get<'a>(&'a self, map: MapId, key: &'a [u8]) -> StoreAnswer<'a, Result<Option<Value>>>;
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
    ) -> StoreAnswer<'a, Result<Vec<(Bytes, Value)>>>;

    // The whole.

    /// What was done and is held.
    ///
    /// # Errors
    ///
    /// What the way to the store says.
    fn stats(&self) -> StoreAnswer<'_, Result<Stats>>;
}

/// Whether a store that says this takes nothing more, now or later: a write has failed, or it was closed.
pub fn has_ended(error: &Error) -> bool {
    matches!(error.reason(), Reason::StoragePoisoned | Reason::Draining)
}
