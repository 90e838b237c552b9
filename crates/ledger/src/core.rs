//! The state of the embedded ledger: logs, groups and maps, what waits to be written, and what each
//! transaction does to them. Pure: no I/O, no clock, no chance.
//!
//! One value behind one lock. A transaction is checked against the newest submitted state, applied and
//! encoded in one go ([`Core::submit`]); the storage takes what has gathered ([`Core::take_group`]),
//! writes and syncs it, and tells ([`Core::written`], [`Core::durable`]), by which records become
//! visible and groups ready. What must be woken is handed back and woken once the lock is released.

mod apply;
mod capture;
mod check;
mod cold;
mod consume;
mod dedupe;
mod define;
mod due;
mod entries;
mod expiring;
mod fast;
mod group;
mod load;
mod loading;
mod log;
mod look;
mod lost;
mod map;
mod now;
mod plan;
mod progress;
mod rows;
mod runs;
mod space;
mod timers;
mod times;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    task::Waker,
};

use bytes::Bytes;
use weft_kernel::{Error, Reason, Result};

pub(crate) use self::{
    apply::is_instant,
    cold::{Cold, ReadJob, Want},
    consume::{Ahead, Item, Source, Unfit},
    entries::{Fetched, Look, Missing, Refill, expect_entries},
    loading::{Load, Whereabouts},
    map::{Changes, KeyRange, Time, WINDOW as TIMES_AT_ONCE},
    now::Now,
    plan::{Compactable, Live, LiveRuns},
    progress::{Ended, WriteGroup},
    space::{SpaceId, check_namespace, prefixed, scoped, shown, split},
};
use self::{
    check::Check,
    fast::Numbers,
    group::{Group, Tokens},
    loading::Loaded,
    log::Log,
    map::{Cache, Map},
    progress::{PendingBytes, Visible},
    space::Spaces,
};
use crate::{
    format::Place,
    options::Options,
    record::{GroupId, LogId, MapId},
    store::Stats,
    wal::{Cursor, Recent},
};

/// Tasks to be woken once the lock is released.
#[derive(Debug, Default)]
#[must_use = "who waits is woken by this"]
pub(crate) struct Wakes(Vec<Waker>);

impl Wakes {
    /// Wakes them.
    pub(crate) fn wake(self) {
        self.0.into_iter().for_each(Waker::wake);
    }

    fn push(&mut self, waker: Option<Waker>) {
        self.0.extend(waker);
    }
}

/// A group with what belongs to it but is not its state.
#[derive(Debug)]
struct Queue {
    name: Arc<str>,
    space: SpaceId,
    group: Group,
    /// Whether nothing of it is ever written, as its log is not.
    memory: bool,
    loaded: Option<Box<Loaded>>,
    loading: bool,
    /// Who waits until it is loaded.
    awaiting: Vec<Waker>,
}

/// The state.
#[derive(Debug)]
pub(crate) struct Core {
    options: Options,
    /// Room for an encryption's tag is left in each frame.
    tag: bool,
    seq: u64,
    written: u64,
    durable: u64,
    logs: Numbers<u32, Box<Log>>,
    queues: Numbers<u32, Box<Queue>>,
    maps: Numbers<u32, Box<Map>>,
    log_names: BTreeMap<Arc<str>, LogId>,
    group_names: BTreeMap<Arc<str>, GroupId>,
    map_names: BTreeMap<Arc<str>, MapId>,
    /// Logs, groups and maps that were ever made.
    made: [u32; 3],
    next_global: u64,
    tokens: Tokens,
    cursor: Cursor,
    pending: VecDeque<PendingBytes>,
    pending_bytes: usize,
    /// The bytes of the last write group.
    group_bytes: usize,
    /// Whether the next frame waits for a file.
    busy: bool,
    /// What was written last; the storage puts it in.
    pub(crate) recent: Recent,
    visible: Visible,
    spaces: Spaces,
    /// Entries of maps that were read.
    cache: Cache,
    /// About the bytes of what has changed in maps and no checkpoint has.
    changed_bytes: u64,
    /// How many checkpoints were stored.
    generation: u64,
    /// Maps with entries that expire, but for timers.
    expiring: std::collections::BTreeSet<u32>,
    /// Runs of records in segments of which it is not known when they expire.
    unseen: Vec<(LogId, u64, u64)>,
    room: Vec<Waker>,
    ended: Option<Ended>,
    /// Whether nothing more is submitted, for the ledger is being closed.
    closed: bool,
    check: Check,
    stats: Stats,
    /// Rows of checkpoints that belong to what was dropped.
    gone: capture::Gone,
    /// Records that a recovery met and knows no log for, by log.
    homeless: BTreeMap<u32, u64>,
}

