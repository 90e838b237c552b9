//! Copies of a ledger that are cut short, damaged, or made where they must not be.

use std::{path::Path, sync::Arc};

use weft_kernel::{ByteSize, ManualClock, Reason, Result, Rng};
use weft_ledger::{
    EmbeddedStore as _, Ledger, Options, admin,
    admin::Verification,
    crypt::Keys,
    disk::{Disk, RealDisk, SimulatedDisk, simulated::Faults},
};

use crate::admin::{count, fill, open, options};

const RECORDS: usize = 60;

fn keys() -> [Keys; 2] {
    [Keys::none(), Keys::none().with("k", [9; 32]).unwrap()]
}

fn verify(disk: &SimulatedDisk, keys: &Keys) -> Result<Verification> {
    admin::verify_disk(Arc::new(disk.clone()), keys, &mut |_, _| {})
}

fn restore(from: &SimulatedDisk, to: &SimulatedDisk, keys: &Keys) -> Result<Verification> {
    admin::restore_disk(Arc::new(from.clone()), Arc::new(to.clone()), keys, &mut |_, _| {})
}

fn try_open(disk: &SimulatedDisk, keys: &Keys) -> Result<Ledger> {
    let clock = Arc::new(ManualClock::default());
    Ledger::open(Arc::new(disk.clone()), options(keys), clock).map(|(ledger, _)| ledger)
}

fn whole(found: &Result<Verification>) -> bool {
    found.as_ref().is_ok_and(|found| found.damage.is_empty())
}

/// A disk that holds what another one holds.
fn copy_of(disk: &SimulatedDisk) -> SimulatedDisk {
    let copy = SimulatedDisk::new();
    for (path, _) in disk.files() {
        let file = Disk::open(&copy, &path, true).unwrap();
        file.write_at(0, &disk.contents(&path).unwrap()).unwrap();
    }
    copy
}

/// A backup of a ledger of [`RECORDS`] records, and the ledger.
fn backed_up(keys: &Keys) -> (Ledger, SimulatedDisk) {
    let (disk, copy) = (SimulatedDisk::new(), SimulatedDisk::new());
    let ledger = open(&disk, keys);
    fill(&ledger, 0..RECORDS);
    ledger.backup_to(Arc::new(copy.clone())).unwrap();
    (ledger, copy)
}

/// What a process finds after it was killed, or after the power has failed.
fn come_back(disk: &SimulatedDisk, power: bool, rng: &mut Rng) {
    if power { disk.restart(rng) } else { disk.reopen() }
}

#[test]
fn a_backup_that_was_cut_short_anywhere_is_whole_or_refused() {
    for (keys, power) in keys().into_iter().flat_map(|keys| [(keys.clone(), false), (keys, true)]) {
        let disk = SimulatedDisk::new();
        let ledger = open(&disk, &keys);
        fill(&ledger, 0..RECORDS);
        let mut rng = Rng::seeded(7);
        let mut refused = 0;
        for at in 1.. {
            let copy = SimulatedDisk::new();
            copy.set_faults(Faults { halt_at_change: Some(at), ..Faults::default() });
            let done = ledger.backup_to(Arc::new(copy.clone()));
            if !copy.halted() {
                done.unwrap();
                assert!(whole(&verify(&copy, &keys)));
                break;
            }
            assert!(done.is_err(), "change {at}");
            come_back(&copy, power, &mut rng);
            let (found, back) = (verify(&copy, &keys), SimulatedDisk::new());
            let restored = restore(&copy, &back, &keys);
            assert_eq!(whole(&found), restored.is_ok(), "change {at}: {found:?} {restored:?}");
            if restored.is_ok() {
                assert_eq!(count(&open(&back, &keys)), RECORDS, "change {at}");
            } else {
                refused += 1;
                assert_eq!(back.files(), [], "change {at}: what was refused leaves nothing");
            }
            if !copy.files().is_empty()
                && let Ok(ledger) = try_open(&copy, &keys)
            {
                assert_eq!(count(&ledger), RECORDS, "change {at}");
            }
        }
        assert!(refused > 10, "{refused}");
    }
}

