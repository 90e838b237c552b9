//! The head of the next request: waited for, read within its limits, or refused.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
    time::Duration,
};

use weft_kernel::{Reason, Tick};
use weft_wire::h1::{HeadError, HeadLimits, ParsedRequest, parse_request};

use super::{Settings, incoming::Shared};
use crate::{clock, h1::link::Read, tasks::Reached, timer::TaskTimer};

/// What opens an HTTP/2 connection (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long a connection without a request is still listened to once it drains.
const DRAIN_GRACE: Duration = Duration::from_millis(500);

/// What came instead of, or as, the head of a request.
pub(super) enum Head {
    Request(Box<ParsedRequest>),
    Preface,
    Closed,
    Refused(Reason, String),
}

/// Reads the next head, within its time and size; a connection that waits for one ends when it is to retire.
pub(super) async fn read_head(
    shared: &RefCell<Shared>,
    settings: &Settings,
    timer: &TaskTimer,
    (draining, retires): (&mut Reached, Tick),
    first: bool,
) -> Head {
    let mut limit = {
        let state = shared.borrow();
        let begun = first || !state.link.inbuf.is_empty();
        let now = clock::now();
        if begun {
            now.plus(settings.header_timeout)
        } else {
            now.plus(settings.idle_timeout).min(retires)
        }
    };
    let mut begun = !shared.borrow().link.inbuf.is_empty();
    // A head is parsed again only when a line has been completed since, so that one that trickles in
    // does not cost its square.
    let mut parse = begun;
    let mut watch_drain = !begun;
    poll_fn(|cx| {
        let mut state = shared.borrow_mut();
        loop {
            if parse {
                let link = &mut state.link;
                match inspect(&link.inbuf, settings.head) {
                    Ok(None) => {}
                    Ok(Some(Found::Preface)) if first => return Poll::Ready(Head::Preface),
                    Ok(Some(Found::Preface)) => return Poll::Ready(refused(HeadError::Version)),
                    Ok(Some(Found::Request(parsed))) => {
                        let _ = link.inbuf.split_to(parsed.used);
                        return Poll::Ready(Head::Request(parsed));
                    }
                    Err(error) => return Poll::Ready(refused(error)),
                }
                parse = false;
            }
            if watch_drain && Pin::new(&mut *draining).poll(cx).is_ready() && !begun {
                // A request may be on its way: closing at once would leave it without an answer.
                watch_drain = false;
                limit = limit.min(clock::now().plus(DRAIN_GRACE));
            }
            let before = state.link.inbuf.len();
            let mut failed = None;
            let read = state.link.poll_read_head(cx, |seen| match inspect(seen, settings.head) {
                Ok(Some(Found::Request(parsed))) => Some((parsed.used, Found::Request(parsed))),
                Ok(Some(Found::Preface)) => Some((0, Found::Preface)),
                Ok(None) => None,
                Err(error) => {
                    failed = Some(error);
                    None
                }
            });
            if let Some(error) = failed {
                return Poll::Ready(refused(error));
            }
            match read {
                Poll::Ready(Ok(Read::Found(Found::Request(parsed)))) => {
                    return Poll::Ready(Head::Request(parsed));
                }
                Poll::Ready(Ok(Read::Found(Found::Preface))) if first => {
                    return Poll::Ready(Head::Preface);
                }
                Poll::Ready(Ok(Read::Found(Found::Preface))) => {
                    return Poll::Ready(refused(HeadError::Version));
                }
                Poll::Ready(Ok(Read::More)) => {
                    if !begun {
                        begun = true;
                        watch_drain = false;
                        limit = limit.min(clock::now().plus(settings.header_timeout));
                        if !first {
                            limit = clock::now().plus(settings.header_timeout);
                        }
                    }
                    let fresh = &state.link.inbuf[before..];
                    let full = state.link.inbuf.len() >= settings.head.bytes_max;
                    parse = before != 0 && (full || memchr::memchr(b'\n', fresh).is_some());
                }
                Poll::Ready(Ok(Read::End) | Err(_)) => return Poll::Ready(Head::Closed),
                Poll::Pending => break,
            }
        }
        if !begun {
            state.link.rest();
        }
        drop(state);
        if timer.poll(cx, limit).is_ready() {
            return Poll::Ready(if begun {
                Head::Refused(
                    Reason::HeadersTimeout,
                    format!("the request head did not arrive within {:?}", settings.header_timeout),
                )
            } else {
                Head::Closed
            });
        }
        Poll::Pending
    })
    .await
}

enum Found {
    Request(Box<ParsedRequest>),
    Preface,
}

fn inspect(bytes: &[u8], limits: HeadLimits) -> Result<Option<Found>, HeadError> {
    if bytes.starts_with(b"PRI ") {
        let seen = bytes.len().min(PREFACE.len());
        if bytes[..seen] == PREFACE[..seen] {
            return Ok((seen == PREFACE.len()).then_some(Found::Preface));
        }
    }
    Ok(parse_request(bytes, limits)?.map(|parsed| Found::Request(Box::new(parsed))))
}

fn refused(error: HeadError) -> Head {
    let reason = match error {
        HeadError::TooLarge(_) | HeadError::TooMany(_) => Reason::HeadersTooLarge,
        HeadError::Coding | HeadError::Method => Reason::NotSupported,
        HeadError::Version => Reason::VersionNotSupported,
        HeadError::Expectation => Reason::ExpectationFailed,
        HeadError::Malformed(_) => Reason::MalformedRequest,
    };
    Head::Refused(reason, error.to_string())
}