/// What is told of a log, group or map that is not there.
pub(crate) fn missing(what: impl std::fmt::Display) -> Error {
    Error::new(Reason::NoMessage, format!("there is no {what}"))
}

impl Core {
    /// An empty ledger that writes from `cursor` on; `tag` leaves room for encryption in each frame.
    pub(crate) fn new(options: Options, cursor: Cursor, tag: bool) -> Self {
        Self {
            recent: Recent::new(options.recent_bytes.as_usize()),
            options,
            tag,
            seq: 0,
            written: 0,
            durable: 0,
            logs: Numbers::default(),
            queues: Numbers::default(),
            maps: Numbers::default(),
            log_names: BTreeMap::new(),
            group_names: BTreeMap::new(),
            map_names: BTreeMap::new(),
            made: [0; 3],
            next_global: 0,
            tokens: Tokens { epoch: 0, last: 0 },
            cursor,
            pending: VecDeque::new(),
            pending_bytes: 0,
            group_bytes: 0,
            busy: false,
            visible: Visible::default(),
            spaces: Spaces::default(),
            cache: Cache::default(),
            changed_bytes: 0,
            generation: 0,
            expiring: std::collections::BTreeSet::new(),
            unseen: Vec::new(),
            room: Vec::new(),
            ended: None,
            closed: false,
            check: Check::default(),
            stats: Stats::default(),
            gone: capture::Gone::default(),
            homeless: BTreeMap::new(),
        }
    }

    /// The number of the newest transaction.
    pub(crate) const fn seq(&self) -> u64 {
        self.seq
    }

    /// Where the next frame goes.
    pub(crate) fn cursor(&mut self) -> &mut Cursor {
        &mut self.cursor
    }

    pub(crate) fn log(&self, id: LogId) -> Result<&Log> {
        self.logs.get(&id.0).map(|log| &**log).ok_or_else(|| missing(id))
    }

    fn queue(&self, id: GroupId) -> Result<&Queue> {
        self.queues.get(&id.0).map(|queue| &**queue).ok_or_else(|| missing(id))
    }

    /// A group.
    pub(crate) fn group(&self, id: GroupId) -> Result<&Group> {
        self.queue(id).map(|queue| &queue.group)
    }

    /// A map.
    pub(crate) fn map(&self, id: MapId) -> Result<&Map> {
        self.maps.get(&id.0).map(|map| &**map).ok_or_else(|| missing(id))
    }

    /// Why nothing more is taken.
    pub(crate) const fn ended(&self) -> Option<&Ended> {
        self.ended.as_ref()
    }

    /// The last transaction of which it is known that it is safe.
    pub(crate) fn safe(&self) -> u64 {
        self.durable
    }

    /// What was done and is held.
    pub(crate) fn stats(&self) -> Stats {
        Stats {
            durable: self.durable,
            submitted: self.seq,
            pending_bytes: self.pending_bytes as u64,
            logs: self.logs.len() as u64,
            consumption_groups: self.queues.len() as u64,
            maps: self.maps.len() as u64,
            map_bytes: self.changed_bytes + self.cache.bytes(),
            record_bytes: self.logs.values().map(|log| log.bytes).sum(),
            ..self.stats
        }
    }

    /// Nobody is handed anything any more: what is out is remembered as handed out.
    pub(crate) fn requeue_all(&mut self) {
        self.queues.values_mut().for_each(|queue| queue.group.requeue_all());
    }

    /// The bytes of a record's image, if memory has them.
    fn image(&self, place: &Place) -> Option<Bytes> {
        self.recent.get(place)
    }
}