#[test]
fn a_backup_of_what_is_damaged_brings_the_rest_back_and_names_it() {
    for keys in keys() {
        let (disk, copy, back) = (SimulatedDisk::new(), SimulatedDisk::new(), SimulatedDisk::new());
        let ledger = open(&disk, &keys);
        fill(&ledger, 0..3 * RECORDS);
        while ledger.step() {}
        ledger.checkpoint().unwrap();
        let files = disk.files();
        let segment = files.iter().find(|(path, _)| path.starts_with("segments/"));
        let (path, len) = segment.expect("what was written is in a segment");
        assert!(disk.flip(path, len / 3 * 8));
        ledger.backup_to(Arc::new(copy.clone())).unwrap();
        let found = verify(&copy, &keys).unwrap();
        assert!(!found.damage.is_empty());
        let restored = restore(&copy, &back, &keys).unwrap();
        assert_eq!(restored.damage, found.damage);
        assert_eq!(restored.records, found.records);
        try_open(&back, &keys).unwrap().close().unwrap();
        // What was damaged since is no backup.
        assert!(copy.flip(path, len / 2 * 8));
        assert!(restore(&copy, &SimulatedDisk::new(), &keys).is_err());
    }
}

#[test]
fn a_backup_that_fails_leaves_its_folder_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::default());
    let (own, to) = (folder.path().join("own"), folder.path().join("new/backup"));
    let disk = Arc::new(RealDisk::open(&own).unwrap());
    let (ledger, _) = Ledger::open(disk, options(&Keys::none()), clock).unwrap();
    fill(&ledger, 0..RECORDS);
    // What is to be copied is away for a moment.
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    let mut logs: Vec<_> =
        std::fs::read_dir(own.join("wal")).unwrap().map(|entry| entry.unwrap().path()).collect();
    logs.retain(|path| name(path).ends_with(".wal"));
    logs.sort();
    let away = folder.path().join("away");
    std::fs::rename(&logs[0], &away).unwrap();
    assert!(ledger.backup(&to).is_err());
    assert!(!to.exists() && !to.parent().unwrap().exists());
    let there = folder.path().join("there");
    std::fs::create_dir(&there).unwrap();
    assert!(ledger.backup(&there).is_err());
    assert_eq!(std::fs::read_dir(&there).unwrap().count(), 0);
    std::fs::rename(&away, &logs[0]).unwrap();
    ledger.backup(&to).unwrap();
    // A folder of somebody else is not made a backup.
    for make in [|path: &Path| std::fs::write(path, "x"), |path: &Path| std::fs::create_dir(path)] {
        make(&there.join("mine")).unwrap();
        let error = ledger.backup(&there).unwrap_err();
        assert_eq!(error.reason(), Reason::DefinitionConflict, "{}", error.detail());
        assert!(error.detail().contains("`mine`"), "{}", error.detail());
        let _ = std::fs::remove_file(there.join("mine"));
    }
    std::fs::remove_dir(there.join("mine")).unwrap();
    ledger.backup(&there).unwrap();
    ledger.close().unwrap();
}

#[test]
fn a_restore_that_was_cut_short_anywhere_is_whole_or_refused() {
    for (keys, power) in keys().into_iter().flat_map(|keys| [(keys.clone(), false), (keys, true)]) {
        let (_ledger, copy) = backed_up(&keys);
        let mut rng = Rng::seeded(7);
        let mut refused = 0;
        for at in 1.. {
            let back = SimulatedDisk::new();
            back.set_faults(Faults { halt_at_change: Some(at), ..Faults::default() });
            let done = restore(&copy, &back, &keys);
            if !back.halted() {
                done.unwrap();
                back.set_faults(Faults::default());
                assert_eq!(count(&open(&back, &keys)), RECORDS);
                break;
            }
            assert!(done.is_err(), "change {at}");
            come_back(&back, power, &mut rng);
            if back.files().is_empty() {
                continue;
            }
            let found = verify(&back, &keys);
            match try_open(&back, &keys) {
                Ok(ledger) => {
                    assert!(whole(&found), "change {at}: {found:?}");
                    assert_eq!(count(&ledger), RECORDS, "change {at}");
                }
                Err(error) => {
                    refused += 1;
                    assert!(!whole(&found), "change {at}");
                    assert!(error.said().contains("unfinished"), "{}", error.detail());
                    let again = restore(&copy, &back, &keys).unwrap_err();
                    assert!(again.said().contains("unfinished"), "{}", again.detail());
                }
            }
        }
        assert!(refused > 5, "{refused}");
    }
}

