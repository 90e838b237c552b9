//! The disk's own: how long `fdatasync` takes for a page that is written over, which is the least that an
//! acknowledgement can take.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Result;
use serde::Serialize;

use crate::latency::quantile;

const PAGE: usize = 4096;
const PAGES: u64 = 4096;

/// Microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Sync {
    pub(super) p50: f64,
    pub(super) p99: f64,
}

/// A file whose blocks are there already.
#[derive(Debug)]
pub(super) struct Disk {
    file: File,
}

impl Disk {
    pub(super) fn new(folder: &Path) -> Result<Self> {
        let file = File::create(folder.join("disk"))?;
        for page in 0..PAGES {
            file.write_all_at(&[0; PAGE], page * PAGE as u64)?;
        }
        file.sync_all()?;
        Ok(Self { file })
    }

    /// Writes page after page and waits for each, so long.
    pub(super) fn sync(&self, time: Duration) -> Result<Sync> {
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
