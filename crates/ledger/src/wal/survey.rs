//! Which files of the log are there, which are missing, and which were made ready and never used. Changes nothing.

use weft_kernel::Result;

use super::{
    Closed, FOLDER, Scan, WalFile,
    made::{self, Made},
    number, scan,
    scan::Known,
};
use crate::{
    crypt::Keys,
    disk::{Disk, unreadable},
};

/// A file that a recovery reads.
#[derive(Debug)]
pub(crate) struct Surveyed {
    pub(crate) file: WalFile,
    /// Whether its header, or the copy of it, is whole.
    pub(crate) header: bool,
    /// Where it was closed.
    pub(crate) closed: Option<Closed>,
    /// How many bytes it is shorter than it was made.
    cut: u64,
    /// The transaction of its first whole frame.
    first: Option<u64>,
    /// Whether it is not as a file is that was made and never written to.
    touched: bool,
}

/// The files of the log.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// Those with transactions in them, in order.
    pub(crate) used: Vec<Surveyed>,
    /// The numbers that must be there and are not, or of which nothing is left.
    pub(crate) missing: Vec<u32>,
    /// The numbers of those that were made ready and never used.
    pub(crate) unused: Vec<u32>,
    /// The numbers of those that are not needed any more.
    pub(crate) stale: Vec<u32>,
    /// Whether it is not known how far the log went: nothing tells whether the last files are there.
    pub(crate) end_unknown: bool,
    /// What is on record of the log.
    pub(crate) made: Made,
}

/// Looks at the files from `first_file` on.
///
/// # Errors
/// `misconfigured` for a version or key that is not understood, and what the disk says.
pub(crate) fn survey(disk: &dyn Disk, keys: &Keys, first_file: u32) -> Result<Survey> {
    let names = disk.list(FOLDER).map_err(|error| unreadable("cannot list", FOLDER, error))?;
    let numbers: Vec<u32> = names.iter().filter_map(|name| number(name)).collect();
    let mut found = Survey::default();
    let made = match made::read(disk) {
        Ok(made) => made,
        Err(error) if error.reason() == weft_kernel::Reason::StorageCorrupt => None,
        Err(error) => return Err(error),
    };
    found.end_unknown = made.is_none();
    found.made = made.unwrap_or_default();
    let newest = made.map(|made| made.newest);
    // The first that is needed is there whatever is on record: it is, or was, written to.
    let there = numbers.iter().copied().chain([first_file]);
    let last = newest.into_iter().chain(there).max().unwrap_or(0);
    // Of a ledger whose making was cut short nothing was ever acknowledged.
    if first_file > 0 {
        found.missing = (first_file..=last).filter(|number| !numbers.contains(number)).collect();
    }
    for number in numbers {
        if number < first_file {
            found.stale.push(number);
            continue;
        }
        let (file, header) = WalFile::open(disk, number, keys)?;
        let first = super::first_seq(&file.read_all()?, number);
        let (closed, cut) = (file.closed()?, file.cut()?);
        // One that is on record had a whole header. Without it, and with nothing whole behind it, it
        // might as well not be there.
        if !header && first.is_none() && newest.is_some_and(|newest| number <= newest) {
            found.missing.push(number);
            continue;
        }
        let touched = first.is_some() || closed.is_some() || cut > 0;
        found.used.push(Surveyed { file, header, closed, cut, first, touched });
    }
    found.missing.sort_unstable();
    // Behind the last file with a transaction nothing was ever written.
    let used = found.used.iter().rposition(|at| at.touched);
    let unused = found.used.split_off(used.map_or(0, |last| last + 1));
    found.unused = unused.into_iter().map(|at| at.file.number).collect();
    Ok(found)
}

impl Survey {
    /// Reads the used file at `index`: its bytes and what they hold; `before` is the last transaction before it.
    pub(crate) fn scan(&self, index: usize, before: u64) -> Result<(Vec<u8>, Scan)> {
        let at = &self.used[index];
        let bytes = at.file.read_all()?;
        let next = self.used[index + 1..].iter().find_map(|later| {
            // One that was closed with nothing in it begins where this one ends.
            later.first
        });
        let known = Known { before, next, closed: at.closed, cut: at.cut };
        let scan = scan(&bytes, at.file.number, known);
        Ok((bytes, scan))
    }

    /// What of a used file is damaged besides its frames, in words.
    pub(crate) fn faults(&self, index: usize) -> Vec<String> {
        let at = &self.used[index];
        let path = super::name(at.file.number);
        let mut faults = Vec::new();
        if !at.header {
            faults.push(format!("the header of {path} is damaged, and so is its copy"));
        }
        let len = at.file.size().saturating_sub(at.cut);
        if at.cut > 0 && at.closed.is_none_or(|closed| u64::from(closed.end) > len) {
            faults.push(format!("{path} is {} bytes shorter than it was made", at.cut));
        }
        faults
    }
}