#[test]
fn a_copy_that_finds_no_room_says_so_and_leaves_nothing() {
    let keys = Keys::none();
    let (ledger, copy) = backed_up(&keys);
    let size: u64 = copy.files().iter().map(|(_, bytes)| bytes).sum();
    for room in [0, 20, 5000, size / 2, size - 4096] {
        let full = Faults { bytes_max: Some(room), ..Faults::default() };
        let to = SimulatedDisk::new();
        to.set_faults(full.clone());
        let error = ledger.backup_to(Arc::new(to.clone())).unwrap_err();
        assert_eq!(error.reason(), Reason::StorageFull, "{room}: {}", error.detail());
        assert_eq!(to.files(), [], "{room}");
        to.set_faults(Faults::default());
        ledger.backup_to(Arc::new(to.clone())).unwrap();
        assert!(whole(&verify(&to, &keys)));

        let to = SimulatedDisk::new();
        to.set_faults(full);
        let error = restore(&copy, &to, &keys).unwrap_err();
        assert_eq!(error.reason(), Reason::StorageFull, "{room}: {}", error.detail());
        assert_eq!(to.files(), [], "{room}");
        to.set_faults(Faults::default());
        restore(&copy, &to, &keys).unwrap();
    }
    assert!(!ledger.stats().full && !ledger.stats().poisoned, "the ledger itself has room");
}

#[test]
fn a_backup_whose_disk_fails_says_so_and_poisons_nothing() {
    let keys = Keys::none();
    let (ledger, _) = backed_up(&keys);
    for write in 1..40 {
        let to = SimulatedDisk::new();
        to.set_faults(Faults { fail_write_from: Some(write), ..Faults::default() });
        let Err(error) = ledger.backup_to(Arc::new(to.clone())) else { continue };
        assert_eq!(error.reason(), Reason::StorageUnavailable, "{}", error.detail());
    }
    assert!(!ledger.stats().poisoned);
    fill(&ledger, RECORDS..RECORDS + 1);
}

type Wrong = fn(&SimulatedDisk, &str);

/// What can be wrong with one file of a backup.
const WRONGS: [(&str, Wrong); 5] = [
    ("missing", |disk, path| disk.remove(path).unwrap()),
    ("cut", |disk, path| {
        let file = Disk::open(disk, path, false).unwrap();
        file.set_len(file.len().unwrap() - 1).unwrap();
    }),
    ("longer", |disk, path| {
        let file = Disk::open(disk, path, false).unwrap();
        file.set_len(file.len().unwrap() + 512).unwrap();
    }),
    ("emptied", |disk, path| Disk::open(disk, path, false).unwrap().set_len(0).unwrap()),
    ("changed", |disk, path| {
        let bits = disk.contents(path).unwrap().len() as u64 * 8;
        assert!(disk.flip(path, bits - 9));
    }),
];

