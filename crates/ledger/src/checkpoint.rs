//! The state of the core as of one transaction: sorted tables of bytes in redb, changed together.
//!
//! The core encodes its own rows; what is here keeps them, together with the number of the last
//! transaction that they reflect. A checkpoint is stored only when that transaction is durable, so
//! that recovery never meets the traces of one that was not acknowledged. Payloads are never here.

mod backend;
pub(crate) mod maps;
mod rows;

use std::{
    ops::Bound,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::RwLock;
use redb::{Database, TableDefinition};
use weft_kernel::{Error, Reason, Result};

use crate::{
    core::Changes,
    crypt::Keys,
    disk::{Disk, Overlay, failed, read_up_to, unreadable},
    format::header,
    record::Limits,
};
use backend::Backend;

const FOLDER: &str = "checkpoint";
const DATABASE: &str = "checkpoint/tables";
const NEW: &str = "checkpoint/new";
/// Format version and key of the tables.
pub(crate) const HEADER: &str = "checkpoint/header";
/// How the header begins.
pub(crate) const MAGIC: &[u8; 8] = b"WEFTCKP\0";
const CONTEXT: &[u8] = b"weft checkpoint";
/// What redb keeps in memory: half of it at most of what is being written.
const CACHE_BYTES: usize = 8 << 20;
/// Kept for a full disk: given free, it is room for a checkpoint, by which other files can go.
const RESERVE: &str = "checkpoint/reserve";
const RESERVE_BYTES: u64 = 4 << 20;

macro_rules! tables {
    ($($(#[doc = $doc:literal])+ $name:ident = $word:literal;)+) => {
        /// A table of the checkpoint.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) enum Table {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Table {
            /// Every table.
            pub(crate) const ALL: &[Self] = &[$(Self::$name),+];

            /// Its name in the database.
            pub(crate) const fn word(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)+
                }
            }

            const fn definition(self) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
                TableDefinition::new(self.word())
            }
        }
    };
}

tables! {
    /// Single values: the last transaction, the first file, the epoch, the next ids.
    Meta = "meta";
    /// Logs: definition, ends, extents.
    Logs = "logs";
    /// Groups: definition and cursor.
    Groups = "groups";
    /// Exceptions of groups, each a row.
    Exceptions = "exceptions";
    /// Maps: definition.
    Maps = "maps";
    /// Entries of maps.
    Entries = "entries";
    /// When entries of maps expire, or are due; always as `entries` has it.
    Times = "times";
    /// Ids of records that were appended, in chunks.
    Dedupe = "dedupe";
    /// The segments that are there.
    Segments = "segments";
}

/// A row that changes: its new value, or `None` when it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// Where.
    pub(crate) table: Table,
    /// Sorted by its bytes.
    pub(crate) key: Vec<u8>,
    /// At most a few MiB.
    pub(crate) value: Option<Vec<u8>>,
}

/// All that has changed since the last time, as of one transaction.
#[derive(Clone, Debug, Default)]
pub(crate) struct Capture {
    /// The last transaction that the rows reflect.
    pub(crate) seq: u64,
    /// In any order; of rows with the same key the last one counts.
    pub(crate) rows: Vec<Row>,
    /// What has changed in maps, by id: as memory has it, and not as rows, for there may be much of it.
    pub(crate) maps: Vec<(u32, Arc<Changes>)>,
    /// Maps of which all entries go.
    pub(crate) dropped: Vec<u32>,
}

/// A row that was read.
pub(crate) type KeyValue = (Vec<u8>, Vec<u8>);

/// What is done with each row of a table: its key and its value.
pub(crate) type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> Result<()> + 'a;

/// What can be read from tables.
pub(crate) trait Tables {
    /// Visits every row in the order of the keys.
    fn each(&self, table: Table, visit: &mut Visit<'_>) -> Result<()>;
    /// The value of a key.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>>;
    /// Rows from a key on, as many as the limits allow, and one at least if there is any.
    fn page(&self, table: Table, from: Bound<&[u8]>, most: Limits) -> Result<Vec<KeyValue>>;
}

const SEQ: &[u8] = b"seq";
const FIRST_FILE: &[u8] = b"first_file";
const BEFORE: &[u8] = b"before";

/// Where the write-ahead log that a checkpoint needs begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogStart {
    /// The number of the first file; 0 as long as the ledger is being made.
    pub(crate) file: u32,
    /// The last transaction before that file; 0 if it is not known.
    pub(crate) before: u64,
}

