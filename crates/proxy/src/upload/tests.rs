//! What is told of a body on its way, and whose time runs.

use super::*;
use weft_net::clock;

fn block<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(work)
}

async fn read(mut body: Body) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Frame::Data(bytes) = frame? {
            all.extend_from_slice(&bytes);
        }
    }
    Ok(all)
}

/// A body of unknown length in pieces; an empty one is a moment in which nothing is there.
struct Pieces(Vec<&'static [u8]>);

impl Source for Pieces {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        if self.0.is_empty() {
            return Poll::Ready(None);
        }
        let piece = self.0.remove(0);
        if piece.is_empty() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Some(Ok(Frame::Data(piece.into()))))
    }

    fn length(&self) -> Length {
        Length::Unknown
    }
}

fn pieces(pieces: &[&'static [u8]]) -> Body {
    Body::Source(Box::new(Pieces(pieces.to_vec())))
}

/// A response that says nothing more.
struct Silent;

impl Source for Silent {
    fn poll_frame(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        Poll::Pending
    }

    fn poll_begun(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    fn length(&self) -> Length {
        Length::Unknown
    }
}

/// A body that is held to so many bytes.
fn limited(body: Body, bytes_max: u64, upload: &Rc<Upload>) -> Result<Body> {
    let bounds = Bounds { until: Deadline::NONE, span: Duration::ZERO };
    let body = Limited::wrap(body, bounds, upload, None);
    upload.limit(body.length(), bytes_max).map(|()| body)
}

#[test]
fn a_limit_is_kept_by_declaration_and_by_count() {
    let upload = Rc::<Upload>::default();
    assert!(limited(Body::full("12345"), 4, &upload).is_err());
    let body = limited(pieces(&[b"123", b"45"]), 4, &upload).unwrap();
    let error = block(read(body)).unwrap_err();
    assert_eq!(error.reason(), Reason::BodyTooLarge);
    assert_eq!(upload.stage(), Stage::Broken);
    let upload = Rc::<Upload>::default();
    let body = limited(pieces(&[b"123", b"4"]), 4, &upload).unwrap();
    assert_eq!(block(read(body)).unwrap(), b"1234");
    assert_eq!(upload.bytes(), 4);
    assert_eq!(upload.stage(), Stage::Whole);
}

#[test]
fn a_body_that_moves_too_slowly_ends_at_its_own_limit() {
    let upload = Rc::<Upload>::default();
    let until = Deadline::after(clock::now(), Duration::from_millis(5));
    let bounds = Bounds { until, span: Duration::from_millis(5) };
    let body = Limited::wrap(Body::Source(Box::new(Silent)), bounds, &upload, None);
    assert_eq!(block(read(body)).unwrap_err().reason(), Reason::BodyTimeout);
    assert_eq!(upload.blame(Reason::UpstreamIncomplete), Reason::BodyTimeout);
}

#[test]
fn the_services_time_begins_when_it_has_the_request() {
    let upload = Rc::<Upload>::default();
    let began = clock::now();
    let second = Duration::from_secs(1);
    let times = Times {
        began,
        asked: Deadline::NONE,
        request: Some(second),
        per_try: None,
        upload: upload.clone(),
        queued: Queued::default(),
    };
    let mut body = limited(pieces(&[b"a", b"", b"b"]), 9, &upload).unwrap();
    let mut pace = Pace::new(began);
    let later = began.plus(Duration::from_secs(100));
    assert_eq!(times.limit(began, &mut pace).at, began.plus(second), "it takes nothing");
    assert_eq!(times.deadline(later), Deadline::after(later, second));
    let mut cx = Context::from_waker(std::task::Waker::noop());
    assert!(body.poll_frame(&mut cx).is_ready());
    assert!(times.limit(began, &mut pace).at > began.plus(second), "it has taken something");
    assert!(body.poll_frame(&mut cx).is_pending());
    assert_eq!(times.limit(began, &mut pace).at, Tick::NEVER, "the client is waited for");
    assert_eq!(upload.blame(Reason::StreamIdle), Reason::BodyTimeout);
    block(read(body)).unwrap();
    let whole = upload.whole(began).unwrap();
    assert!(whole > began);
    let limit = times.limit(began, &mut pace);
    assert_eq!((limit.at, limit.of), (whole.plus(second), LimitOf::Request));
    assert_eq!(times.deadline(later), Deadline::at(whole.plus(second)));
}

#[test]
fn a_limit_tells_of_the_service_when_half_of_it_was_the_services() {
    let began = Tick::ZERO.plus(Duration::from_secs(1));
    let at = |millis| began.plus(Duration::from_millis(millis));
    let tells = |admitted: u64, pooled: Option<(u64, Option<u64>)>| {
        let times = Times {
            began,
            asked: Deadline::NONE,
            request: Some(Duration::from_millis(100)),
            per_try: None,
            upload: Rc::default(),
            queued: Queued::default(),
        };
        times.queued.admit(at(admitted));
        let place = Place::default();
        if let Some((from, until)) = pooled {
            place.begin(at(from));
            if let Some(until) = until {
                place.end(&times.queued, at(until));
                assert_eq!(times.queued.pooled(), Duration::from_millis(until - from));
            }
        }
        times.is_telling(times.limit(at(admitted), &mut Pace::new(began)), &place)
    };
    assert!(tells(0, None));
    assert!(tells(50, None));
    assert!(!tells(51, None), "the queue of the bulkhead took more");
    assert!(!tells(100, None));
    assert!(tells(10, Some((10, Some(50)))));
    assert!(!tells(10, Some((10, Some(51)))), "so did both queues together");
    assert!(!tells(0, Some((80, None))), "it waits still");
}

#[test]
fn a_body_that_is_held_back_costs_the_service_nothing() {
    let upload = Rc::<Upload>::default();
    let began = clock::now();
    let times = Times {
        began,
        asked: Deadline::NONE,
        request: Some(Duration::from_secs(1)),
        per_try: None,
        upload: upload.clone(),
        queued: Queued::default(),
    };
    let mut cx = Context::from_waker(std::task::Waker::noop());
    let mut body = limited(Body::Source(Box::new(Silent)), 9, &upload).unwrap();
    assert!(body.poll_begun(&mut cx).is_pending());
    assert_eq!(times.limit(began, &mut Pace::new(began)).at, Tick::NEVER);
    let mut body = limited(pieces(&[b"a"]), 9, &upload).unwrap();
    assert!(body.poll_begun(&mut cx).is_ready(), "it is here: nothing is held back");
    assert_eq!(upload.stage(), Stage::Moving);
}

#[test]
fn a_callers_own_deadline_counts_from_the_beginning() {
    let upload = Rc::<Upload>::default();
    let began = clock::now();
    let asked = Deadline::after(began, Duration::from_millis(10));
    let per_try = Some(Duration::from_secs(3));
    let queued = Queued::default();
    let times = Times { began, asked, request: None, per_try, upload: upload.clone(), queued };
    let _body = limited(pieces(&[b""]), 9, &upload).unwrap();
    let limit = times.limit(began, &mut Pace::new(began));
    assert_eq!((limit.at, limit.of), (asked.tick(), LimitOf::Caller));
}

#[test]
fn a_response_ends_when_the_client_breaks_its_request_off() {
    let upload = Rc::<Upload>::default();
    let body = limited(pieces(&[b"12345"]), 4, &upload).unwrap();
    let mut response = Answering::wrap(Body::Source(Box::new(Silent)), &upload);
    let mut cx = Context::from_waker(std::task::Waker::noop());
    assert!(response.poll_frame(&mut cx).is_pending());
    block(read(body)).unwrap_err();
    match response.poll_frame(&mut cx) {
        Poll::Ready(Some(Err(error))) => assert_eq!(error.reason(), Reason::BodyTooLarge),
        other => panic!("{other:?}"),
    }
}
