//! Bodies that do something on their way: remember themselves for another try, watch for a gRPC status,
//! leave a copy.

use std::{
    cell::RefCell,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use weft_kernel::{Deadline, Error, Reason, Result, Side};
use weft_net::{
    body::{Body, Frame, Source},
    timer::TaskTimer,
};
use weft_wire::{Fields, Known, Length, grpc, h1};

use crate::upload::Upload;

/// A request body that can be sent more than once, as long as what was sent fits a limit.
#[derive(Clone)]
pub(crate) struct Replay(Rc<RefCell<Kept>>);

struct Kept {
    body: Body,
    length: Length,
    data: Vec<Bytes>,
    trailers: Option<Fields>,
    bytes: usize,
    bytes_max: usize,
    ended: bool,
    failed: Option<Reason>,
    /// More was sent than is kept: nobody can begin again.
    spilt: bool,
    /// How many pieces have come from the client.
    taken: usize,
}

impl Replay {
    pub(crate) fn new(body: Body, bytes_max: usize) -> Self {
        let length = body.length();
        Self(Rc::new(RefCell::new(Kept {
            body,
            length,
            data: Vec::new(),
            trailers: None,
            bytes: 0,
            bytes_max,
            ended: false,
            failed: None,
            spilt: false,
            taken: 0,
        })))
    }

    /// Whether it can still be sent from its beginning.
    pub(crate) fn is_whole(&self) -> bool {
        let kept = self.0.borrow();
        !kept.spilt && kept.failed.is_none()
    }

    /// Whether all of it is here, so that several may send it at once.
    pub(crate) fn is_complete(&self) -> bool {
        let kept = self.0.borrow();
        kept.length.is_none() || (kept.ended && !kept.spilt)
    }

    /// The body from its beginning. Of several readers, each sees all of it or an error.
    pub(crate) fn body(&self) -> Body {
        if self.0.borrow().length.is_none() {
            return Body::Empty;
        }
        Body::Source(Box::new(Reader { kept: self.0.clone(), next: 0, told: false }))
    }
}

struct Reader {
    kept: Rc<RefCell<Kept>>,
    next: usize,
    told: bool,
}

impl Source for Reader {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        let mut kept = self.kept.borrow_mut();
        if !kept.spilt
            && let Some(bytes) = kept.data.get(self.next)
        {
            self.next += 1;
            return Poll::Ready(Some(Ok(Frame::Data(bytes.clone()))));
        }
        if kept.spilt && self.next != kept.taken {
            return Poll::Ready(Some(Err(Error::new(
                Reason::Internal,
                "the request body can no longer be sent from its beginning",
            ))));
        }
        if kept.ended {
            let trailers = if self.told { None } else { kept.trailers.clone() };
            self.told = true;
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::Trailers(trailers))));
        }
        if let Some(reason) = kept.failed {
            return Poll::Ready(Some(Err(Error::new(reason, "the request body broke off"))));
        }
        match std::task::ready!(kept.body.poll_frame(cx)) {
            None => {
                kept.ended = true;
                Poll::Ready(None)
            }
            Some(Ok(Frame::Data(bytes))) => {
                self.next += 1;
                kept.taken += 1;
                kept.bytes += bytes.len();
                if kept.bytes > kept.bytes_max {
                    kept.spilt = true;
                    kept.data = Vec::new();
                } else {
                    kept.data.push(bytes.clone());
                }
                // Who knows the length does not ask for the end.
                kept.ended = kept.length == Length::Exact(kept.bytes as u64);
                Poll::Ready(Some(Ok(Frame::Data(bytes))))
            }
            Some(Ok(Frame::Trailers(trailers))) => {
                kept.ended = true;
                kept.trailers = Some(trailers.clone());
                self.told = true;
                Poll::Ready(Some(Ok(Frame::Trailers(trailers))))
            }
            Some(Err(error)) => {
                kept.failed = Some(error.reason());
                Poll::Ready(Some(Err(error)))
            }
        }
    }

    fn read_ahead(&mut self, cx: &mut Context<'_>) {
        self.kept.borrow_mut().body.read_ahead(cx);
    }

    fn poll_begun(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut kept = self.kept.borrow_mut();
        let over = kept.spilt || kept.ended || kept.failed.is_some();
        if over || self.next < kept.data.len() { Poll::Ready(()) } else { kept.body.poll_begun(cx) }
    }

    fn length(&self) -> Length {
        self.kept.borrow().length
    }
}

