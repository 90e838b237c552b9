//! Looking at a ledger changes nothing, works where nothing can be changed, and tells what a start would find.

use std::{any::Any, collections::BTreeMap, io, path::Path, sync::Arc, time::SystemTime};

use weft_kernel::{ByteSize, ManualClock, Reason, Result};
use weft_ledger::{
    Ledger, Options, Store, admin,
    admin::{Inspection, Verification},
    crypt::Keys,
    disk::{Disk, File, RealDisk, SimulatedDisk, simulated::Faults},
};

use crate::{
    admin::{count, fill, open, options},
    simulation::block,
};

/// A disk on which nothing can be changed: not a file, not a name, not a lock.
#[derive(Debug)]
struct ReadOnly(SimulatedDisk);

#[derive(Debug)]
struct ReadOnlyFile(Arc<dyn File>);

fn refused<T>() -> io::Result<T> {
    Err(io::Error::from(io::ErrorKind::ReadOnlyFilesystem))
}

impl Disk for ReadOnly {
    fn open(&self, path: &str, create: bool) -> io::Result<Arc<dyn File>> {
        match self.0.open(path, false) {
            Ok(file) => Ok(Arc::new(ReadOnlyFile(file))),
            Err(_) if create => refused(),
            Err(error) => Err(error),
        }
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.0.list(dir)
    }

    fn remove(&self, _path: &str) -> io::Result<()> {
        refused()
    }

    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        refused()
    }

    fn sync_dir(&self, _dir: &str) -> io::Result<()> {
        refused()
    }

    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        refused()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(0)
    }
}

impl File for ReadOnlyFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(offset, bytes)
    }

    fn write_at(&self, _offset: u64, _bytes: &[u8]) -> io::Result<()> {
        refused()
    }

    fn set_len(&self, _len: u64) -> io::Result<()> {
        refused()
    }

    fn allocate_zeroed(&self, _len: u64) -> io::Result<()> {
        refused()
    }

    fn sync_data(&self) -> io::Result<()> {
        refused()
    }
}

fn look(disk: Arc<dyn Disk>, keys: &Keys) -> Result<(Verification, Inspection)> {
    let found = admin::verify_disk(disk.clone(), keys, &mut |_, _| {})?;
    Ok((found, admin::inspect_disk(disk, keys)?))
}

/// Every file of a simulated disk with its bytes.
fn all(disk: &SimulatedDisk) -> BTreeMap<String, Vec<u8>> {
    let files = disk.files().into_iter();
    files.map(|(path, _)| (path.clone(), disk.contents(&path).unwrap())).collect()
}

#[test]
fn a_ledger_is_looked_at_where_nothing_can_be_written() {
    for keys in [Keys::none(), Keys::none().with("k", [9; 32]).unwrap()] {
        for closed in [true, false] {
            let disk = SimulatedDisk::new();
            let ledger = open(&disk, &keys);
            fill(&ledger, 0..300);
            if closed {
                ledger.close().unwrap();
            } else {
                // Killed: the tables were not let go in order, the last file was not closed.
                disk.reopen();
            }
            let before = all(&disk);
            let changes = disk.changed();
            let (found, seen) = look(Arc::new(ReadOnly(disk.clone())), &keys).unwrap();
            assert_eq!(found.damage, Vec::<String>::new());
            assert_eq!(seen.damage, Vec::<String>::new());
            assert!(found.records > 0 && found.transactions > 0);
            assert!(seen.last_seq >= 302, "{seen:?}");
            // The same where it could be written to.
            let (again, same) = look(Arc::new(disk.clone()), &keys).unwrap();
            assert_eq!((again, same), (found, seen));
            assert_eq!(all(&disk), before);
            assert_eq!(disk.changed(), changes, "not even what it makes no difference to");
        }
    }
}

type Seen = BTreeMap<String, (u64, SystemTime, Vec<u8>)>;

fn tree(folder: &Path) -> Seen {
    let mut found = Seen::new();
    let mut left = vec![folder.to_owned()];
    while let Some(path) = left.pop() {
        let meta = std::fs::metadata(&path).unwrap();
        let bytes = if meta.is_dir() {
            left.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            Vec::new()
        } else {
            std::fs::read(&path).unwrap()
        };
        found.insert(path.display().to_string(), (meta.len(), meta.modified().unwrap(), bytes));
    }
    found
}

fn folder_options() -> Options {
    Options { wal_file_bytes: ByteSize(64 << 10), ..Options::default() }
}

fn open_folder(path: &Path) -> Result<Ledger> {
    let disk = Arc::new(RealDisk::open(path).unwrap());
    Ledger::open(disk, folder_options(), Arc::new(ManualClock::default())).map(|(ledger, _)| ledger)
}

