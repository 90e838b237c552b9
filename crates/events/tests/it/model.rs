//! Many writers at once, crashes, and what is left held against what was told.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
};

use weft_events::{AppendBatch, Direction, Expected, PageLimits, Rejected};
use weft_kernel::Rng;
use weft_ledger::disk::SimulatedDisk;

use crate::streams::{Opened, block, event, name};

/// What was told of each event that was acknowledged: stream, version, position.
type Told = Arc<Mutex<HashMap<String, (String, u64, u64)>>>;

/// When the machine stops, counted in what was acknowledged.
struct Crash {
    disk: SimulatedDisk,
    left: AtomicI64,
}

impl Crash {
    fn acknowledged(&self) {
        if self.left.fetch_sub(1, Relaxed) == 1 {
            self.disk.halt();
        }
    }
}

/// Each reads a stream's version and appends at it, as often as it is refused; what it is told is the truth. It ends
/// with the machine.
async fn write(opened: &Opened, told: &Told, crash: &Crash, (writer, seed): (u64, u64)) {
    let mut rng = Rng::seeded(seed ^ (writer << 32));
    for round in 0..60 {
        let stream = name(&format!("s-{}", rng.below(5)));
        let id = format!("{seed}-{writer}-{round}");
        loop {
            let Ok(info) = opened.events.stream(&stream).await else { return };
            let expected = match info {
                None => Expected::None,
                Some(info) => Expected::Version(info.next - 1),
            };
            match opened
                .events
                .append(AppendBatch::of(stream.clone(), expected, vec![event(&id)]))
                .await
            {
                Ok(appended) => {
                    let written = &appended.written[0];
                    assert_eq!(written.versions.start, info.map_or(0, |info| info.next));
                    let place =
                        (stream.to_string(), written.versions.start, appended.position.unwrap());
                    assert!(told.lock().unwrap().insert(id, place).is_none());
                    crash.acknowledged();
                    break;
                }
                Err(Rejected::Conflict(conflict)) => {
                    let first = conflict.events.first().map(|event| event.version);
                    assert_eq!(first, Some(info.map_or(0, |info| info.next)), "{conflict:?}");
                }
                Err(Rejected::Matched(matched)) => panic!("{matched:?}"),
                Err(Rejected::Failed(_)) if crash.disk.halted() => return,
                Err(Rejected::Failed(error)) => panic!("{error}"),
            }
        }
    }
}

#[test]
fn writers_at_once_get_each_version_once_and_crashes_lose_nothing_that_was_told() {
    for seed in 0..6 {
        let (disk, told, mut rng) = (SimulatedDisk::new(), Told::default(), Rng::seeded(seed));
        for life in 0..4 {
            let left = AtomicI64::new(if life == 3 { i64::MAX } else { 1 + rng.below(900) as i64 });
            let crash = Crash { disk: disk.clone(), left };
            block(async {
                let opened = Opened::on(&disk).await;
                let writers =
                    (0..16).map(|writer| write(&opened, &told, &crash, (writer, seed * 10 + life)));
                futures_util::future::join_all(writers).await;
                disk.halt();
            });
            disk.restart(&mut rng);
        }
        block(async {
            let opened = Opened::on(&disk).await;
            let limits = PageLimits { events: 10_000, bytes: 1 << 30, ..PageLimits::default() };
            let all = opened.events.read_all(0, Direction::Forward, limits).await.unwrap().events;
            let mut next: HashMap<String, u64> = HashMap::new();
            for event in &all {
                let version = next.entry(event.stream.to_string()).or_default();
                assert_eq!(event.version, *version, "versions have no gaps");
                *version += 1;
            }
            for (stream, next) in &next {
                assert_eq!(opened.events.stream(&name(stream)).await.unwrap().unwrap().next, *next);
            }
            let mut told = told.lock().unwrap();
            assert!(all.len() >= told.len() && told.len() > 960);
            for event in all {
                // What was not told may be there or not.
                let id = event.message.event().unwrap().id().to_owned();
                if let Some(place) = told.remove(&id) {
                    assert_eq!(place, (event.stream.to_string(), event.version, event.position));
                }
            }
            assert!(told.is_empty(), "lost: {told:?}");
        });
    }
}
