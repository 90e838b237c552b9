//! The access log on a real file.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use weft_kernel::{Reason, Rng};
use weft_telemetry::{
    access::{Destination, Entry, Format, Include, Log, Options},
    metrics::{AccessMeter, Shards},
};

fn to(path: &Path) -> Options {
    Options { destination: Destination::File(path.to_owned()), ..Options::default() }
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < limit, "not in time: {what}");
        std::thread::yield_now();
    }
}

#[test]
fn every_entry_of_every_worker_is_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let meter = AccessMeter::default();
    let (log, guard) = Log::open(to(&path), Shards::new(4), meter.clone()).unwrap();
    std::thread::scope(|scope| {
        for worker in 0..4usize {
            let log = log.clone();
            scope.spawn(move || {
                for turn in 0..2_000u64 {
                    let status = 200 + worker as u16;
                    let entry =
                        Entry { status, bytes_in: turn, path: b"/x\n\"", ..Entry::default() };
                    log.push(worker, &entry);
                }
            });
        }
    });
    guard.close();
    let text = fs::read_to_string(&path).unwrap();
    let mut seen = [0u64; 4];
    for line in text.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(value["path"], "/x\n\"");
        seen[(value["status"].as_u64().unwrap() - 200) as usize] += 1;
    }
    assert_eq!(seen.iter().sum::<u64>(), meter.lines.get());
    assert_eq!(meter.lines.get() + meter.full.get(), 8_000);
    // Two megabytes hold all of it, so that nothing may be missing here.
    assert_eq!(seen, [2_000; 4]);
}

#[test]
fn an_idle_log_is_written_without_being_closed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let options = Options { format: Format::Text, ..to(&path) };
    let (log, _guard) = Log::open(options, Shards::new(1), AccessMeter::default()).unwrap();
    for turn in 1..=3 {
        log.push(0, &Entry { method: b"GET", path: b"/", ..Entry::default() });
        until("a line", || fs::read_to_string(&path).unwrap().lines().count() == turn);
    }
    assert!(fs::read_to_string(&path).unwrap().contains("\"GET / -\" 0 0 \"-\" \"-\""));
}

#[test]
fn a_rotated_file_is_left_and_a_new_one_begun() {
    let folder = tempfile::tempdir().unwrap();
    let (path, old) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
    let meter = AccessMeter::default();
    let (log, guard) = Log::open(to(&path), Shards::new(1), meter.clone()).unwrap();
    log.push(0, &Entry::default());
    until("the first line", || meter.lines.get() == 1);
    fs::rename(&path, &old).unwrap();
    log.push(0, &Entry::default());
    until("the second line", || meter.lines.get() == 2);
    log.reopen();
    until("the new file", || path.exists());
    log.push(0, &Entry::default());
    guard.close();
    assert_eq!(fs::read_to_string(&old).unwrap().lines().count(), 2);
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 1);
}

#[test]
fn a_queue_that_is_too_small_drops_and_counts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let meter = AccessMeter::default();
    let options = Options { queue_bytes: 4_096, ..to(&path) };
    let (log, guard) = Log::open(options, Shards::new(1), meter.clone()).unwrap();
    let entry = Entry { path: &[b'x'; 1_000], ..Entry::default() };
    for _ in 0..1_000 {
        log.push(0, &entry);
    }
    guard.close();
    assert!(meter.full.get() > 0);
    assert_eq!(meter.lines.get() + meter.full.get(), 1_000);
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count() as u64, meter.lines.get());
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_counted_and_stops_nobody() {
    let meter = AccessMeter::default();
    let (log, guard) =
        Log::open(to(Path::new("/dev/full")), Shards::new(1), meter.clone()).unwrap();
    log.push(0, &Entry::default());
    until("the loss", || meter.failed.get() == 1);
    log.push(0, &Entry::default());
    guard.close();
    assert_eq!((meter.lines.get(), meter.failed.get()), (0, 2));
}

#[test]
fn a_file_that_cannot_be_opened_says_which() {
    let options = to(Path::new("/nonexistent/access.log"));
    let error = Log::open(options, Shards::new(1), AccessMeter::default()).unwrap_err();
    assert_eq!(error.to_string(), "access log: cannot open /nonexistent/access.log");
}

#[test]
fn what_is_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let mut rng = Rng::seeded(2);
    let failed = Some(Reason::CallerGone);
    for (include, sample, ok, error, reason) in [
        (Include::All, 1.0, 1_000, 1_000, 1_000),
        (Include::All, 0.0, 0, 1_000, 1_000),
        (Include::Errors, 1.0, 0, 1_000, 1_000),
        (Include::None, 1.0, 0, 0, 0),
    ] {
        let options = Options { include, sample, ..to(&folder.path().join("x")) };
        let (log, _guard) = Log::open(options, Shards::new(1), AccessMeter::default()).unwrap();
        let mut count =
            |status, reason| (0..1_000).filter(|_| log.wants(status, reason, &mut rng)).count();
        assert_eq!(
            (count(200, None), count(404, None), count(0, failed)),
            (ok, error, reason),
            "{include:?}"
        );
    }
    let options = Options { include: Include::All, sample: 0.25, ..to(&folder.path().join("x")) };
    let (log, _guard) = Log::open(options, Shards::new(1), AccessMeter::default()).unwrap();
    let quarter = (0..10_000).filter(|_| log.wants(200, None, &mut rng)).count();
    assert!((2_300..2_700).contains(&quarter), "{quarter}");
}