#[test]
fn every_file_of_a_backup_that_is_not_what_was_written_is_named() {
    for keys in keys() {
        let (_ledger, copy) = backed_up(&keys);
        for (path, len) in copy.files() {
            for (wrong, make) in WRONGS {
                if path == "lock" || (len == 0 && wrong != "longer") {
                    continue;
                }
                let spoiled = copy_of(&copy);
                make(&spoiled, &path);
                if (path.as_str(), wrong) == ("manifest", "missing") {
                    // What is left has all that a ledger needs.
                    continue;
                }
                let found = verify(&spoiled, &keys).unwrap();
                let named = found.damage.iter().any(|text| text.contains(&path));
                assert!(named, "{path} {wrong}: {:?}", found.damage);
                let back = SimulatedDisk::new();
                let refused = restore(&spoiled, &back, &keys).unwrap_err();
                assert_eq!(refused.reason(), Reason::StorageCorrupt, "{}", refused.detail());
                assert!(refused.detail().contains(&path), "{path} {wrong}: {}", refused.detail());
                assert_eq!(back.files(), []);
            }
        }
        for more in ["segments/0000000777.seg", "wal/0000000777.wal", "checkpoint/new"] {
            let spoiled = copy_of(&copy);
            Disk::open(&spoiled, more, true).unwrap().write_at(0, b"?").unwrap();
            let found = verify(&spoiled, &keys).unwrap();
            assert!(found.damage.iter().any(|text| text.contains(more)), "{:?}", found.damage);
            let refused = restore(&spoiled, &SimulatedDisk::new(), &keys).unwrap_err();
            assert!(refused.detail().contains(more), "{}", refused.detail());
        }
    }
}

#[test]
fn a_backup_that_a_node_was_started_on_is_a_ledger() {
    for keys in keys() {
        let (_ledger, copy) = backed_up(&keys);
        let cut = copy_of(&copy);
        let (path, len) =
            copy.files().into_iter().find(|(path, _)| path.starts_with("wal/")).unwrap();
        Disk::open(&cut, &path, false).unwrap().set_len(len / 2).unwrap();
        let refused = try_open(&cut, &keys).unwrap_err();
        assert!(refused.detail().contains(&path), "{}", refused.detail());

        let ledger = open(&copy, &keys);
        assert_eq!(count(&ledger), RECORDS);
        fill(&ledger, RECORDS..RECORDS + 10);
        ledger.close().unwrap();
        let found = verify(&copy, &keys).unwrap();
        assert_eq!(found.damage, Vec::<String>::new());
        assert_eq!(admin::inspect_disk(Arc::new(copy), &keys).unwrap().state, "ledger");
    }
}

#[test]
fn a_ledger_that_is_no_backup_is_verified_and_restored() {
    let (keys, disk, back) = (Keys::none(), SimulatedDisk::new(), SimulatedDisk::new());
    let ledger = open(&disk, &keys);
    fill(&ledger, 0..RECORDS);
    let busy = restore(&disk, &back, &keys).unwrap_err();
    assert_eq!(busy.reason(), Reason::StorageBusy);
    assert_eq!(back.files(), []);
    ledger.close().unwrap();
    assert!(whole(&verify(&disk, &keys)));
    restore(&disk, &back, &keys).unwrap();
    let ledger = open(&back, &keys);
    assert_eq!(count(&ledger), RECORDS);
    // Neither over a ledger that is open, nor over one that is not.
    let busy = restore(&disk, &back, &keys).unwrap_err();
    assert_eq!(busy.reason(), Reason::DefinitionConflict, "{}", busy.detail());
    ledger.close().unwrap();
    let files = back.files();
    let there = restore(&disk, &back, &keys).unwrap_err();
    assert_eq!(there.reason(), Reason::DefinitionConflict, "{}", there.detail());
    assert_eq!(back.files(), files);
}

#[test]
fn an_empty_folder_is_no_ledger() {
    let (keys, empty) = (Keys::none(), SimulatedDisk::new());
    for error in [
        verify(&empty, &keys).unwrap_err(),
        restore(&empty, &SimulatedDisk::new(), &keys).unwrap_err(),
        admin::inspect_disk(Arc::new(empty.clone()), &keys).unwrap_err(),
    ] {
        assert_eq!(error.reason(), Reason::Misconfigured, "{}", error.detail());
        assert!(error.said().contains("no ledger"), "{}", error.detail());
    }
    assert_eq!(empty.files(), []);
}

