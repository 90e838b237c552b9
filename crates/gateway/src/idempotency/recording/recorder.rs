//! The task that reads an answer at the pace of the service, and the body that its client is given of it.
//!
//! What is kept of an answer does not wait for a client that reads slowly, or not at all: it is read, up to
//! what is kept, into a queue, and the key is free of the first request as soon as the service is done. What
//! is longer than is kept passes at the client's pace from there on. The last piece is queued once the outcome
//! is kept, so that who has the whole answer can ask for it again.

use std::{
    cell::RefCell,
    collections::VecDeque,
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use weft_kernel::{Error, Reason, Result, Tick};
use weft_net::{
    body::{Body, Frame, Source},
    clock,
    timer::TaskTimer,
};
use weft_wire::{Fields, Length};

use super::Recording;
use crate::idempotency::places::Place;

/// Time for which the rest of an answer is read that nobody waits for.
const REST_MAX: Duration = Duration::from_secs(60);

/// What the task has for the client.
struct Queue {
    frames: VecDeque<Frame>,
    /// How it ended, behind the frames.
    end: Option<Result<()>>,
    /// What is passed on as it comes, behind the frames.
    rest: Option<Body>,
    /// Where the frames are counted.
    place: Option<Place>,
    is_left: bool,
    client: Option<Waker>,
    task: Option<Waker>,
}

impl Queue {
    fn wake(&mut self) {
        if let Some(client) = self.client.take() {
            client.wake();
        }
    }
}

/// The body of an answer that is recorded: begins the task.
pub(super) fn record(mut recording: Recording, status: u16, fields: Fields, body: Body) -> Body {
    let mut place = recording.place.take();
    if let Some(place) = &mut place {
        // The request itself has been sent.
        place.let_go();
    }
    let queue = Rc::new(RefCell::new(Queue {
        frames: VecDeque::new(),
        end: None,
        rest: None,
        place,
        is_left: false,
        client: None,
        task: None,
    }));
    let length = body.length();
    let tasks = recording.tasks.clone();
    let recorder = Recorder {
        queue: Rc::clone(&queue),
        recording: Some(recording),
        status,
        fields,
        body,
        length,
        passed: 0,
        copy: Vec::new(),
        copied: 0,
    };
    tasks.spawn_part(recorder.run());
    Body::Source(Box::new(Recorded { queue, length }))
}

struct Recorder {
    queue: Rc<RefCell<Queue>>,
    /// Until what came of the request has been said.
    recording: Option<Recording>,
    status: u16,
    fields: Fields,
    body: Body,
    /// As it was said to be: a body may tell how much is left.
    length: Length,
    passed: u64,
    copy: Vec<Bytes>,
    copied: usize,
}

impl Recorder {
    async fn run(mut self) {
        let timer = TaskTimer::default();
        let mut until = Tick::NEVER;
        loop {
            let frame = poll_fn(|cx| {
                let is_left = {
                    let mut queue = self.queue.borrow_mut();
                    queue.task = Some(cx.waker().clone());
                    queue.is_left
                };
                if is_left && until == Tick::NEVER {
                    until = clock::now().plus(REST_MAX);
                }
                if let Poll::Ready(frame) = self.body.poll_frame(cx) {
                    return Poll::Ready(Some(frame));
                }
                timer.poll(cx, until).map(|()| None)
            })
            .await;
            let Some(frame) = frame else { return self.leave().await };
            match frame {
                Some(Ok(Frame::Data(bytes))) => {
                    self.passed += bytes.len() as u64;
                    let Some(piece) = self.keep(&bytes) else {
                        self.settle(None, false).await;
                        return self.hand_over(bytes);
                    };
                    // Who knows the length does not ask for the end.
                    if self.length == Length::Exact(self.passed) {
                        self.settle(None, true).await;
                    }
                    self.push(Frame::Data(piece));
                }
                Some(Ok(Frame::Trailers(trailers))) => {
                    self.settle(Some(trailers.clone()), true).await;
                    self.push(Frame::Trailers(trailers));
                    return self.end(Ok(()));
                }
                None => {
                    self.settle(None, true).await;
                    return self.end(Ok(()));
                }
                Some(Err(error)) => {
                    self.leave().await;
                    return self.end(Err(error));
                }
            }
        }
    }

    /// A piece as it is kept, if as much is kept. It is one of its own: what was read may be a small part of a
    /// large buffer.
    fn keep(&mut self, bytes: &Bytes) -> Option<Bytes> {
        let Some(recording) = &self.recording else { return Some(bytes.clone()) };
        self.copied += bytes.len();
        let mut queue = self.queue.borrow_mut();
        let fits = self.copied <= recording.settings.answer_max
            && queue.place.as_mut().is_none_or(|place| place.keep(bytes.len()).is_ok());
        fits.then(|| {
            let piece = Bytes::copy_from_slice(bytes);
            self.copy.push(piece.clone());
            piece
        })
    }

    /// Says what came of it.
    async fn settle(&mut self, trailers: Option<Fields>, is_whole: bool) {
        let Some(recording) = self.recording.take() else { return };
        let (fields, copy) = (std::mem::take(&mut self.fields), std::mem::take(&mut self.copy));
        let body = is_whole.then(|| copy.concat());
        recording.settle(self.status, fields, body, trailers).await;
    }

    /// It broke off: nobody knows what came of it.
    async fn leave(&mut self) {
        if let Some(recording) = self.recording.take() {
            recording.claim.leave().await;
        }
    }

    fn push(&self, frame: Frame) {
        let mut queue = self.queue.borrow_mut();
        if !queue.is_left {
            queue.frames.push_back(frame);
            queue.wake();
        }
    }

    /// Has the client itself read what is longer than is kept.
    fn hand_over(&mut self, bytes: Bytes) {
        self.push(Frame::Data(bytes));
        let body = std::mem::take(&mut self.body);
        let mut queue = self.queue.borrow_mut();
        if !queue.is_left {
            queue.rest = Some(body);
            queue.wake();
        }
    }

    fn end(&self, how: Result<()>) {
        let mut queue = self.queue.borrow_mut();
        queue.end = Some(how);
        queue.wake();
    }
}

/// The task is over; who still waits for it has been cut with it.
impl Drop for Recorder {
    fn drop(&mut self) {
        let mut queue = self.queue.borrow_mut();
        if queue.end.is_none() && queue.rest.is_none() {
            let say = "the node ends before the answer was whole";
            queue.end = Some(Err(Error::new(Reason::Draining, say)));
            queue.wake();
        }
    }
}

/// The body that the client is given.
struct Recorded {
    queue: Rc<RefCell<Queue>>,
    length: Length,
}

impl Source for Recorded {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        let mut queue = self.queue.borrow_mut();
        if let Some(frame) = queue.frames.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        if let Some(rest) = &mut queue.rest {
            let frame = ready!(rest.poll_frame(cx));
            // Nothing is kept for it any more.
            queue.place = None;
            return Poll::Ready(frame);
        }
        match &mut queue.end {
            Some(end) => {
                let end = std::mem::replace(end, Ok(()));
                queue.place = None;
                Poll::Ready(end.err().map(Err))
            }
            None => {
                queue.client = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn read_ahead(&mut self, cx: &mut Context<'_>) {
        if let Some(rest) = &mut self.queue.borrow_mut().rest {
            rest.read_ahead(cx);
        }
    }

    fn length(&self) -> Length {
        self.length
    }
}

/// The client has left: the answer is read on for when it asks again, within a bound of time.
impl Drop for Recorded {
    fn drop(&mut self) {
        let mut queue = self.queue.borrow_mut();
        queue.is_left = true;
        queue.frames.clear();
        let rest = queue.rest.take();
        if let Some(task) = queue.task.take() {
            task.wake();
        }
        drop(queue);
        drop(rest);
    }
}
