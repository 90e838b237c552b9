//! The client while it is worked for or answered, when nothing that it sends is read by anybody else.
//!
//! A client that ends its direction has left. It might still want its answer (RFC 9112 section 9.6), but
//! nothing tells it from one that closed its connection, and hardly any client does so: Envoy, nginx, hyper
//! and Go take it for leaving as well. An end that is seen ends the work, before the response and within it;
//! requests that were sent ahead go with it. Whatever is whole by then is still written.

use std::{
    io,
    task::{Context, Poll},
    time::Duration,
};

use weft_kernel::Tick;

use super::incoming::{Incoming, Shared};
use crate::{clock, h1::link::Read, timer::TaskTimer};

/// Most bytes of further requests that are read ahead while one is answered.
const AHEAD_MAX: usize = 64 * 1024;
/// How often a client that is not read from is asked after.
const ASKED: Duration = Duration::from_millis(500);

/// What is known of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
    /// It is there, as far as is known.
    There,
    /// It has closed its connection, or that is broken.
    Gone,
    /// It ended its direction within its request, so that there is none; it may still read why.
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
    while state.link.inbuf.len() < AHEAD_MAX {
        let read = state.link.poll_read_head::<()>(cx, |_| None);
        if within && read.is_ready() {
            state.begun();
        }
        match read {
            Poll::Pending => break,
            Poll::Ready(Ok(Read::More | Read::Found(()))) => {}
            Poll::Ready(Ok(Read::End)) => return left(state, within),
            // TLS that ends without a word is an end all the same.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return left(state, within);
            }
            Poll::Ready(Err(_)) => return Client::Gone,
        }
    }
    Client::There
}

/// A client that has ended its direction.
fn left(state: &Shared, within: bool) -> Client {
    if within && !state.is_whole() { Client::Short } else { Client::Gone }
}

/// Whether the client of a request that is not read on has left: that is asked after now and then, from
/// `asked` on, since nothing tells of it.
pub(super) fn poll_unread(
    state: &Shared,
    timer: &TaskTimer,
    asked: &mut Tick,
    cx: &mut Context<'_>,
) -> Poll<()> {
    let full = || state.link.inbuf.len() >= AHEAD_MAX;
    let unread = match state.incoming {
        Incoming::Done => full(),
        // Whoever works hears of it; whoever answers may not care.
        Incoming::Broken(_) => state.responding,
        // Nobody waits for more of the body.
        _ => state.waiting.is_none() && (state.touched || state.responding || full()),
    };
    if !unread {
        return Poll::Pending;
    }
    if *asked == Tick::NEVER {
        *asked = clock::now();
    }
    while timer.poll(cx, asked.plus(ASKED)).is_ready() {
        if state.link.io.has_left() {
            return Poll::Ready(());
        }
        *asked = clock::now();
    }
    Poll::Pending
}