/// The stored state.
///
/// redb takes nothing more after a call on its file has failed. When that was for want of room it is
/// opened again: what it had not committed is gone, and the caller stores it again.
pub(crate) struct Checkpoint {
    disk: Arc<dyn Disk>,
    keys: Keys,
    database: RwLock<Option<Database>>,
    closed: AtomicBool,
}

impl std::fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Checkpoint")
    }
}

/// What a failed change of the tables means.
fn broken(doing: &'static str) -> impl Fn(redb::Error) -> Error {
    move |error| {
        Error::new(reason(&error, Reason::StoragePoisoned), doing).because(error).at(DATABASE)
    }
}

/// What a failed read of the tables means.
fn unread(doing: &'static str) -> impl Fn(redb::Error) -> Error {
    move |error| {
        Error::new(reason(&error, Reason::StorageUnavailable), doing).because(error).at(DATABASE)
    }
}

fn reason(error: &redb::Error, otherwise: Reason) -> Reason {
    use std::io::ErrorKind;
    match error {
        redb::Error::Corrupted(_) => Reason::StorageCorrupt,
        redb::Error::Io(io) => match io.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Reason::StorageFull,
            // A block is not what was written, or is not there.
            ErrorKind::InvalidData | ErrorKind::UnexpectedEof => Reason::StorageCorrupt,
            _ => otherwise,
        },
        _ => otherwise,
    }
}

