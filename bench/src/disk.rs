//! The disk's own: how long `fdatasync` takes for a page that is written over, which is the least that an
//! acknowledgement can take; and what it was given to write.
//!
//! The kernel's own count per process is of no use for the latter: for one byte that is written over it
//! counts a whole folio of the page cache, which may be a MiB. So the device is asked. That counts for
//! everybody who writes to it, which on a quiet machine is the server and the file system's journal.

use std::{
    fs::{self, File},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Result;
use serde::Serialize;

use crate::latency::quantile;

const PAGE: usize = 4096;
const PAGES: u64 = 4096;
/// What the kernel counts sectors in.
const SECTOR: u64 = 512;

/// Microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Sync {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// A file whose blocks are there already.
#[derive(Debug)]
pub(crate) struct Disk {
    file: File,
    /// What the kernel counts of the device beneath.
    counts: PathBuf,
}

impl Disk {
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        let file = File::create(folder.join("disk"))?;
        for page in 0..PAGES {
            file.write_all_at(&[0; PAGE], page * PAGE as u64)?;
        }
        file.sync_all()?;
        let device = file.metadata()?.dev();
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        Ok(Self { file, counts: format!("/sys/dev/block/{major}:{minor}/stat").into() })
    }

    /// Bytes that the device has written so far, with all that was still in memory; nothing where the file
    /// system has no device of its own.
    pub(crate) fn written(&self) -> Result<Option<u64>> {
        rustix::fs::syncfs(&self.file)?;
        Ok(fs::read_to_string(&self.counts).ok().as_deref().and_then(sectors).map(|n| n * SECTOR))
    }

    /// Writes page after page and waits for each, so long.
    pub(crate) fn sync(&self, time: Duration) -> Result<Sync> {
        let mut took = Vec::new();
        let began = Instant::now();
        while took.is_empty() || began.elapsed() < time {
            let page = [took.len() as u8; PAGE];
            let at = took.len() as u64 % PAGES * PAGE as u64;
            let before = Instant::now();
            self.file.write_all_at(&page, at)?;
            self.file.sync_data()?;
            took.push(before.elapsed());
        }
        took.sort_unstable();
        let at = |share| quantile(&took, share).map_or(f64::NAN, |time| time.as_secs_f64() * 1e6);
        Ok(Sync { p50: at(0.5), p99: at(0.99) })
    }
}

/// The sectors written of a line of a device's counts.
fn sectors(counts: &str) -> Option<u64> {
    counts.split_whitespace().nth(6)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_counts() {
        let line = " 3167063 119614 117412578 13414619 1124053 667561 286290872 2313785 0 944256";
        assert_eq!(sectors(line), Some(286_290_872));
        assert_eq!(sectors("1 2 3"), None);
    }
}
