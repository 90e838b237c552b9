//! Tests of bodies that are kept while they pass.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use weft_kernel::{Error, Reason};
use weft_ledger::disk::SimulatedDisk;

use super::*;
use crate::idempotency::{
    Sum,
    store::tests::{Fixture, on_worker, wanted},
};

fn settings() -> Arc<Idempotency> {
    Arc::new(Idempotency {
        methods: vec!["POST".into()],
        required: false,
        keep: Duration::from_secs(60),
        body_max: 1000,
        answer_max: 10,
        wait: None,
        run_again: false,
        keep_failures: false,
        service_deduplicates: false,
        most: Sum { entries: 100, bytes: 10_000 },
    })
}

/// A body that comes in pieces; without an end it breaks off, or stays away.
struct Pieces {
    frames: VecDeque<Result<Frame>>,
    length: Length,
    stays_open: bool,
}

impl Source for Pieces {
    fn poll_frame(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        match self.frames.pop_front() {
            None if self.stays_open => Poll::Pending,
            frame => Poll::Ready(frame),
        }
    }

    fn length(&self) -> Length {
        self.length
    }
}

fn pieces(all: &[&'static str], length: Length) -> Pieces {
    let frames = all.iter().map(|text| Ok(Frame::Data(Bytes::from_static(text.as_bytes()))));
    Pieces { frames: frames.collect(), length, stays_open: false }
}

async fn answered(fixture: &Fixture, key: &str, status: u16, body: Pieces) -> Body {
    let claim = fixture.claimed(key).await;
    let tasks = fixture.tasks.clone();
    let recording = Recording { claim, settings: settings(), tasks, place: None };
    let body = Body::Source(Box::new(body));
    Box::new(recording).answered(&ResponseHead::new(status), body).await
}

#[test]
fn statuses_say_whether_the_request_may_be_tried_again() {
    for (status, outcome) in [
        (200, Outcome::Final),
        (303, Outcome::Final),
        (400, Outcome::Final),
        (402, Outcome::Final),
        (409, Outcome::Final),
        (429, Outcome::Failed),
        (500, Outcome::Failed),
        (504, Outcome::Failed),
    ] {
        assert_eq!(of_http(status), outcome, "{status}");
    }
    for (status, outcome) in [
        (0, Outcome::Final),
        (3, Outcome::Final),
        (6, Outcome::Final),
        (4, Outcome::Unknown),
        (1, Outcome::Unknown),
        (13, Outcome::Failed),
        (14, Outcome::Failed),
    ] {
        assert_eq!(of_grpc(status), outcome, "{status}");
    }
}

#[test]
fn the_last_piece_passes_once_the_answer_is_kept() {
    on_worker(async {
        let fixture = Fixture::on(SimulatedDisk::new()).await;
        for (key, length) in [("exact", Length::Exact(5)), ("unknown", Length::Unknown)] {
            let mut body = answered(&fixture, key, 200, pieces(&["abc", "de"], length)).await;
            assert_eq!(body.length(), length);
            let first = body.frame().await.unwrap().unwrap();
            assert!(matches!(first, Frame::Data(bytes) if &*bytes == b"abc"));
            let last = body.frame().await.unwrap().unwrap();
            assert!(matches!(last, Frame::Data(bytes) if &*bytes == b"de"));
            // Who knows the length does not ask for the end.
            if length == Length::Unknown {
                assert!(body.frame().await.is_none());
            }
            assert_eq!(fixture.told(wanted(key, 1)).await, "200 b\"abcde\"");
        }
    });
}

#[test]
fn an_answer_is_kept_whether_its_client_reads_or_not() {
    on_worker(async {
        let fixture = Fixture::on(SimulatedDisk::new()).await;
        let body = answered(&fixture, "k", 200, pieces(&["abc", "de"], Length::Unknown)).await;
        fixture.tasks.idle().await;
        assert_eq!(fixture.told(wanted("k", 1)).await, "200 b\"abcde\"");
        assert_eq!(&*body.collect(100).await.unwrap(), b"abcde");
        // No more of what is too long is read than its client takes.
        let mut long = pieces(&["abcdefgh", "ijkl", "mnop"], Length::Unknown);
        long.stays_open = true;
        let mut body = answered(&fixture, "long", 200, long).await;
        fixture.tasks.idle().await;
        assert_eq!(fixture.told(wanted("long", 1)).await, "200 not kept");
        for text in ["abcdefgh", "ijkl", "mnop"] {
            let frame = body.frame().await.unwrap().unwrap();
            assert!(matches!(frame, Frame::Data(bytes) if &*bytes == text.as_bytes()), "{text}");
        }
    });
}

#[test]
fn a_task_that_is_cut_breaks_the_body_off() {
    on_worker(async {
        let fixture = Fixture::on(SimulatedDisk::new()).await;
        let mut open = pieces(&["abc"], Length::Unknown);
        open.stays_open = true;
        let mut body = answered(&fixture, "k", 200, open).await;
        body.frame().await.unwrap().unwrap();
        fixture.tasks.stop().close();
        let error = body.frame().await.unwrap().err().map(|error| error.reason());
        assert_eq!(error, Some(Reason::Draining));
    });
}

#[test]
fn what_is_too_long_passes_whole_and_is_known_to_be_over() {
    on_worker(async {
        let fixture = Fixture::on(SimulatedDisk::new()).await;
        let mut body = pieces(&["abcdefgh", "ijkl"], Length::Unknown);
        body.stays_open = true;
        let mut body = answered(&fixture, "k", 200, body).await;
        for _ in 0..2 {
            body.frame().await.unwrap().unwrap();
        }
        assert_eq!(fixture.told(wanted("k", 1)).await, "200 not kept");
        let body = answered(&fixture, "exact", 200, pieces(&["x"], Length::Exact(11))).await;
        assert_eq!(fixture.told(wanted("exact", 1)).await, "200 not kept");
        drop(body);
    });
}

#[test]
fn a_body_that_breaks_off_leaves_it_unknown() {
    on_worker(async {
        let fixture = Fixture::on(SimulatedDisk::new()).await;
        let mut broken = pieces(&["abc"], Length::Unknown);
        broken.frames.push_back(Err(Error::new(Reason::UpstreamIncomplete, "cut")));
        let body = answered(&fixture, "k", 200, broken).await;
        assert!(body.collect(100).await.is_err());
        assert_eq!(fixture.told(wanted("k", 1)).await, "unknown");
    });
}

#[test]
fn the_rest_is_read_for_who_comes_back() {
    on_worker(async {
        let fixture = Fixture::on(SimulatedDisk::new()).await;
        let mut body = answered(&fixture, "k", 200, pieces(&["abc", "de"], Length::Unknown)).await;
        body.frame().await.unwrap().unwrap();
        drop(body);
        fixture.tasks.idle().await;
        assert_eq!(fixture.told(wanted("k", 1)).await, "200 b\"abcde\"");
        // What has failed is free before its body has passed.
        let body = answered(&fixture, "f", 503, pieces(&["away"], Length::Unknown)).await;
        assert_eq!(fixture.told(wanted("f", 1)).await, "claimed");
        drop(body);
    });
}
