//! A wall clock that is set forward or back takes no lease away and reorders nothing.

use std::{sync::Arc, time::Duration};

use weft_kernel::{Clock, ManualClock};
use weft_ledger::{
    ConsumerId, Due, Durability, EmbeddedStore, GroupId, GroupOptions, LeaseLimits, LeasedRecord,
    Ledger, LogId, LogOptions, NewRecord, Op, Options, Settle, Store, Transaction, Why,
    disk::SimulatedDisk,
};

use crate::simulation::block;

const DAY_MS: i64 = 86_400_000;

struct Queue {
    ledger: Ledger,
    clock: Arc<ManualClock>,
    log: LogId,
    group: GroupId,
}

fn queue() -> Queue {
    let clock = Arc::new(ManualClock::default());
    // Far enough from the beginning of time to be set back.
    clock.advance(Duration::from_secs(10 * 86_400));
    let disk = Arc::new(SimulatedDisk::new());
    let (ledger, _) = Ledger::open(disk, Options::default(), clock.clone()).unwrap();
    let log = block(&ledger, ledger.create_log("queue", LogOptions::default())).unwrap();
    let group = block(&ledger, ledger.create_group("queue", GroupOptions::owning(log))).unwrap();
    Queue { ledger, clock, log, group }
}

impl Queue {
    fn commit(&self, transaction: Transaction) {
        block(&self.ledger, self.ledger.commit(transaction)).unwrap();
    }

    fn append(&self, text: &'static str) {
        self.commit(Transaction::new(Durability::Fsync).append(self.log, NewRecord::new(text)));
    }

    fn lease(&self) -> Vec<LeasedRecord> {
        let ask =
            LeaseLimits { consumer: ConsumerId::SYSTEM, records: 9, bytes: u64::MAX, lease: None };
        block(&self.ledger, self.ledger.lease_now(self.group, ask).unwrap().wait()).unwrap()
    }

    fn overdue(&self) -> Vec<LeasedRecord> {
        block(&self.ledger, self.ledger.overdue(9)).unwrap()
    }
}

#[test]
fn times_of_a_log_ascend_whatever_the_clock_is_set_to() {
    let queue = queue();
    let mut times = Vec::new();
    for by in [0, -DAY_MS, 2 * DAY_MS, -DAY_MS] {
        queue.clock.set_wall_by(by);
        queue.append("x");
        times.push(queue.ledger.log_stats_now(queue.log).unwrap().last_ms);
    }
    assert!(times.is_sorted(), "{times:?}");
    let positions: Vec<u64> = queue.lease().iter().map(|delivery| delivery.position).collect();
    assert_eq!(positions, [0, 1, 2, 3]);
}

#[test]
fn a_lease_lasts_as_long_as_it_was_given_for() {
    for by in [-DAY_MS, DAY_MS] {
        let queue = queue();
        queue.append("x");
        let leased = queue.lease();
        queue.clock.set_wall_by(by);
        assert!(queue.overdue().is_empty() && queue.lease().is_empty());
        queue.clock.advance(Duration::from_secs(29));
        assert!(queue.overdue().is_empty());
        queue.clock.advance(Duration::from_secs(2));
        let over = queue.overdue();
        assert_eq!(over.len(), 1, "set by {by}");
        assert_ne!(over[0].token, leased[0].token);
    }
}

#[test]
fn a_retry_waits_as_long_as_it_was_told() {
    for by in [-DAY_MS, DAY_MS] {
        let queue = queue();
        queue.append("x");
        let leased = queue.lease();
        let how = Settle::Retry {
            due: Due::After(Duration::from_secs(10)),
            failed: true,
            note: bytes::Bytes::new(),
        };
        let (position, token) = (leased[0].position, leased[0].token);
        let settle = Op::Settle { group: queue.group, position, token, how };
        queue.commit(Transaction::new(Durability::Fsync).with(settle));
        queue.clock.set_wall_by(by);
        queue.overdue();
        assert!(queue.lease().is_empty(), "set by {by}");
        queue.clock.advance(Duration::from_secs(11));
        queue.overdue();
        assert_eq!(queue.lease().len(), 1, "set by {by}");
    }
}

#[test]
fn a_clock_that_is_set_right_again_frees_at_once_what_it_held() {
    for hour in [-3_600_000, 3_600_000] {
        let queue = queue();
        assert!(!queue.ledger.waits_for_wall_now(), "nothing is looked for at rest");
        let now = wall_ms(&queue.clock);
        let expires = NewRecord { expires_ms: now + 60_000, ..NewRecord::new("expires") };
        let due = NewRecord { due_ms: now + 60_000, ..NewRecord::new("due") };
        queue.commit(Transaction::new(Durability::Fsync).append(queue.log, expires));
        queue.commit(Transaction::new(Durability::Fsync).append(queue.log, due));
        assert!(queue.ledger.waits_for_wall_now());
        // Whoever looks while the clock is wrong reckons with it.
        queue.clock.set_wall_by(hour);
        queue.clock.advance(Duration::from_secs(61));
        let early = queue.overdue();
        assert_eq!(early.is_empty(), hour < 0, "set by {hour}");
        queue.clock.set_wall_by(-hour);
        let over: Vec<_> = early.into_iter().chain(queue.overdue()).collect();
        assert_eq!(over.len(), 1, "set by {hour}");
        assert_eq!(over[0].why, Why::Expired);
        assert_eq!(queue.lease().len(), 1, "the other is due");
        assert!(!queue.ledger.waits_for_wall_now(), "and nothing is looked for any more");
    }
}

#[test]
fn a_clock_that_is_set_forward_ends_at_once_what_is_over_by_it() {
    let queue = queue();
    let expires_ms = wall_ms(&queue.clock) + 60_000;
    let record = NewRecord { expires_ms, ..NewRecord::new("expires") };
    queue.commit(Transaction::new(Durability::Fsync).append(queue.log, record));
    assert!(queue.overdue().is_empty());
    queue.clock.set_wall_by(3_600_000);
    assert_eq!(queue.overdue().len(), 1);
}

fn wall_ms(clock: &ManualClock) -> u64 {
    let since = clock.wall().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}