/// A gRPC response body, of which the status is noted as it passes.
///
/// What ends it before its time by the client's doing, or by the client's own deadline, is told as the
/// status of the call, which a reset could not carry.
pub(crate) struct Watched {
    body: Body,
    upload: Rc<Upload>,
}

impl Watched {
    /// Watches a body that must end by a deadline.
    pub(crate) fn by(body: Body, deadline: Deadline, upload: &Rc<Upload>) -> Body {
        let body = if deadline == Deadline::NONE || body.is_empty() {
            body
        } else {
            Body::Source(Box::new(Timed::new(body, deadline)))
        };
        Body::Source(Box::new(Self { body, upload: upload.clone() }))
    }

    fn end(&mut self, error: &Error) -> Frame {
        self.body = Body::Empty;
        self.upload.cut(error.reason());
        let number = grpc::Status::of_code(error.code()).number();
        self.upload.note_status(Some(number));
        let mut fields = Fields::new();
        let mut text = Vec::new();
        h1::push_decimal(&mut text, u64::from(number));
        fields.add(Known::GrpcStatus, &text);
        text.clear();
        grpc::encode_message(error.said(), &mut text);
        fields.add(Known::GrpcMessage, &text);
        Frame::Trailers(fields)
    }
}

/// The `grpc-status` among fields.
pub(crate) fn grpc_status(fields: &Fields) -> Option<u8> {
    fields.get_str(Known::GrpcStatus)?.parse().ok()
}

impl Source for Watched {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        let frame = std::task::ready!(self.body.poll_frame(cx));
        Poll::Ready(match frame {
            Some(Ok(Frame::Trailers(trailers))) => {
                self.upload.note_status(grpc_status(&trailers));
                Some(Ok(Frame::Trailers(trailers)))
            }
            Some(Err(error))
                if error.side() == Side::Caller || error.reason() == Reason::RequestTimeout =>
            {
                Some(Ok(self.end(&error)))
            }
            other => other,
        })
    }

    fn read_ahead(&mut self, cx: &mut Context<'_>) {
        self.body.read_ahead(cx);
    }

    fn poll_begun(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.body.poll_begun(cx)
    }

    fn length(&self) -> Length {
        self.body.length()
    }
}

/// A request body that leaves a copy, if it is not too long, once it has passed.
pub(crate) struct Copied<F: FnOnce(Bytes)> {
    body: Body,
    /// As it was said to be: a body may tell how much is left.
    length: Length,
    copy: Vec<u8>,
    bytes_max: usize,
    then: Option<F>,
}

impl<F: FnOnce(Bytes) + 'static> Copied<F> {
    /// The body; `then` gets the copy.
    pub(crate) fn wrap(body: Body, bytes_max: usize, then: F) -> Body {
        match body.length() {
            Length::Exact(length) if length > bytes_max as u64 => body,
            length => {
                let (copy, then) = (Vec::new(), Some(then));
                Body::Source(Box::new(Self { body, length, copy, bytes_max, then }))
            }
        }
    }

    fn end(&mut self) {
        if let Some(then) = self.then.take() {
            then(std::mem::take(&mut self.copy).into());
        }
    }
}

impl<F: FnOnce(Bytes) + 'static> Source for Copied<F> {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        let frame = std::task::ready!(self.body.poll_frame(cx));
        match &frame {
            Some(Ok(Frame::Data(bytes))) if self.then.is_some() => {
                if self.copy.len() + bytes.len() > self.bytes_max {
                    self.then = None;
                    self.copy = Vec::new();
                } else {
                    self.copy.extend_from_slice(bytes);
                    // Who knows the length does not ask for the end.
                    if self.length == Length::Exact(self.copy.len() as u64) {
                        self.end();
                    }
                }
            }
            Some(Ok(Frame::Trailers(_))) | None => self.end(),
            Some(Err(_)) => self.then = None,
            _ => {}
        }
        Poll::Ready(frame)
    }

    fn read_ahead(&mut self, cx: &mut Context<'_>) {
        self.body.read_ahead(cx);
    }

    fn poll_begun(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.body.poll_begun(cx)
    }

    fn length(&self) -> Length {
        self.body.length()
    }
}

