//! Both disks keep the same promises, and the simulated one breaks just what was not promised.

use weft_kernel::Rng;

use super::{Disk, RealDisk, SimulatedDisk, read_up_to, simulated::Faults};

fn promises(disk: &dyn Disk) {
    let held = disk.lock().unwrap();
    assert_eq!(disk.lock().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    drop(held);
    drop(disk.lock().unwrap());
    assert_eq!(disk.list("wal").unwrap(), Vec::<String>::new());
    assert!(disk.open("wal/a", false).is_err());
    let file = disk.open("wal/a", true).unwrap();
    file.allocate_zeroed(3000).unwrap();
    file.write_at(2990, b"0123456789").unwrap();
    file.sync_data().unwrap();
    disk.sync_dir("wal").unwrap();
    assert_eq!(file.len().unwrap(), 3000);
    assert_eq!(read_up_to(&*file, 2989, 100).unwrap(), b"\x000123456789");
    disk.rename("wal/a", "wal/b").unwrap();
    assert_eq!(disk.list("wal").unwrap(), ["b"]);
    file.set_len(1).unwrap();
    assert_eq!(disk.open("wal/b", false).unwrap().len().unwrap(), 1);
    disk.remove("wal/b").unwrap();
    assert_eq!(file.len().unwrap(), 1, "an open file outlives its name");
    assert!(disk.remove("wal/b").is_err());
    assert!(disk.free_bytes().unwrap() > 0);
}

#[test]
fn a_folder_of_the_machine_keeps_its_promises() {
    let folder = tempfile::tempdir().unwrap();
    promises(&RealDisk::open(folder.path()).unwrap());
}

#[test]
fn a_simulated_disk_keeps_its_promises() {
    promises(&SimulatedDisk::new());
}

#[test]
fn what_was_synced_survives_every_crash_and_what_was_not_may_be_torn() {
    let (mut lost, mut kept, mut torn, mut nameless) = (0, 0, 0, 0);
    for seed in 0..200 {
        let mut rng = Rng::seeded(seed);
        let disk = SimulatedDisk::new();
        let file = disk.open("a", true).unwrap();
        file.write_at(0, &[1; 4096]).unwrap();
        file.sync_data().unwrap();
        disk.sync_dir("").unwrap();
        file.write_at(1024, &[2; 2048]).unwrap();
        disk.open("b", true).unwrap();
        disk.halt();
        assert!(file.sync_data().is_err());
        disk.restart(&mut rng);
        assert!(file.len().is_err(), "a handle of the former life is dead");
        let bytes = disk.contents("a").unwrap();
        assert_eq!((&bytes[..1024], &bytes[3072..]), (&[1; 1024][..], &[1; 1024][..]));
        match bytes[1024..3072].iter().filter(|&&byte| byte == 2).count() {
            0 => lost += 1,
            2048 => kept += 1,
            some => {
                assert_eq!(some % 512, 0);
                torn += 1;
            }
        }
        nameless += u32::from(disk.contents("b").is_none());
    }
    assert!(lost > 10 && kept > 10 && torn > 10 && nameless > 10 && nameless < 190);
}

#[test]
fn faults_come_when_they_are_told_to() {
    let disk = SimulatedDisk::new();
    let file = disk.open("a", true).unwrap();
    disk.set_faults(Faults { fail_sync_from: Some(2), bytes_max: Some(10), ..Faults::default() });
    file.write_at(0, &[1; 10]).unwrap();
    file.sync_data().unwrap();
    assert!(file.sync_data().is_err());
    let full = file.write_at(5, &[1; 6]).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    assert_eq!(disk.free_bytes().unwrap(), 0);
    disk.set_faults(Faults { halt_at_sync: Some(disk.syncs() + 1), ..Faults::default() });
    assert!(file.sync_data().is_err() && disk.halted());
    assert!(file.len().is_err());
    disk.reopen();
    assert!(disk.flip("a", 0) && !disk.flip("a", 80));
    assert_eq!(disk.contents("a").unwrap()[..2], [0, 1]);
}