#[test]
fn a_folder_is_as_it_was_after_it_was_looked_at() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("data");
    let ledger = open_folder(&path).unwrap();
    fill(&ledger, 0..300);
    ledger.close().unwrap();
    std::fs::remove_file(path.join("lock")).unwrap();
    let before = tree(&path);
    for _ in 0..2 {
        let found = admin::verify(&path, &Keys::none(), &mut |_, _| {}).unwrap();
        assert_eq!(found.damage, Vec::<String>::new());
        admin::inspect(&path, &Keys::none()).unwrap();
        assert_eq!(tree(&path), before);
    }
    assert!(admin::verify(&root.path().join("none"), &Keys::none(), &mut |_, _| {}).is_err());
    assert!(!root.path().join("none").exists());
}

#[test]
fn a_folder_that_is_open_is_busy_and_says_by_whom() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("data");
    let back = root.path().join("back");
    let me = format!("process {}", std::process::id());
    let ledger = open_folder(&path).unwrap();
    let refused = |told: &str| {
        let verified = admin::verify(&path, &Keys::none(), &mut |_, _| {}).map(|_| ());
        let restored = admin::restore(&path, &back, &Keys::none(), &mut |_, _| {}).map(|_| ());
        for refused in [
            open_folder(&path).map(|_| ()).unwrap_err(),
            verified.unwrap_err(),
            admin::inspect(&path, &Keys::none()).map(|_| ()).unwrap_err(),
            admin::rewrap(&path, &Keys::none()).map(|_| ()).unwrap_err(),
            restored.unwrap_err(),
        ] {
            assert_eq!(refused.reason(), Reason::StorageBusy, "{}", refused.detail());
            assert!(refused.said().contains(told), "{}", refused.detail());
        }
    };
    refused(&me);
    // The lock is not lost with its file, and what the file says of nobody is not believed.
    std::fs::remove_file(path.join("lock")).unwrap();
    refused("another process");
    std::fs::write(path.join("lock"), "4194304999\n").unwrap();
    refused("another process");
    std::fs::write(path.join("lock"), "4194303\n").unwrap();
    refused("another process");
    ledger.close().unwrap();
    let ledger = open_folder(&path).unwrap();
    refused(&me);
    ledger.close().unwrap();
    assert_eq!(std::fs::read(path.join("lock")).unwrap(), b"", "nobody is named who is gone");
    admin::verify(&path, &Keys::none(), &mut |_, _| {}).unwrap();
}

#[test]
fn those_who_look_do_not_disturb_each_other() {
    let root = tempfile::tempdir().unwrap();
    let ledger = open_folder(root.path()).unwrap();
    ledger.close().unwrap();
    let disk = RealDisk::open(root.path()).unwrap();
    let looking = disk.lock_shared().unwrap();
    admin::verify(root.path(), &Keys::none(), &mut |_, _| {}).unwrap();
    let busy = open_folder(root.path()).map(|_| ()).unwrap_err();
    assert_eq!(busy.reason(), Reason::StorageBusy);
    drop(looking);
    open_folder(root.path()).unwrap().close().unwrap();
}

#[test]
fn what_cannot_be_read_is_not_called_a_write_that_failed() {
    let keys = Keys::none();
    let disk = SimulatedDisk::new();
    let ledger = open(&disk, &keys);
    fill(&ledger, 0..300);
    let (log, _) = block(&ledger, ledger.find_log("log")).unwrap().unwrap();
    let read = || block(&ledger, ledger.read(log, 0, weft_ledger::Limits::default()));
    let unreadable =
        |path: &str| disk.set_faults(Faults { unreadable: Some(path.into()), ..Faults::default() });
    unreadable("segments");
    let error = read().unwrap_err();
    assert_eq!(error.reason(), Reason::StorageUnavailable, "{}", error.detail());
    assert!(error.detail().contains("segments/"), "{}", error.detail());
    disk.set_faults(Faults::default());
    assert!(!read().unwrap().is_empty(), "what could not be read is not given up");
    assert!(!ledger.stats().poisoned);
    ledger.close().unwrap();
    for part in ["wal", "segments", "checkpoint/tables", "checkpoint/header"] {
        unreadable(part);
        let clock = Arc::new(ManualClock::default());
        match Ledger::open(Arc::new(disk.clone()), options(&keys), clock) {
            Ok(_) => assert_eq!(part, "segments", "a start reads {part}"),
            Err(error) => {
                assert_eq!(error.reason(), Reason::StorageUnavailable, "{}", error.detail());
            }
        }
        let found = admin::verify_disk(Arc::new(disk.clone()), &keys, &mut |_, _| {}).unwrap();
        assert!(
            found.damage.iter().any(|told| told.contains(part) && told.contains("cannot")),
            "{part}: {:?}",
            found.damage
        );
        disk.set_faults(Faults::default());
    }
    let found = admin::verify_disk(Arc::new(disk.clone()), &keys, &mut |_, _| {}).unwrap();
    assert_eq!(found.damage, Vec::<String>::new());
}