/// A body that must end by a deadline.
pub(crate) struct Timed {
    body: Body,
    deadline: Deadline,
    timer: TaskTimer,
}

impl Timed {
    pub(crate) fn new(body: Body, deadline: Deadline) -> Self {
        Self { body, deadline, timer: TaskTimer::default() }
    }
}

impl Source for Timed {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        if let Poll::Ready(frame) = self.body.poll_frame(cx) {
            return Poll::Ready(frame);
        }
        self.timer.poll(cx, self.deadline.tick()).map(|()| {
            self.body = Body::Empty;
            Some(Err(Error::new(Reason::RequestTimeout, "the deadline passed within the response")))
        })
    }

    fn read_ahead(&mut self, cx: &mut Context<'_>) {
        self.body.read_ahead(cx);
    }

    fn poll_begun(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.body.poll_begun(cx)
    }

    fn length(&self) -> Length {
        self.body.length()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
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

    /// A body of unknown length in pieces.
    struct Pieces(Vec<&'static [u8]>);

    impl Source for Pieces {
        fn poll_frame(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
            if self.0.is_empty() {
                return Poll::Ready(None);
            }
            Poll::Ready(Some(Ok(Frame::Data(Bytes::from_static(self.0.remove(0))))))
        }

        fn length(&self) -> Length {
            Length::Unknown
        }
    }

    fn pieces(pieces: &[&'static [u8]]) -> Body {
        Body::Source(Box::new(Pieces(pieces.to_vec())))
    }

    #[test]
    fn a_body_is_sent_again_until_it_is_too_long() {
        let replay = Replay::new(pieces(&[b"ab", b"cd"]), 10);
        let mut first = replay.body();
        block(async { first.frame().await.unwrap().unwrap() });
        assert_eq!(block(read(replay.body())).unwrap(), b"abcd");
        assert_eq!(block(read(first)).unwrap(), b"cd");
        assert!(replay.is_whole());

        let long = Replay::new(pieces(&[b"ab", b"cd"]), 3);
        assert_eq!(block(read(long.body())).unwrap(), b"abcd");
        assert!(!long.is_whole());
        assert!(block(read(long.body())).is_err());
    }

    /// A body that tells how much of it is left.
    struct Shrinking(&'static [u8]);

    impl Source for Shrinking {
        fn poll_frame(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
            let Some((first, rest)) = self.0.split_first() else { return Poll::Ready(None) };
            self.0 = rest;
            Poll::Ready(Some(Ok(Frame::Data(Bytes::copy_from_slice(&[*first])))))
        }

        fn length(&self) -> Length {
            Length::Exact(self.0.len() as u64)
        }
    }

    #[test]
    fn a_copy_is_left_of_a_body_whose_end_nobody_asks_for() {
        let copy = Rc::new(RefCell::new(None));
        let keep = copy.clone();
        let body = Body::Source(Box::new(Shrinking(b"abcde")));
        let mut body = Copied::wrap(body, 9, move |bytes| *keep.borrow_mut() = Some(bytes));
        for _ in 0..5 {
            block(body.frame()).unwrap().unwrap();
        }
        assert_eq!(copy.borrow_mut().take().as_deref(), Some(&b"abcde"[..]));
    }

    #[test]
    fn a_copy_is_left_only_of_a_whole_short_body() {
        let copy = Rc::new(RefCell::new(None));
        let keep = |copy: &Rc<RefCell<Option<Bytes>>>| {
            let copy = copy.clone();
            move |bytes| *copy.borrow_mut() = Some(bytes)
        };
        block(read(Copied::wrap(pieces(&[b"ab", b"c"]), 3, keep(&copy)))).unwrap();
        assert_eq!(copy.borrow_mut().take().as_deref(), Some(&b"abc"[..]));
        block(read(Copied::wrap(pieces(&[b"ab", b"cd"]), 3, keep(&copy)))).unwrap();
        assert!(copy.borrow().is_none());
    }
}