fn tree(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            found.push(path.display().to_string());
            if path.is_dir() && !path.is_symlink() {
                folders.push(path);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn a_backup_goes_nowhere_near_its_own_ledger() {
    let root = tempfile::tempdir().unwrap();
    let own = root.path().join("data/ledger");
    let link = root.path().join("link");
    let (up, deep) = (root.path().join("up"), root.path().join("data/ledger/wal"));
    let options = Options { wal_file_bytes: ByteSize(64 << 10), ..Options::default() };
    let clock = Arc::new(ManualClock::default());
    let disk = Arc::new(RealDisk::open(&own).unwrap());
    let (ledger, _) = Ledger::open(disk, options, clock).unwrap();
    fill(&ledger, 0..5);
    std::os::unix::fs::symlink(&own, &link).unwrap();
    std::os::unix::fs::symlink(&deep, &up).unwrap();
    let there = tree(root.path());
    for near in [
        own.clone(),
        own.join("."),
        own.join("backups/today"),
        own.join("../ledger"),
        own.join("wal"),
        root.path().join("data"),
        root.path().to_owned(),
        root.path().join("other/../data/ledger/x"),
        link.clone(),
        link.join("x"),
        link.join("x/../y"),
        up.join(".."),
        up.join("../x"),
    ] {
        let refused = ledger.backup(&near).unwrap_err();
        assert_eq!(refused.reason(), Reason::MalformedRequest, "{near:?}: {}", refused.detail());
        assert!(refused.said().contains("own folder"), "{near:?}: {}", refused.detail());
        assert_eq!(tree(root.path()), there, "{near:?}");
    }
    // A folder whose name only begins like it is another one.
    let beside = root.path().join("data/ledger-copy");
    ledger.backup(&beside).unwrap();
    let made = tree(&beside);
    let again = ledger.backup(&beside).unwrap_err();
    assert_eq!(again.reason(), Reason::DefinitionConflict);
    assert!(again.said().contains(&beside.display().to_string()), "{}", again.detail());
    assert!(again.said().contains("backup"), "{}", again.detail());
    assert_eq!(tree(&beside), made);
    ledger.close().unwrap();
    for (from, to) in [(&own, own.clone()), (&own, own.join("x")), (&own, link.join("x"))] {
        let refused = admin::restore(from, &to, &Keys::none(), &mut |_, _| {}).unwrap_err();
        assert!(refused.said().contains("own folder"), "{}", refused.detail());
    }
    let back = root.path().join("back");
    admin::restore(&beside, &back, &Keys::none(), &mut |_, _| {}).unwrap();
    assert_eq!(tree(&beside), made, "a restore leaves what it reads as it was");
}

#[test]
fn a_ledger_of_which_nothing_is_left_is_missed() {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("own");
    let open = || {
        let clock = Arc::new(ManualClock::default());
        let disk = Arc::new(RealDisk::open(&own).unwrap());
        Ledger::open(disk, options(&Keys::none()), clock).unwrap()
    };
    for left in ["lock", "quarantine"] {
        let (ledger, found) = open();
        assert!(left == "quarantine" || found.damage.is_empty(), "{:?}", found.damage);
        ledger.close().unwrap();
        std::fs::create_dir_all(own.join("quarantine")).unwrap();
        std::fs::write(own.join("quarantine/wal-1-4096"), "x").unwrap();
        for name in ["lock", "quarantine", "wal", "checkpoint", "segments"] {
            let path = own.join(name);
            if name != left && path.exists() {
                let _ = std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir_all(&path));
            }
        }
        let (ledger, found) = open();
        assert!(found.damage.iter().any(|told| told.contains("begins empty")), "{left}");
        assert_eq!(ledger.damage_now(), found.damage);
        ledger.close().unwrap();
        let (ledger, found) = open();
        assert!(found.damage.is_empty(), "{:?}", found.damage);
        ledger.close().unwrap();
    }
}