#[test]
fn maintenance_waits_for_a_disk_that_cannot_be_read() {
    let keys = Keys::none();
    let disk = SimulatedDisk::new();
    let ledger = open(&disk, &keys);
    fill(&ledger, 0..60);
    disk.set_faults(Faults { unreadable: Some("wal".into()), ..Faults::default() });
    fill(&ledger, 60..300);
    assert!(!ledger.stats().poisoned);
    let segments = || disk.files().into_iter().filter(|(path, _)| path.ends_with(".seg")).count();
    let stuck = segments();
    for _ in 0..20 {
        ledger.step();
    }
    assert_eq!(segments(), stuck, "what could not be written whole is not left behind");
    disk.set_faults(Faults::default());
    fill(&ledger, 300..310);
    for _ in 0..20 {
        ledger.step();
    }
    assert!(segments() > stuck);
    assert_eq!(count(&ledger), 310);
}

#[test]
fn what_a_start_tells_a_verification_tells() {
    let keys = Keys::none();
    let disk = SimulatedDisk::new();
    let ledger = open(&disk, &keys);
    fill(&ledger, 0..300);
    disk.reopen();
    // In the middle of a file that a later one proves safe.
    let wal: Vec<String> = disk.files().into_iter().map(|(path, _)| path).collect();
    let wal = wal.into_iter().find(|path| path.ends_with(".wal")).unwrap();
    assert!(disk.flip(&wal, 8 * 6000));
    let found = admin::verify_disk(Arc::new(disk.clone()), &keys, &mut |_, _| {}).unwrap();
    let clock = Arc::new(ManualClock::default());
    let (ledger, recovered) = Ledger::open(Arc::new(disk.clone()), options(&keys), clock).unwrap();
    assert!(!recovered.damage.is_empty());
    assert_eq!(found.damage, recovered.damage);
    assert_eq!(found.torn_bytes, recovered.torn_bytes);
    assert_eq!(found.quarantine, []);
    ledger.close().unwrap();
    // What was set aside stays known.
    let found = admin::verify_disk(Arc::new(disk.clone()), &keys, &mut |_, _| {}).unwrap();
    assert_eq!(found.quarantine.len(), 1, "{:?}", found.quarantine);
    assert!(found.quarantine[0].path.starts_with("quarantine/wal-"));
}

#[test]
fn every_byte_of_a_segment_that_is_changed_or_missing_is_told() {
    for keys in [Keys::none(), Keys::none().with("k", [9; 32]).unwrap()] {
        let disk = SimulatedDisk::new();
        let ledger = open(&disk, &keys);
        fill(&ledger, 0..120);
        ledger.close().unwrap();
        let segments = disk.files().into_iter().filter(|(path, _)| path.ends_with(".seg"));
        let (path, len) = segments.min_by_key(|(_, len)| *len).unwrap();
        let verify = || admin::verify_disk(Arc::new(disk.clone()), &keys, &mut |_, _| {});
        let step = (len as usize / 60) | 1;
        for byte in (0..4096).step_by(151).chain((4096..len).step_by(step)).chain(len - 40..len) {
            assert!(disk.flip(&path, byte * 8 + byte % 8));
            let found = verify().unwrap();
            assert!(found.damage.iter().any(|told| told.contains(&path)), "byte {byte}");
            assert!(disk.flip(&path, byte * 8 + byte % 8));
        }
        let whole = disk.contents(&path).unwrap();
        for cut in [1, 39, 40, 41, 500, len / 2, len - 4096, len] {
            let file = Disk::open(&disk, &path, false).unwrap();
            file.set_len(len - cut).unwrap();
            let found = verify().unwrap();
            assert!(found.damage.iter().any(|told| told.contains(&path)), "cut by {cut}");
            file.write_at(0, &whole).unwrap();
        }
        Disk::remove(&disk, &path).unwrap();
        let found = verify().unwrap();
        assert!(found.damage.iter().any(|told| told.contains(&path)), "{:?}", found.damage);
    }
}

#[test]
fn a_folder_that_cannot_be_opened_is_no_full_disk() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "in the way").unwrap();
    let clock = Arc::new(ManualClock::default());
    let opened = Ledger::open_folder(&file.join("ledger"), folder_options(), clock);
    let error = opened.err().unwrap();
    assert_eq!(error.reason(), Reason::StorageUnavailable, "{}", error.detail());
}
