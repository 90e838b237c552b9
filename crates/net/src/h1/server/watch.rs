//! The client while it is worked for or answered, when nothing that it sends is read by anybody else.
//!
//! A client that ends its direction has not left: it may still read (RFC 9112 section 9.6). What it asked
//! for before its end is answered. An end that comes once the head of the response is out is taken for
//! leaving as soon as nothing more is to be written, since whoever closes both directions looks the same;
//! what is written meanwhile is answered by a reset if nobody is there.

use std::{
    io,
    task::{Context, Poll},
    time::Duration,
};

use weft_kernel::{Reason, Tick};

use super::incoming::{Incoming, Shared};
use crate::{clock, h1::link::Read, timer::TaskTimer};

/// Most bytes of further requests that are read ahead while one is answered.
const AHEAD_MAX: usize = 64 * 1024;
/// How long a response stands still before a client that has ended its direction is taken for gone, and
/// how often a client that cannot be read from is asked after.
const STILL: Duration = Duration::from_millis(500);

/// Whether the client has ended its direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It has not.
    Open,
    /// Before it was told anything: it waits for its answer.
    Asking,
    /// Within the response.
    Answered,
}

/// What is known of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
    /// It is there, as far as is known.
    There,
    /// Its connection is broken: nothing that is written reaches it.
    Gone,
    /// It ended its direction within its request, so that there is none; it may still read.
    Short,
}

/// Reads what the client sends ahead, and says whether it has gone.
pub(super) fn look(state: &mut Shared, cx: &mut Context<'_>) -> Client {
    let within = !matches!(state.incoming, Incoming::Done);
    if within {
        // Whoever reads the body sees its client go; told of the end, this task goes on from there.
        if !state.watcher.as_ref().is_some_and(|watcher| watcher.will_wake(cx.waker())) {
            state.watcher = Some(cx.waker().clone());
        }
        if state.touched || state.responding || matches!(state.incoming, Incoming::Broken(_)) {
            return Client::There;
        }
    }
    while state.end == End::Open && state.link.inbuf.len() < AHEAD_MAX {
        let read = state.link.poll_read_head::<()>(cx, |_| None);
        if within && read.is_ready() {
            state.begun();
        }
        match read {
            Poll::Ready(Ok(Read::More | Read::Found(()))) => {}
            Poll::Ready(Ok(Read::End)) => state.ended(),
            // TLS that ends without a word is an end all the same.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                state.ended();
            }
            Poll::Ready(Err(_)) => return Client::Gone,
            Poll::Pending => break,
        }
    }
    if within && state.end != End::Open && !state.is_whole() {
        Client::Short
    } else {
        Client::There
    }
}

/// Whether the client of a request that is not read on has reset its connection: that is asked after now
/// and then, from `still` on, since nothing tells of it.
pub(super) fn poll_unread(
    state: &Shared,
    timer: &TaskTimer,
    still: &mut Tick,
    cx: &mut Context<'_>,
) -> Poll<()> {
    let full = || state.link.inbuf.len() >= AHEAD_MAX;
    let unread = match state.incoming {
        Incoming::Done => full(),
        Incoming::Broken(_) => false,
        // Nobody waits for more of the body.
        _ => state.waiting.is_none() && (state.touched || full()),
    };
    if !unread {
        return Poll::Pending;
    }
    if *still == Tick::NEVER {
        *still = clock::now();
    }
    while timer.poll(cx, still.plus(STILL)).is_ready() {
        if state.link.io.is_broken() {
            return Poll::Ready(());
        }
        *still = clock::now();
    }
    Poll::Pending
}

/// Why a response ends that has had nothing to write since `still`.
pub(super) fn poll_still(
    state: &Shared,
    timer: &TaskTimer,
    still: &mut Tick,
    cx: &mut Context<'_>,
) -> Poll<Reason> {
    let unread = match state.incoming {
        Incoming::Done => state.link.inbuf.len() >= AHEAD_MAX,
        // Nobody waits for more of the body.
        _ => state.waiting.is_none(),
    };
    if state.end == End::Open && !unread {
        return Poll::Pending;
    }
    while timer.poll(cx, still.plus(STILL)).is_ready() {
        if state.end == End::Answered && state.link.is_flushed() || state.link.io.is_broken() {
            return Poll::Ready(Reason::CallerGone);
        }
        *still = clock::now();
    }
    Poll::Pending
}
