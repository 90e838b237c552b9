//! Tells when a configuration, or a file that it refers to, has changed.
//!
//! Folders are watched rather than files: an editor replaces a file, and Kubernetes swaps the link
//! `..data`, and both leave a watch on the file itself with nothing. What counts is the content: a
//! change is told when a hash of all files differs from the last and stays the same for a moment, so
//! a file that is being written is not read halfway. A configuration of one file that was moved into
//! place is whole, and is told at once. Where events do not arrive (network file
//! systems), the hash is compared every two seconds.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use notify::{
    EventKind, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode, ModifyKind, RenameMode},
};
use tokio::sync::Notify;
use weft_net::descriptors;
use xxhash_rust::xxh3::Xxh3;

use super::source::{FILE_BYTES_MAX, configuration_files, read_pieces};

/// How often and how patiently is looked.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// How long files must stay the same before a change is told. Default: 8 ms.
    pub settle: Duration,
    /// How long files may keep changing before what is there is told nevertheless. Default: 1 s.
    pub settle_max: Duration,
    /// How often is looked without an event. Default: 2 s.
    pub poll: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            settle: Duration::from_millis(8),
            settle_max: Duration::from_secs(1),
            poll: Duration::from_secs(2),
        }
    }
}

/// Watches a configuration until it is dropped; start it before the configuration is loaded, so that
/// no change falls between.
#[derive(Debug)]
pub struct Watcher {
    shared: Arc<Shared>,
    wake: SyncSender<()>,
    thread: Option<thread::JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    /// What is watched beside the configuration, as it was when it was named.
    files: Mutex<Seen>,
    refresh: AtomicBool,
    stop: AtomicBool,
    /// Whether the configuration's file was moved into place since it was looked at last.
    moved: AtomicBool,
    changed: Notify,
}

impl Watcher {
    /// Watches a file, or a folder of files.
    pub fn start(path: PathBuf, options: Options) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            path,
            files: Mutex::default(),
            refresh: AtomicBool::new(true),
            stop: AtomicBool::new(false),
            moved: AtomicBool::new(false),
            changed: Notify::new(),
        });
        // One waiting wake is enough: whoever wakes looks at everything.
        let (wake, woken) = sync_channel(1);
        let seen = fingerprint(&shared, &Seen::new());
        let thread = thread::Builder::new().name("weft-watch".into()).spawn({
            let (shared, wake) = (Arc::clone(&shared), wake.clone());
            move || run(&shared, &options, &wake, &woken, seen)
        })?;
        Ok(Self { shared, wake, thread: Some(thread) })
    }

    /// Watches these files as well, in place of those named before: certificates, keys, secrets. Whatever
    /// becomes of one after this returns is a change.
    pub fn files(&self, files: &BTreeSet<PathBuf>) {
        let known = self.shared.named();
        if !known.keys().eq(files) {
            let named = files.iter().map(|path| {
                (path.clone(), known.get(path).copied().unwrap_or_else(|| hash(path, None)))
            });
            let named = named.collect();
            *self.shared.files.lock().unwrap_or_else(PoisonError::into_inner) = named;
            self.shared.refresh.store(true, Ordering::Release);
            let _ = self.wake.try_send(());
        }
    }

    /// Completes when something has changed since it completed last. Cancel-safe.
    pub async fn changed(&self) {
        self.shared.changed.notified().await;
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        let _ = self.wake.try_send(());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(
    shared: &Arc<Shared>,
    options: &Options,
    wake: &SyncSender<()>,
    woken: &Receiver<()>,
    mut seen: Seen,
) {
    let event = {
        let (shared, wake) = (Arc::clone(shared), wake.clone());
        move |event: notify::Result<notify::Event>| {
            if event.as_ref().is_ok_and(|event| shared.is_moved_to(event)) {
                shared.moved.store(true, Ordering::Release);
            }
            // That a file was read is no change; answering it by reading would never end.
            let read = |event: &notify::Event| matches!(event.kind, EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write));
            if !event.as_ref().is_ok_and(read) {
                let _ = wake.try_send(());
            }
        }
    };
    // Without events there is still the poll, so a failure here only makes changes slower.
    let mut watcher = notify::recommended_watcher(event).ok();
    let mut watched: BTreeSet<PathBuf> = BTreeSet::new();
    loop {
        if shared.refresh.swap(false, Ordering::AcqRel) {
            watch(shared, watcher.as_mut(), &mut watched);
            name(shared, &mut seen);
        }
        let _ = woken.recv_timeout(options.poll);
        if shared.stop.load(Ordering::Acquire) {
            return;
        }
        let moved = shared.moved.swap(false, Ordering::AcqRel);
        let mut now = fingerprint(shared, &seen);
        // That files are named wakes this too; they must be taken in before anything is compared.
        while shared.refresh.swap(false, Ordering::AcqRel) {
            watch(shared, watcher.as_mut(), &mut watched);
            name(shared, &mut seen);
            now = fingerprint(shared, &seen);
        }
        if now != seen {
            let alone = moved && changed(&seen, &now).all(|path| *path == shared.path);
            seen = if alone { now } else { settle(shared, options, now) };
            // A swapped link or a new folder is another thing to watch from now on.
            watch(shared, watcher.as_mut(), &mut watched);
            shared.changed.notify_one();
        }
    }
}

