//! The embedded store: the handle, who waits for it, and what it shares with the storage.

mod consume;
mod deliver;
mod maps;
mod read;
mod store;
mod waiters;

use std::{
    path::Path,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use parking_lot::Mutex;
use smallvec::SmallVec;
use weft_kernel::{Clock, Error, Reason, Result};

use self::waiters::Waiters;
use crate::{
    core::{Cold, Core, Ended, Now, SpaceId, check_namespace, prefixed, scoped, split},
    disk::{self, Disk, RealDisk},
    format::payload_crc,
    options::{Durability, GroupOptions, GroupStart, LogOptions, MapOptions, Options},
    record::{GroupId, LogId, MapId},
    recover::Recovered,
    service::{Damages, Health, Service},
    store::Stats,
    transaction::{Op, Receipt, Refused, Transaction},
};

/// A hook that tells the storage that something waits to be written.
type Kick = Box<dyn Fn() + Send + Sync>;

/// What the handles and the storage share.
pub(crate) struct Shared {
    /// The state. Nobody does I/O while holding it.
    pub(crate) core: Mutex<Core>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) cold: OnceLock<Arc<dyn Cold>>,
    pub(crate) kick: OnceLock<Kick>,
    /// How it is, for those who must not wait for the lock of the state.
    pub(crate) health: Health,
    pub(crate) damages: Arc<Damages>,
    waiters: Waiters,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

impl Shared {
    /// Wraps a state that was recovered.
    pub(crate) fn new(core: Core, clock: Arc<dyn Clock>, damages: Arc<Damages>) -> Self {
        let waiters = Waiters::new(core.seq());
        Self {
            core: Mutex::new(core),
            clock,
            cold: OnceLock::new(),
            kick: OnceLock::new(),
            health: Health::default(),
            damages,
            waiters,
        }
    }

    /// Everything up to `seq` is with the operating system: wakes who waited for that.
    pub(crate) fn written(&self, seq: u64) {
        self.waiters.advance(seq, Durability::Os);
    }

    /// Everything up to `seq` is on disk: wakes who waited for that.
    pub(crate) fn durable(&self, seq: u64) {
        self.waiters.advance(seq, Durability::Fsync);
    }

    /// Nothing more is taken: wakes everybody.
    pub(crate) fn end(&self, why: Ended) {
        self.health.end(&why);
        let wakes = self.core.lock().end(why);
        wakes.wake();
        self.waiters.poison();
    }

    /// One reading of the clocks.
    pub(crate) fn now(&self) -> Now {
        Now::read(&*self.clock)
    }

    /// Tells the storage that something waits to be written.
    pub(crate) fn kick(&self) {
        if let Some(kick) = self.kick.get() {
            kick();
        }
    }

    fn submit(&self, transaction: Transaction) -> Result<Receipt, Refused> {
        // Payloads are summed up before anybody has to wait for it.
        let crcs: SmallVec<[u32; 4]> = transaction
            .ops
            .iter()
            .filter_map(|op| match op {
                Op::Append { record, .. } => Some(payload_crc(&record.key, &record.data)),
                _ => None,
            })
            .collect();
        let now = self.now();
        let mut core = self.lock_with(&transaction.ops)?;
        let busy = core.has_pending();
        let submitted = core.submit(transaction, &crcs, now);
        let kick = !busy && core.has_pending();
        drop(core);
        if kick {
            self.kick();
        }
        let (receipt, wakes) = submitted?;
        wakes.wake();
        Ok(receipt)
    }

    fn poll_durable(&self, seq: u64, level: Durability, context: &Context<'_>) -> Poll<Result<()>> {
        match self.waiters.poll(seq, level, context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(true) => Poll::Ready(Ok(())),
            Poll::Ready(false) => {
                let why = self.core.lock().ended().cloned().unwrap_or(Ended::Closed);
                Poll::Ready(Err(why.error()))
            }
        }
    }

    async fn until(&self, seq: u64, level: Durability) -> Result<()> {
        std::future::poll_fn(|context| self.poll_durable(seq, level, context)).await
    }

    fn poll_room(&self, context: &Context<'_>) -> Poll<()> {
        if self.core.lock().wait_room(context.waker()) { Poll::Pending } else { Poll::Ready(()) }
    }

    async fn commit(&self, transaction: Transaction) -> Result<Receipt, Refused> {
        self.warm(&transaction.ops).await?;
        let receipt = loop {
            // A copy is a few counts; it is needed only if there is no room.
            match self.submit(transaction.clone()) {
                Err(refused) if refused.error.reason() == Reason::StorageBusy => {
                    std::future::poll_fn(|context| self.poll_room(context)).await;
                }
                submitted => break submitted?,
            }
        };
        self.until(receipt.seq, receipt.durability).await?;
        self.until(receipt.seen.written, Durability::Os).await?;
        self.until(receipt.seen.synced, Durability::Fsync).await?;
        Ok(receipt)
    }

    /// Does something that makes a definition, and waits until it is durable.
    async fn define<T>(
        &self,
        mut act: impl FnMut(&mut Core, Now) -> Result<(T, u64)>,
    ) -> Result<T> {
        loop {
            let now = self.now();
            let (done, kick) = {
                let mut core = self.core.lock();
                let busy = core.has_pending();
                let done = act(&mut core, now);
                (done, !busy && core.has_pending())
            };
            if kick {
                self.kick();
            }
            match done {
                Ok((value, seq)) => {
                    self.until(seq, Durability::Fsync).await?;
                    return Ok(value);
                }
                Err(error) if error.reason() == Reason::StorageBusy => {
                    std::future::poll_fn(|context| self.poll_room(context)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// The embedded store; a handle that is cheap to clone.
///
/// What it offers is the trait [`Store`](crate::Store), in one namespace: at first the one without a name,
/// and any other by [`Ledger::namespace`]. Beside it stands what belongs to one folder on one machine:
/// opening, closing, checkpoints.
#[derive(Clone, Debug)]
pub struct Ledger {
    shared: Arc<Shared>,
    service: Arc<Service>,
    space: SpaceId,
    /// The name of the namespace.
    name: Arc<str>,
}

impl Ledger {
    /// Opens the ledger on a disk, and recovers what is there. No thread runs before
    /// [`Ledger::start`]; a simulation calls [`Ledger::step`] instead.
    ///
    /// # Errors
    ///
    /// `misconfigured` for a format or a key that is not understood, `storage_busy` if another
    /// process has it open, and what the disk says.
    pub fn open(
        disk: Arc<dyn Disk>,
        options: Options,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, Recovered)> {
        let (shared, service, recovered) = Service::open(disk, options, clock)?;
        Ok((Self { shared, service, space: SpaceId::ROOT, name: "".into() }, recovered))
    }

    /// Opens the ledger in a folder, which is made if it is not there, and starts its threads.
    ///
    /// # Errors
    ///
    /// As for [`Ledger::open`].
    pub fn open_folder(
        folder: &Path,
        options: Options,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, Recovered)> {
        let disk = RealDisk::open(folder)
            .map_err(|error| disk::unopened(&folder.display().to_string(), error))?;
        let (ledger, recovered) = Self::open(Arc::new(disk), options, clock)?;
        ledger.start()?;
        Ok((ledger, recovered))
    }

    /// Another namespace of the ledger, as [`Store::namespace`](crate::Store::namespace) has it.
    ///
    /// # Errors
    ///
    /// `malformed_request` for a name that cannot be one.
    pub fn namespace(&self, name: &str) -> Result<Self> {
        check_namespace(name)?;
        let space = self.shared.core.lock().namespace(name);
        Ok(Self { space, name: name.into(), ..self.clone() })
    }

    /// Starts the threads that write, sync, read and clean up.
    ///
    /// # Errors
    ///
    /// What the machine says when it gives no thread.
    pub fn start(&self) -> Result<()> {
        self.service.start()
    }

    /// Does once what the threads would do, in the caller's; whether there was anything. For
    /// simulations.
    pub fn step(&self) -> bool {
        self.service.step()
    }

    /// Stores the present state beside the write-ahead log, so that a recovery has less to replay.
    ///
    /// # Errors
    ///
    /// What the disk says.
    pub fn checkpoint(&self) -> Result<()> {
        self.service.checkpoint()
    }

    /// Copies the ledger as it is now, everything acknowledged included, to a disk that holds none;
    /// [`admin::restore`](crate::admin::restore) copies it back. Blocks; the ledger goes on meanwhile,
    /// but for giving space back.
    ///
    /// # Errors
    ///
    /// `definition_conflict` if anything of a ledger is there already, and what the disks say: of a copy
    /// that fails nothing is left.
    pub fn backup_to(&self, disk: Arc<dyn Disk>) -> Result<()> {
        crate::admin::backup(&self.service, &disk)
    }

    /// [`Ledger::backup_to`] a folder, which is made if it is not there.
    ///
    /// # Errors
    ///
    /// As [`Ledger::backup_to`], and `malformed_request` for a folder that cannot be made, or is in the
    /// ledger's own, or around it.
    pub fn backup(&self, folder: &Path) -> Result<()> {
        if let Some(own) = self.service.files().disk.folder() {
            crate::admin::refuse_own(own, folder)?;
        }
        let disk = RealDisk::open(folder).map_err(|error| {
            Error::new(Reason::MalformedRequest, "the folder of the backup cannot be opened")
                .because(error)
                .at(folder.display().to_string())
        })?;
        self.backup_to(Arc::new(disk))
    }

    /// Writes what waits, stores a checkpoint and ends the threads. Handles that are left answer
    /// reads, but of maps only what memory has (`storage_unavailable` otherwise), and take nothing more.
    ///
    /// # Errors
    ///
    /// What the disk says, and `storage_stalled` when a thread hangs: it is left behind then.
    pub fn close(&self) -> Result<()> {
        self.service.stop()
    }

    /// Whether the ledger works, or why not: `storage_poisoned`, `draining` once it is closed, or
    /// `storage_stalled` while a thread of it hangs. Waits for no lock that such a thread may hold.
    ///
    /// # Errors
    ///
    /// The reason for which nothing is acknowledged.
    pub fn health(&self) -> Result<()> {
        self.shared.health.ended()?;
        match self.shared.health.stalled() {
            None => Ok(()),
            Some(what) => {
                Err(Error::new(Reason::StorageStalled, "the ledger makes no progress").note(what))
            }
        }
    }

    /// What was done and is held.
    pub fn stats(&self) -> Stats {
        let mut stats = self.shared.core.lock().stats();
        self.service.stats(&mut stats);
        stats
    }

    async fn create_log(&self, name: &str, options: LogOptions) -> Result<LogId> {
        let name = scoped(&self.name, name)?;
        self.shared.define(|core, _| core.create_log(&name, options.clone())).await
    }

    async fn create_group(&self, name: &str, mut options: GroupOptions) -> Result<GroupId> {
        if let GroupStart::Time(time_ms) = options.start {
            let position = self.position_at(options.log, time_ms).await?;
            options.start = GroupStart::Position(position);
        }
        let name = scoped(&self.name, name)?;
        self.shared.define(|core, _| core.create_group(&name, options.clone())).await
    }

    async fn create_map(&self, name: &str, options: MapOptions) -> Result<MapId> {
        let name = scoped(&self.name, name)?;
        self.shared.define(|core, _| core.create_map(&name, options)).await
    }

    /// What a name within the namespace has.
    fn find<T>(
        &self,
        name: &str,
        find: impl FnOnce(&Core, &str) -> Option<T>,
    ) -> Result<Option<T>> {
        Ok(find(&self.shared.core.lock(), &scoped(&self.name, name)?))
    }

    /// Names within the namespace.
    fn listed<I, O>(
        &self,
        prefix: &str,
        after: Option<&str>,
        list: impl FnOnce(&Core, &str, Option<&str>) -> Vec<(String, I, O)>,
    ) -> Vec<(String, I, O)> {
        let (prefix, after) =
            (prefixed(&self.name, prefix), after.map(|after| prefixed(&self.name, after)));
        let listed = list(&self.shared.core.lock(), &prefix, after.as_deref());
        let within = |name: &str| split(name).1.to_owned();
        listed.into_iter().map(|(name, id, options)| (within(&name), id, options)).collect()
    }

    async fn drop_log(&self, log: LogId) -> Result<()> {
        let act = |core: &mut Core, _: Now| core.drop_log(log).map(|(seq, wakes)| (wakes, seq));
        self.shared.define(act).await.map(|wakes| wakes.wake())
    }

    async fn drop_group(&self, group: GroupId) -> Result<()> {
        let act = |core: &mut Core, _: Now| core.drop_group(group).map(|(seq, wakes)| (wakes, seq));
        self.shared.define(act).await.map(|wakes| wakes.wake())
    }

    async fn alter_group(&self, group: GroupId, options: GroupOptions) -> Result<()> {
        let act = |core: &mut Core, now: Now| {
            core.alter_group(group, options.clone(), now).map(|(seq, wakes)| (wakes, seq))
        };
        self.shared.define(act).await.map(|wakes| wakes.wake())
    }
}
