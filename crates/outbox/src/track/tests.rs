//! Streams that are cut anywhere, and what is published of them in the end.

use super::*;

/// A transaction: its number, and where its changes stand.
type Story = (u32, &'static [u64]);

const STORY: &[Story] = &[(1, &[11, 12]), (2, &[21, 22, 22, 22, 23]), (3, &[]), (4, &[41])];

fn begin(xid: u32) -> Begin {
    Begin { commit: Lsn(u64::from(xid) * 10 + 5), at: i64::from(xid), xid }
}

fn commit(xid: u32) -> Commit {
    let commit = begin(xid).commit;
    Commit { commit, end: Lsn(commit.0 + 2) }
}

fn fresh() -> Kept {
    Kept {
        system: "1".into(),
        timeline: 1,
        database: "shop".into(),
        slot: "weft".into(),
        making: false,
        start: Lsn(10),
        done: None,
        part: None,
        told: None,
    }
}

/// Reads the log once, up to some message of the stream, and keeps what is known after every `every` changes.
/// What was published and not kept is gone, as in a crash.
fn read(
    kept: &mut Kept,
    published: &mut Vec<(u32, u64, usize)>,
    upto: usize,
    every: usize,
) -> bool {
    let mut track = Track::new(kept, kept.done.is_some());
    let (mut waits, mut messages) = (Vec::new(), 0);
    let base = kept.base();
    for &(xid, changes) in STORY.iter().filter(|(xid, _)| begin(*xid).commit >= base) {
        messages += 1;
        if messages > upto {
            return false;
        }
        track.begin(begin(xid)).unwrap();
        for (index, at) in changes.iter().enumerate() {
            messages += 1;
            if messages > upto {
                return false;
            }
            if track.change(Lsn(*at)) {
                waits.push((xid, *at, index));
                if waits.len() == every {
                    published.append(&mut waits);
                    kept.part = track.so_far();
                }
            }
        }
        messages += 1;
        if messages > upto {
            return false;
        }
        if let Some(mark) = track.commit(commit(xid)).unwrap() {
            published.append(&mut waits);
            (kept.done, kept.part) = (Some(mark), None);
        }
    }
    true
}

#[test]
fn a_stream_that_is_cut_anywhere_is_published_once_and_in_order() {
    let whole: Vec<_> = STORY
        .iter()
        .flat_map(|(xid, changes)| changes.iter().enumerate().map(|(i, at)| (*xid, *at, i)))
        .collect();
    for every in 1..6 {
        for first in 0..20 {
            for second in 0..20 {
                let (mut kept, mut published) = (fresh(), Vec::new());
                read(&mut kept, &mut published, first, every);
                read(&mut kept, &mut published, second, every);
                assert!(read(&mut kept, &mut published, usize::MAX, every));
                assert_eq!(published, whole, "{every} {first} {second}");
            }
        }
    }
}

#[test]
fn another_history_is_told() {
    let mark = Mark { commit: Lsn(15), end: Lsn(17), xid: 1, at: 1 };
    let kept = Kept { done: Some(mark), ..fresh() };
    let mut track = Track::new(&kept, true);
    assert!(!track.is_proven());
    assert_eq!(track.sent(Lsn(16)), Ok(()));
    assert_eq!(track.sent(Lsn(17)).unwrap_err().word(), "other_history");
    assert_eq!(track.begin(begin(2)).unwrap_err().word(), "other_history");
    // The same place and number, at another time.
    let late = Begin { at: 2, ..begin(1) };
    assert_eq!(track.begin(late).unwrap_err().word(), "other_history");
    track.begin(begin(1)).unwrap();
    assert_eq!(track.sent(Lsn(99)), Ok(()));
    assert_eq!(track.commit(commit(1)), Ok(None));
    assert!(track.is_proven());
    assert_eq!(track.sent(Lsn(99)), Ok(()));
}

#[test]
fn a_transaction_of_which_more_follows_must_come() {
    let part = Part { commit: Lsn(25), xid: 2, change: Lsn(22), nth: 2 };
    let kept = Kept { part: Some(part), ..fresh() };
    let mut track = Track::new(&kept, false);
    // One before it of which nothing was to be published.
    track.begin(begin(1)).unwrap();
    assert_eq!(track.commit(commit(1)), Ok(None));
    assert_eq!(track.sent(Lsn(25)), Ok(()));
    assert_eq!(track.sent(Lsn(26)).unwrap_err().word(), "other_history");
    assert_eq!(track.begin(begin(3)).unwrap_err().word(), "other_history");
    track.begin(begin(2)).unwrap();
    let taken: Vec<bool> = [21, 22, 22, 22, 23].map(|at| track.change(Lsn(at))).into();
    assert_eq!(taken, [false, false, false, true, true]);
    let end = track.commit(commit(2)).unwrap().map(|mark| mark.end);
    assert_eq!(end, Some(Lsn(27)));
}

#[test]
fn an_end_without_its_beginning_is_no_order() {
    let mut track = Track::new(&fresh(), false);
    assert_eq!(track.commit(commit(1)), Err(Unordered));
    assert!(!track.change(Lsn(1)));
    track.begin(begin(1)).unwrap();
    assert_eq!(track.commit(commit(2)), Err(Unordered));
}