/// Calls redb, which panics where it meets what it never wrote.
fn guarded<T>(act: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, redb::Error> {
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
    done.unwrap_or_else(|_| {
        Err(redb::Error::Corrupted("the tables are not what was written".to_owned()))
    })
}

impl Checkpoint {
    /// Whether there are tables.
    pub(crate) fn there(disk: &dyn Disk) -> Result<bool> {
        let there = disk.list(FOLDER).map_err(|error| unreadable("cannot list", FOLDER, error))?;
        Ok(there.iter().any(|name| DATABASE.ends_with(&format!("/{name}"))))
    }

    /// Sets what is there of the tables aside, where somebody can look at it.
    pub(crate) fn set_aside(disk: &dyn Disk) -> Result<()> {
        let cannot = |error| failed("cannot set the checkpoint aside", FOLDER, error);
        for name in disk.list(FOLDER).map_err(cannot)? {
            let to = format!("{}/checkpoint-{name}", crate::service::QUARANTINE);
            // The folder is made with its first file.
            disk.open(&to, true).map_err(cannot)?;
            disk.rename(&format!("{FOLDER}/{name}"), &to).map_err(cannot)?;
        }
        disk.sync_dir(FOLDER).map_err(cannot)
    }

    /// Whether every page of the tables is the one that the page above it speaks of. A page that was never
    /// written, and holds what stood there before, is whole by itself.
    ///
    /// # Errors
    /// `storage_corrupt` if one is not.
    pub(crate) fn check(disk: &Arc<dyn Disk>, keys: &Keys) -> Result<()> {
        // redb would go back to an earlier state, in place, and the next opening would find that whole.
        let over = Overlay::new(disk.clone());
        let mut database = open_at(&over, DATABASE, keys, false)?;
        let whole = guarded(|| database.check_integrity().map_err(redb::Error::from));
        let _ = guarded(|| {
            drop(database);
            Ok(())
        });
        if whole.map_err(unread("cannot check the checkpoint"))? {
            return Ok(());
        }
        let text =
            "pages of the checkpoint do not fit together: some were not written, or are older";
        Err(Error::new(Reason::StorageCorrupt, text).at(DATABASE))
    }

    /// Opens the tables, or makes them when they are missing.
    ///
    /// # Errors
    /// `misconfigured` for a version or key that is not understood, and `storage_corrupt` for tables that are damaged.
    pub(crate) fn open(disk: Arc<dyn Disk>, keys: Keys) -> Result<Self> {
        if !Self::there(&*disk)? {
            Self::make(&*disk, &keys)?;
        }
        let database = open_at(&*disk, DATABASE, &keys, false)?;
        let database = RwLock::new(Some(database));
        Ok(Self { disk, keys, database, closed: AtomicBool::new(false) })
    }

    /// Makes empty tables under another name first, so that a crash leaves none or whole ones.
    fn make(disk: &dyn Disk, keys: &Keys) -> Result<()> {
        let cannot = |error| failed("cannot make the checkpoint", DATABASE, error);
        Self::write_header(disk, keys)?;
        let new = disk.open(NEW, true).map_err(cannot)?;
        new.set_len(0).map_err(cannot)?;
        drop(new);
        let made = open_at(disk, NEW, keys, true)?;
        let empty = Capture::default();
        guarded(|| rows::write(&made, &empty, LogStart::default()))
            .map_err(broken("cannot make the checkpoint"))?;
        drop(made);
        disk.rename(NEW, DATABASE).map_err(cannot)?;
        disk.sync_dir(FOLDER).map_err(cannot)
    }

    /// Makes the header anew where it is missing or damaged and holds no key; what was wrong with it.
    pub(crate) fn mend_header(disk: &dyn Disk) -> Result<Option<String>> {
        match Self::key(disk) {
            Err(error) if error.reason() == Reason::StorageCorrupt => {
                Self::write_header(disk, &Keys::none())?;
                Ok(Some(format!("{HEADER} is made anew: {}", error.detail())))
            }
            Err(error) => Err(error),
            Ok(_) => Ok(None),
        }
    }

    fn write_header(disk: &dyn Disk, keys: &Keys) -> Result<()> {
        let cannot = |error| failed("cannot write the checkpoint's header", HEADER, error);
        let (_, key) = keys.fresh(CONTEXT)?;
        let file = disk.open(HEADER, true).map_err(cannot)?;
        file.write_at(0, &header::block(MAGIC, 0, 0, &key)).map_err(cannot)?;
        file.sync_data().map_err(cannot)?;
        disk.sync_dir(FOLDER).map_err(cannot)
    }

    fn key(disk: &dyn Disk) -> Result<Option<Vec<u8>>> {
        let cannot = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                let text = "the header of the checkpoint is missing";
                Error::new(Reason::StorageCorrupt, text).at(HEADER)
            }
            _ => unreadable("cannot read the checkpoint's header", HEADER, error),
        };
        let file = disk.open(HEADER, false).map_err(cannot)?;
        let block = read_up_to(&*file, 0, header::LEN).map_err(cannot)?;
        let key = header::key(&block, MAGIC, 0).map_err(|error| error.at(HEADER))?;
        if key.is_none() {
            let text = "the header of the checkpoint is damaged, and so is its copy";
            return Err(Error::new(Reason::StorageCorrupt, text).at(HEADER));
        }
        Ok(key.map(<[u8]>::to_vec))
    }

    /// Names the newest master key in the header; false if it did already.
    pub(crate) fn rewrap(disk: &dyn Disk, keys: &Keys) -> Result<bool> {
        let Some(key) = Self::key(disk)? else { return Ok(false) };
        let Some(key) = keys.rewrap(&key, CONTEXT)? else { return Ok(false) };
        let cannot = |error| failed("cannot rewrite the checkpoint's header", HEADER, error);
        let file = disk.open(HEADER, false).map_err(cannot)?;
        let sector = header::sector(MAGIC, 0, 0, &key);
        for at in [header::COPY_AT as u64, 0] {
            file.write_at(at, &sector).and_then(|()| file.sync_data()).map_err(cannot)?;
        }
        Ok(true)
    }

    /// Lets go of the tables: nothing more is written to their file, also not when this is dropped.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let database = self.database.write().take();
        // It writes a last time.
        let _ = guarded(|| {
            drop(database);
            Ok(())
        });
    }

    /// Sees to it that there is room for a checkpoint on a full disk.
    ///
    /// # Errors
    /// `storage_full` where there is none for it either.
    pub(crate) fn reserve(&self) -> Result<()> {
        let cannot = |error| failed("cannot reserve room for a checkpoint", RESERVE, error);
        let there = self.disk.list(FOLDER).map_err(cannot)?;
        if there.iter().any(|name| RESERVE.ends_with(&format!("/{name}"))) {
            return Ok(());
        }
        let file = self.disk.open(RESERVE, true).map_err(cannot)?;
        file.allocate_zeroed(RESERVE_BYTES).map_err(cannot).inspect_err(|_| {
            // Half a reserve only takes room away.
            let _ = self.disk.remove(RESERVE);
        })
    }

    /// Gives the reserve free, if there is one.
    pub(crate) fn give_reserve(&self) {
        // It may have been given before, and not made again for want of room.
        let _ = self.disk.remove(RESERVE);
    }

    /// Stores what changed, the transaction that it reflects, and where the write-ahead log begins that is needed from then on; durable on return.
    ///
    /// Of rows with the same key the last one counts. Gives maps that were dropped and have more entries than
    /// are removed at once: they are to be given again.
    ///
    /// # Errors
    /// `storage_full` when there is no room: nothing was stored, and it may be tried again.
    pub(crate) fn store(&self, capture: &Capture, start: LogStart) -> Result<Vec<u32>> {
        // A full disk has ended the last time, and kept it from being opened again.
        self.reopen()?;
        let stored = {
            let database = self.database.read();
            match &*database {
                Some(database) => guarded(|| rows::write(database, capture, start)),
                None => Err(redb::Error::PreviousIo),
            }
        };
        stored.map_err(broken("cannot store the checkpoint")).inspect_err(|error| {
            if error.reason() == Reason::StorageFull {
                let mut database = self.database.write();
                // The file has one owner: the former one goes before it is opened again.
                *database = None;
                *database = open_at(&*self.disk, DATABASE, &self.keys, false).ok();
            }
        })
    }

    /// Opens the tables again if a failed call has ended them.
    fn reopen(&self) -> Result<()> {
        if self.database.read().is_some() {
            return Ok(());
        }
        // The file has one owner, however many want to read it.
        let mut database = self.database.write();
        if database.is_none() && !self.closed.load(Ordering::Acquire) {
            *database = Some(open_at(&*self.disk, DATABASE, &self.keys, false)?);
        }
        Ok(())
    }

    /// Reads from the tables. A read that fails is the last one that redb takes: they are opened again
    /// for the next.
    fn reading<T>(&self, read: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T> {
        self.reopen()?;
        let found = {
            let database = self.database.read();
            match &*database {
                Some(database) => guarded(|| read(database)),
                None => Err(redb::Error::PreviousIo),
            }
        };
        found.map_err(|error| {
            if matches!(error, redb::Error::Io(_) | redb::Error::PreviousIo) {
                *self.database.write() = None;
            }
            unread("cannot read the checkpoint")(error)
        })
    }

    /// The last transaction that the tables reflect.
    pub(crate) fn seq(&self) -> Result<u64> {
        let stored = self.get(Table::Meta, SEQ)?;
        Ok(stored.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes))
    }

    /// Where the write-ahead log begins that is needed.
    pub(crate) fn start(&self) -> Result<LogStart> {
        let file = self.get(Table::Meta, FIRST_FILE)?.and_then(|bytes| bytes.try_into().ok());
        let before = self.get(Table::Meta, BEFORE)?.and_then(|bytes| bytes.try_into().ok());
        Ok(LogStart {
            file: file.map_or(0, u32::from_le_bytes),
            before: before.map_or(0, u64::from_le_bytes),
        })
    }

    /// The first write-ahead file that is needed.
    pub(crate) fn first_file(&self) -> Result<u32> {
        Ok(self.start()?.file)
    }
}

