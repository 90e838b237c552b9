//! Asks a connection from time to time whether it lives.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use h2::{Ping, PingPong};
use weft_kernel::Tick;

use crate::{clock, timer::TaskTimer};

/// The PINGs of a connection.
pub(super) struct KeepAlive {
    ping: Option<PingPong>,
    timer: TaskTimer,
    every: Duration,
    /// How long an answer may take.
    patience: Duration,
    due: Tick,
    asked: bool,
}

impl KeepAlive {
    pub(super) fn new(
        ping: Option<PingPong>,
        timer: TaskTimer,
        (every, patience): (Duration, Duration),
    ) -> Self {
        let due = clock::now().plus(every);
        Self { ping, timer, every, patience, due, asked: false }
    }

    /// Ready once the other side has left a question without an answer.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(ping) = &mut self.ping else { return Poll::Pending };
        loop {
            if self.asked {
                match ping.poll_pong(cx) {
                    Poll::Ready(Ok(_)) => {
                        self.asked = false;
                        self.due = clock::now().plus(self.every);
                    }
                    // The connection itself tells why.
                    Poll::Ready(Err(_)) => return Poll::Pending,
                    Poll::Pending => {}
                }
            }
            std::task::ready!(self.timer.poll(cx, self.due));
            if self.asked {
                return Poll::Ready(());
            }
            self.asked = ping.send_ping(Ping::opaque()).is_ok();
            let next = if self.asked { self.patience } else { self.every };
            self.due = clock::now().plus(next);
        }
    }
}
