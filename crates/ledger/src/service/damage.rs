//! What was found damaged while the ledger is open: counted, told once in the log, and kept to be shown.

use std::{
    collections::{HashSet, VecDeque},
    sync::atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;

use crate::record::LogId;

/// The most sentences that are kept; the newest are.
const SENTENCES_MAX: usize = 100;
/// The most records that are remembered as told.
const SEEN_MAX: usize = 10_000;
/// The most pieces of damaged bytes that are set aside in one life.
const PIECES_MAX: u64 = 1000;

/// A record that was acknowledged and cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LostRecord {
    pub(crate) log: LogId,
    /// The name of the log.
    pub(crate) name: String,
    pub(crate) position: u64,
    pub(crate) why: String,
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Damages {
    count: AtomicU64,
    pieces: AtomicU64,
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    sentences: VecDeque<String>,
    records: HashSet<(u32, u64)>,
    others: HashSet<String>,
}

impl Damages {
    /// Tells of damage in a sentence; once.
    pub(crate) fn tell(&self, sentence: String) {
        {
            let mut told = self.told.lock();
            if told.others.len() < SEEN_MAX && !told.others.insert(sentence.clone()) {
                return;
            }
            told.keep(sentence.clone());
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        tracing::error!(damage = sentence, "stored bytes are damaged");
    }

    /// Tells of a record that is lost; once.
    pub(crate) fn tell_record(&self, lost: &LostRecord) {
        let LostRecord { log, name, position, why } = lost;
        {
            let mut told = self.told.lock();
            if told.records.len() < SEEN_MAX && !told.records.insert((log.0, *position)) {
                return;
            }
            told.keep(format!("position {position} of `{name}` is lost: {why}"));
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        tracing::error!(log = name, position, why, "a record is damaged and lost");
    }

    /// How many there were.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// The newest of them, in words.
    pub(crate) fn sentences(&self) -> Vec<String> {
        self.told.lock().sentences.iter().cloned().collect()
    }

    /// Whether one more piece of damaged bytes may be set aside.
    pub(crate) fn piece(&self) -> bool {
        self.pieces.fetch_add(1, Ordering::Relaxed) < PIECES_MAX
    }
}

impl Told {
    fn keep(&mut self, sentence: String) {
        if self.sentences.len() >= SENTENCES_MAX {
            self.sentences.pop_front();
        }
        self.sentences.push_back(sentence);
    }
}