fn open_at(disk: &dyn Disk, path: &str, keys: &Keys, new: bool) -> Result<Database> {
    let cannot = |error| unreadable("cannot open the checkpoint", path, error);
    let file = disk.open(path, false).map_err(cannot)?;
    let sealer = match Checkpoint::key(disk)? {
        None => None,
        Some(key) => keys.open(&key, CONTEXT).map_err(|error| error.at(HEADER))?,
    };
    guarded(|| {
        let backend = Backend::new(file, sealer, new).map_err(redb::Error::Io)?;
        Ok(Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(backend)?)
    })
    .map_err(unread("cannot open the checkpoint"))
}

impl Tables for Checkpoint {
    fn each(&self, table: Table, visit: &mut Visit<'_>) -> Result<()> {
        self.reading(|database| rows::walk(database, table, visit))?
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.reading(|database| rows::find(database, table, key))
    }

    fn page(&self, table: Table, from: Bound<&[u8]>, most: Limits) -> Result<Vec<KeyValue>> {
        self.reading(|database| rows::page(database, table, from, most))
    }
}

/// The bytes that the tables take on the disk.
pub(crate) fn bytes(disk: &Arc<dyn Disk>) -> u64 {
    disk.open(DATABASE, false).and_then(|file| file.len()).unwrap_or(0)
}

#[cfg(test)]
mod tests;
