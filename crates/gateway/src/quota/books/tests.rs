//! Accounts that come and go, in memory and on a disk.

use jiff::tz::TimeZone;
use weft_kernel::{ByteSize, SystemClock};
use weft_ledger::{Ledger, Options, disk::SimulatedDisk};

use super::{
    super::{
        book::{Asked, OTHERS, Said},
        period::{Calendar, Every},
    },
    *,
};
use crate::{cost::Cost, fixture::name};

const DAY: u64 = 86_400_000;
const NOW: u64 = 20_000 * DAY + 5_000;

fn quota(limit: u64, keys_max: usize) -> Arc<Quota> {
    Arc::new(Quota {
        name: name("plan"),
        limit,
        calendar: Calendar { every: Every::Day, zone: TimeZone::UTC },
        by: Vec::new(),
        cost: Cost::Units(1),
        charge: None,
        shadow: false,
        tells: true,
        thresholds: Vec::new(),
        publish_to: None,
        keys_max,
        opens: false,
    })
}

fn book(quota: &Arc<Quota>) -> Book {
    let book = Book::new(quota.name.clone());
    book.set_terms(Some(Arc::clone(quota)));
    book
}

/// Asks, and lets the slice be put down that is waited for.
fn take(book: &Book, key: &str, quota: &Quota, now: u64) -> Said {
    for _ in 0..2 {
        match book.take(key, quota, 1, now) {
            Asked::Known { said, .. } => return said,
            Asked::Waits => book.put_down(&book.slices(now)),
        }
    }
    panic!("{key} has no slice");
}

#[test]
fn keys_of_a_period_that_is_over_give_way_to_new_ones() {
    let quota = quota(3, 100);
    let book = book(&quota);
    for key in 0..150 {
        assert_eq!(take(&book, &format!("today-{key}"), &quota, NOW).with_others, key >= 100);
        if key >= 102 {
            assert!(!take(&book, OTHERS, &quota, NOW).granted);
        }
    }
    let midnight = NOW - 5_000 + DAY;
    for key in 0..150 {
        let said = take(&book, &format!("tomorrow-{key}"), &quota, midnight);
        assert_eq!(said.with_others, key >= 100, "{key}");
    }
    // What is not pressed for room is remembered for a clock that is set back.
    let book = self::book(&quota);
    while take(&book, "a", &quota, NOW).granted {}
    book.trim(NOW + 2 * DAY);
    assert!(!take(&book, "a", &quota, NOW).granted);
    assert_eq!(book.keys_after(None, 10, NOW + 2 * DAY).len(), 0, "nothing is told of it");
    book.trim(NOW + 5 * DAY);
    assert_eq!(book.keys(), 0);
}

#[test]
fn what_was_counted_with_the_others_is_given_back_to_them() {
    let quota = quota(10, 1);
    let book = book(&quota);
    take(&book, "first", &quota, NOW);
    for _ in 0..100 {
        let said = take(&book, "late", &quota, NOW);
        assert!(said.granted && said.with_others);
        book.give_back(said.counted_under("late"), 1, said.period);
    }
    assert_eq!(book.account(OTHERS).unwrap().used, 0);
}

#[test]
fn a_start_finds_every_account_of_now_however_many_are_over() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (disk, quota, books) = (SimulatedDisk::new(), quota(3, 1_500), Books::default());
        let options = Options { wal_file_bytes: ByteSize(4 << 20), ..Options::default() };
        let (ledger, _) = Ledger::open(Arc::new(disk), options, Arc::new(SystemClock)).unwrap();
        ledger.start().unwrap();
        books.open(Arc::new(ledger.namespace("quotas").unwrap())).await.unwrap();
        let today = now_ms();
        let account = |now: u64| {
            let mut account = Account::default();
            account.turn(&quota.terms(), now);
            account.used = 3;
            account.kept()
        };
        // Those of yesterday stand before those of today.
        for (now, prefix) in [(today - DAY, "a"), (today, "b")] {
            let rows: Vec<_> =
                (0..1_500).map(|at| (format!("{prefix}{at}").into(), account(now))).collect();
            for rows in rows.chunks(BATCH) {
                books.write(&quota, rows).await.unwrap();
            }
        }
        let rows = books.rows(&quota, today).await.unwrap();
        assert_eq!(rows.len(), 1_500);
        assert!(rows.iter().all(|(key, _)| key.starts_with('b')));
        // To a clock that was set back, none of them is over.
        let rows = books.rows(&quota, today - DAY).await.unwrap();
        assert_eq!(rows.len(), 3_000);
        ledger.close().unwrap();
    });
}
