//! Which changes of a stream are to be published, and what is known then: a pure machine.
//!
//! A stream begins with the last transaction that was published, which proves that it is the same log, and sends the
//! next one from its first change on, however much of it was published. The machine tells what to pass over, so that
//! every change is published once, and stops where the stream is not the one that was read before.

use crate::{
    fault::Fault,
    kept::{Kept, Mark, Part},
    lsn::Lsn,
    pgoutput::{Begin, Commit},
};

/// Where a stream is.
#[derive(Debug)]
pub struct Track {
    /// The transaction that must come first.
    proof: Option<Mark>,
    /// What was published of the next one.
    part: Option<Part>,
    open: Option<Open>,
}

/// The transaction that is being read.
#[derive(Clone, Copy, Debug)]
struct Open {
    begin: Begin,
    mode: Mode,
    change: Lsn,
    nth: u32,
    /// Whether anything of it was published.
    taken: bool,
}

/// A transaction ends that is not the one that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unordered;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// It was published.
    Over,
    /// It was published up to here.
    From(Part),
    /// Nothing of it was.
    New,
}

impl Track {
    /// The beginning of a stream.
    pub fn new(kept: &Kept, proof: bool) -> Self {
        Self { proof: kept.done.filter(|_| proof), part: kept.part, open: None }
    }

    /// Whether the log is known to be the one that was read.
    pub fn is_proven(&self) -> bool {
        self.proof.is_none()
    }

    /// Whether a transaction is being read.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// A transaction begins.
    ///
    /// # Errors
    /// That this is not the log that was read, or no order of messages.
    pub fn begin(&mut self, begin: Begin) -> Result<(), Fault> {
        let Begin { commit, at, xid } = begin;
        let mut mode = Mode::New;
        if let Some(kept) = self.proof {
            if (commit, at, xid) != (kept.commit, kept.at, kept.xid) {
                let found = format!("the first one is {xid} at {commit}");
                return Err(Fault::OtherHistory { kept, found });
            }
            mode = Mode::Over;
        } else if let Some(part) = self.part {
            if (commit, xid) == (part.commit, part.xid) {
                mode = Mode::From(part);
            } else if commit >= part.commit {
                let found = format!("in its place is {xid} at {commit}");
                return Err(Fault::OtherHistory { kept: part.mark(), found });
            }
        }
        self.open = Some(Open { begin, mode, change: Lsn(0), nth: 0, taken: false });
        Ok(())
    }

    /// The time at which the transaction was committed that is being read: microseconds since 2000.
    pub fn begun(&self) -> Option<Begin> {
        self.open.map(|open| open.begin)
    }

    /// A change that is one to be published, at a position. Tells whether it is to be now.
    pub fn change(&mut self, at: Lsn) -> bool {
        let Some(open) = &mut self.open else { return false };
        open.nth = if open.change == at { open.nth.saturating_add(1) } else { 1 };
        open.change = at;
        let is_new = match open.mode {
            Mode::Over => false,
            Mode::From(part) => (open.change, open.nth) > (part.change, part.nth),
            Mode::New => true,
        };
        open.taken |= is_new;
        is_new
    }

    /// What is known once everything was published that was to be so far.
    pub fn so_far(&self) -> Option<Part> {
        let open = self.open.filter(|open| open.taken)?;
        let Open { begin: Begin { commit, xid, .. }, change, nth, .. } = open;
        Some(Part { commit, xid, change, nth })
    }

    /// The transaction ends. Tells what is known once everything of it was published; `None` if there was nothing to
    /// be published, and nothing has to be known.
    ///
    /// # Errors
    /// That no transaction was open, or another one.
    pub fn commit(&mut self, commit: Commit) -> Result<Option<Mark>, Unordered> {
        let open = self.open.take().filter(|open| open.begin.commit == commit.commit);
        let open = open.ok_or(Unordered)?;
        let Begin { at, xid, .. } = open.begin;
        let mark = Mark { commit: commit.commit, end: commit.end, xid, at };
        match open.mode {
            Mode::Over => {
                self.proof = None;
                Ok(None)
            }
            Mode::From(_) => {
                self.part = None;
                Ok(Some(mark))
            }
            Mode::New => Ok(open.taken.then_some(mark)),
        }
    }

    /// The server has sent everything up to a position.
    ///
    /// # Errors
    /// That the last transaction that was published, or the one of which more is to be, is not there.
    pub fn sent(&self, upto: Lsn) -> Result<(), Fault> {
        if self.open.is_some() {
            return Ok(());
        }
        let found = || format!("there is none up to {upto}");
        if let Some(kept) = self.proof.filter(|kept| upto >= kept.end) {
            return Err(Fault::OtherHistory { kept, found: found() });
        }
        match self.part.filter(|part| self.proof.is_none() && upto > part.commit) {
            Some(part) => Err(Fault::OtherHistory { kept: part.mark(), found: found() }),
            None => Ok(()),
        }
    }
}

impl Part {
    /// The transaction that it is of, as far as it is known.
    fn mark(self) -> Mark {
        Mark { commit: self.commit, end: self.commit, xid: self.xid, at: 0 }
    }
}

#[cfg(test)]
mod tests;
