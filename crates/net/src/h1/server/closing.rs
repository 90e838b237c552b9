//! The end of an exchange: what is left of a request is read away, or the connection closed with care.

use std::{cell::RefCell, future::poll_fn, task::Poll, time::Duration};

use super::incoming::{Incoming, Shared};
use crate::{
    body::{Body, Frame},
    clock,
    timer::TaskTimer,
};

/// Most bytes of an unread request body that are read away to keep a connection.
const DRAIN_BYTES_MAX: u64 = 256 * 1024;
/// Longest time that a closing connection is still read from.
const LINGER: Duration = Duration::from_secs(2);

/// Whether another request can follow on what is left of this one's body, as far as that is known before
/// the response: a client that cannot send one is to be told (RFC 9112 section 9.6).
pub(super) fn may_follow(state: &Shared, response: &Body) -> bool {
    match &state.incoming {
        Incoming::Done => true,
        Incoming::Broken(_) => false,
        // A client that was never told to continue, and has not begun, will not send the body.
        _ if state.owes_continue && state.link.inbuf.is_empty() => false,
        // As long as the response comes from a service, that may read on.
        Incoming::Length(left) if matches!(response, Body::Empty | Body::Full(_)) => {
            *left <= DRAIN_BYTES_MAX
        }
        _ => true,
    }
}

/// Reads away what is left of a request body, if that is little; says whether the next request follows.
pub(super) async fn drain_body(shared: &RefCell<Shared>, timer: &TaskTimer) -> bool {
    {
        let state = shared.borrow();
        match &state.incoming {
            Incoming::Done => return true,
            // A client that was never told to continue, and has not begun, will not send the body.
            _ if state.owes_continue && state.link.inbuf.is_empty() => return false,
            Incoming::Length(left) if *left > DRAIN_BYTES_MAX => return false,
            Incoming::Broken(_) => return false,
            _ => {}
        }
    }
    let limit = clock::now().plus(LINGER);
    let mut drained = 0;
    let all = poll_fn(|cx| {
        loop {
            match std::task::ready!(shared.borrow_mut().poll_body(cx)) {
                Some(Ok(Frame::Data(bytes))) => drained += bytes.len() as u64,
                Some(Ok(Frame::Trailers(_))) => {}
                Some(Err(_)) => return Poll::Ready(false),
                None => return Poll::Ready(true),
            }
            if drained > DRAIN_BYTES_MAX {
                return Poll::Ready(false);
            }
        }
    });
    timer.within(limit, all).await.unwrap_or(false)
}

/// Closes the way out and reads on for a moment, since closing with unread input would reset the
/// connection and could take the last response with it.
pub(super) async fn linger(shared: &RefCell<Shared>, timer: &TaskTimer) {
    let limit = clock::now().plus(LINGER);
    let mut discarded = 0;
    let close = poll_fn(|cx| {
        let mut state = shared.borrow_mut();
        if std::task::ready!(state.link.poll_flush(cx)).is_err()
            || std::task::ready!(state.link.poll_shutdown(cx)).is_err()
        {
            return Poll::Ready(());
        }
        loop {
            match std::task::ready!(state.link.poll_discard(cx)) {
                Ok(read @ 1..) if discarded < DRAIN_BYTES_MAX => discarded += read as u64,
                _ => return Poll::Ready(()),
            }
        }
    });
    let _ = timer.within(limit, close).await;
}