/// Takes in files that were named since, as they were then; that one is named is no change of it. What the
/// caller read before may have been another content still.
fn name(shared: &Shared, seen: &mut Seen) {
    let mut now = fingerprint(shared, seen);
    now.extend(shared.named());
    seen.retain(|path, _| now.contains_key(path));
    for (path, hash) in now {
        seen.entry(path).or_insert(hash);
    }
}

impl Shared {
    /// What was named last, as it was then.
    fn named(&self) -> Seen {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether an event says that the configuration's only file was replaced by another as a whole.
    fn is_moved_to(&self, event: &notify::Event) -> bool {
        let to = EventKind::Modify(ModifyKind::Name(RenameMode::To));
        event.kind == to && event.paths.iter().any(|path| path.file_name() == self.path.file_name())
    }
}

/// The files that are not as they were.
fn changed<'a>(old: &'a Seen, new: &'a Seen) -> impl Iterator<Item = &'a PathBuf> {
    let gone = old.keys().filter(|path| !new.contains_key(*path));
    gone.chain(new.iter().filter(|(path, hash)| old.get(*path) != Some(hash)).map(|(path, _)| path))
}

/// Waits until the files stay the same for a moment, or have been changing for too long.
fn settle(shared: &Shared, options: &Options, mut seen: Seen) -> Seen {
    let begun = Instant::now();
    loop {
        thread::sleep(options.settle);
        let now = fingerprint(shared, &seen);
        if now == seen || begun.elapsed() > options.settle_max {
            return now;
        }
        seen = now;
    }
}

/// Watches the folders of all files, also those that links lead to.
fn watch(
    shared: &Shared,
    watcher: Option<&mut notify::RecommendedWatcher>,
    watched: &mut BTreeSet<PathBuf>,
) {
    let Some(watcher) = watcher else { return };
    let mut folders = BTreeSet::new();
    let Ok(mut paths) = all_files(shared) else { return };
    paths.push(shared.path.clone());
    for path in paths {
        folders.extend(folder(&path));
        folders.extend(path.canonicalize().ok().as_deref().and_then(folder));
    }
    if shared.path.is_dir() {
        folders.insert(shared.path.clone());
    }
    for gone in watched.difference(&folders) {
        let _ = watcher.unwatch(gone);
    }
    for new in folders.difference(watched) {
        let _ = watcher.watch(new, RecursiveMode::NonRecursive);
    }
    *watched = folders;
}

fn folder(path: &Path) -> Option<PathBuf> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Some(".".into()),
        parent => parent.map(Path::to_path_buf),
    }
}

fn all_files(shared: &Shared) -> std::io::Result<Vec<PathBuf>> {
    let mut paths = if shared.path.is_dir() {
        match configuration_files(&shared.path) {
            Err(error) if descriptors::lack(&error) => return Err(error),
            listed => listed.unwrap_or_default(),
        }
    } else {
        vec![shared.path.clone()]
    };
    paths.extend(shared.named().into_keys());
    Ok(paths)
}

/// A hash of each file by its path; `None` for one that cannot be read.
type Seen = BTreeMap<PathBuf, Option<u64>>;

/// How often a file is read that could be opened and not be read, before it counts as unreadable.
const READS: usize = 3;

/// The hash of a file. One that cannot be opened because the process has too many files open is as it was
/// `before`: a lack of descriptors is no change.
fn hash(path: &Path, before: Option<u64>) -> Option<u64> {
    for _ in 0..READS {
        let mut hash = Xxh3::new();
        if read_pieces(path, FILE_BYTES_MAX, |piece, _| hash.update(piece)).is_ok() {
            return Some(hash.digest());
        }
        // A pipe that nobody writes to would hold whoever opens it up for ever.
        if std::fs::metadata(path).is_ok_and(|meta| !meta.is_file()) {
            return None;
        }
        match std::fs::File::open(path) {
            Ok(_) => {}
            Err(error) if descriptors::lack(&error) => return before,
            Err(_) => return None,
        }
    }
    None
}

/// The files as they are, where they were as `before`.
fn fingerprint(shared: &Shared, before: &Seen) -> Seen {
    let Ok(paths) = all_files(shared) else { return before.clone() };
    let now = |path: PathBuf| {
        let known = before.get(&path).copied().flatten();
        (path.clone(), hash(&path, known))
    };
    paths.into_iter().map(now).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_in_the_place_of_a_file_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, mode).unwrap();
        assert_eq!(hash(&path, Some(7)), None);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "text").unwrap();
        assert!(hash(&path, None).is_some());
    }

    #[test]
    fn a_lack_of_descriptors_is_no_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weft.yaml");
        std::fs::write(&path, "admin: off").unwrap();
        let known = hash(&path, None);
        assert!(known.is_some());
        weft_testkit::limit::descriptors_max(64);
        let open = || std::fs::File::open("/dev/null").ok();
        let held: Vec<_> = std::iter::from_fn(open).collect();
        assert_eq!((hash(&path, known), hash(&path, None)), (known, None));
        drop(held);
        std::fs::write(&path, "admin: on").unwrap();
        assert_ne!(hash(&path, known), known);
    }
}
