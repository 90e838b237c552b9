//! A response on its way to the client.

use std::{cell::RefCell, future::poll_fn, io, task::Poll};

use bytes::Bytes;
use weft_kernel::{Reason, Tick};
use weft_wire::{
    Known, Length, Method, ResponseHead, Version,
    h1::{Framing, encode_response},
};

use super::{
    Settings,
    incoming::{Shared, check_waiting},
    watch::{self, Client},
};
use crate::{
    body::{Body, Frame},
    clock,
    held::Held,
    message::Response,
    timer::TaskTimer,
};

/// What becomes of a connection after a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// It goes on.
    Stays,
    /// It is closed with care, so that what was written is read.
    Closes,
    /// It is dropped at once.
    Cut,
}

pub(super) struct Writer<'a> {
    pub(super) shared: &'a RefCell<Shared>,
    pub(super) settings: &'a Settings,
    pub(super) timer: &'a TaskTimer,
    pub(super) method: &'a Method,
}

impl Writer<'_> {
    /// Writes a response; says what becomes of the connection.
    pub(super) async fn write(&self, response: Response, stays: bool, version: Version) -> Then {
        let Response { mut head, mut body, done, .. } = response;
        let bodiless = !ResponseHead::may_have_body(head.status, self.method);
        let length = body.length();
        let framing = match length {
            _ if bodiless => Framing::None,
            Length::Exact(length) => Framing::Length(length),
            Length::Unknown if version == Version::Http10 => Framing::Close,
            Length::Unknown => Framing::Chunked,
        };
        let stays = stays && framing != Framing::Close;
        {
            let mut state = self.shared.borrow_mut();
            state.responding = true;
            if head.status == 204 || head.status < 200 {
                head.fields.remove(Known::ContentLength);
            }
            let connection = match (stays, version) {
                _ if head.status == 101 => None,
                (false, _) => Some("close"),
                (true, Version::Http10) => Some("keep-alive"),
                (true, _) => None,
            };
            encode_response(&head, framing, connection, state.link.queue());
        }
        let mut sent = 0;
        let outcome = if bodiless {
            self.flush().await.map_err(|_error: io::Error| Reason::CallerGone)
        } else {
            self.write_body(&mut body, framing, &mut sent).await
        };
        let mut then = if stays && outcome.is_ok() { Then::Stays } else { Then::Closes };
        if framing == Framing::Close && outcome.is_err() {
            // The end of the connection would be read as that of the response.
            self.shared.borrow().link.io.reset_on_drop();
            then = Then::Cut;
        }
        // Before it is told of, so that what it holds is free when that is heard.
        drop(body);
        if let Some(done) = done {
            done.end(sent, outcome);
        }
        then
    }

    async fn flush(&self) -> io::Result<()> {
        let mut limit = None;
        poll_fn(|cx| {
            if let Poll::Ready(done) = self.shared.borrow_mut().link.poll_flush(cx) {
                return Poll::Ready(done);
            }
            let idle = self.settings.stream_idle_timeout;
            let limit = *limit.get_or_insert_with(|| clock::now().plus(idle));
            self.timer.poll(cx, limit).map(|()| Err(io::ErrorKind::TimedOut.into()))
        })
        .await
    }

    async fn write_body(
        &self,
        body: &mut Body,
        framing: Framing,
        sent: &mut u64,
    ) -> Result<(), Reason> {
        let mut left = match framing {
            Framing::Length(length) => length,
            _ => u64::MAX,
        };
        let mut over = left == 0;
        // Counted from when it first has to wait.
        let mut limit = Tick::NEVER;
        let mut progress = u64::MAX;
        let mut asked = Tick::NEVER;
        let mut held = Held::default();
        poll_fn(|cx| {
            loop {
                let full = self.shared.borrow().link.is_full();
                if full || over {
                    let flushed = self.shared.borrow_mut().link.poll_flush(cx);
                    match flushed {
                        Poll::Ready(Ok(())) if over => return Poll::Ready(Ok(())),
                        Poll::Ready(Ok(())) => held.ends(),
                        Poll::Ready(Err(_)) => return Poll::Ready(Err(Reason::CallerGone)),
                        Poll::Pending => {
                            if full {
                                held.begins();
                            }
                            body.read_ahead(cx);
                            break;
                        }
                    }
                }
                // The body may read from this very connection: it must not be borrowed here.
                match body.poll_frame(cx) {
                    Poll::Ready(Some(Ok(Frame::Data(bytes)))) => {
                        let bytes = take_at_most(bytes, left);
                        left -= bytes.len() as u64;
                        *sent += bytes.len() as u64;
                        self.shared.borrow_mut().link.queue_data(framing, bytes);
                        if left == 0 {
                            // Lets the body see its own end, so that its connection can be kept.
                            let _ = body.poll_frame(cx);
                            over = true;
                        }
                    }
                    Poll::Ready(Some(Ok(Frame::Trailers(fields)))) => {
                        if framing == Framing::Chunked {
                            let mut state = self.shared.borrow_mut();
                            let out = state.link.queue();
                            out.extend_from_slice(b"0\r\n");
                            fields.encode(out);
                            out.extend_from_slice(b"\r\n");
                            over = true;
                        }
                    }
                    Poll::Ready(Some(Err(error))) => {
                        // What came so far is given to the client; the missing end tells the rest.
                        let _ = self.shared.borrow_mut().link.poll_flush(cx);
                        return Poll::Ready(Err(held.blame(error.reason())));
                    }
                    Poll::Ready(None) => {
                        if framing == Framing::Chunked && !over {
                            let mut state = self.shared.borrow_mut();
                            state.link.queue().extend_from_slice(b"0\r\n\r\n");
                        } else if left != 0 && matches!(framing, Framing::Length(_)) {
                            return Poll::Ready(Err(held.blame(Reason::UpstreamIncomplete)));
                        }
                        over = true;
                    }
                    Poll::Pending => {
                        let mut state = self.shared.borrow_mut();
                        if matches!(state.link.poll_flush(cx), Poll::Ready(Err(_))) {
                            return Poll::Ready(Err(Reason::CallerGone));
                        }
                        break;
                    }
                }
            }
            let mut state = self.shared.borrow_mut();
            let now_at = state.link.sent + *sent;
            if now_at != progress {
                progress = now_at;
                limit = clock::now().plus(self.settings.stream_idle_timeout);
            }
            // Of a response that is there in whole, its writing tells whether anybody takes it.
            if !over
                && (watch::look(&mut state, cx) == Client::Gone
                    || watch::poll_unread(&state, self.timer, &mut asked, cx).is_ready())
            {
                return Poll::Ready(Err(Reason::CallerGone));
            }
            check_waiting(&mut state, self.settings, self.timer, cx);
            if self.timer.poll(cx, limit).is_ready() {
                let stuck = !state.link.is_flushed();
                return Poll::Ready(Err(if stuck {
                    Reason::CallerGone
                } else {
                    Reason::StreamIdle
                }));
            }
            Poll::Pending
        })
        .await
    }
}

fn take_at_most(mut bytes: Bytes, left: u64) -> Bytes {
    if bytes.len() as u64 > left {
        bytes.truncate(usize::try_from(left).unwrap_or(usize::MAX));
    }
    bytes
}
