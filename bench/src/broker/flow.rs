//! The loops: a publisher with a window of unconfirmed messages, a consumer, and both at once.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};

use super::{
    client::{Consumer, Publisher},
    socket::{LATE, Socket},
};
use crate::{
    message::{Bodies, Check},
    stop,
};

/// How much is published.
#[derive(Clone, Copy, Debug)]
pub(super) enum Extent {
    For(Duration),
    Count(u64),
}

/// A publisher and its connection.
pub(super) type Inlet = (Socket, Box<dyn Publisher>);
/// A consumer and its connection.
pub(super) type Outlet = (Socket, Box<dyn Consumer>);

/// What publishing came to.
#[derive(Debug, Default)]
pub(super) struct Published {
    pub(super) confirmed: u64,
    /// From the first publish to the last confirm.
    pub(super) time: Duration,
    /// From each publish to its confirm; sorted.
    pub(super) latencies: Vec<Duration>,
}

/// What consuming came to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Consumed {
    pub(super) count: u64,
    /// Lost, doubled, cut or out of order.
    pub(super) wrong: u64,
    pub(super) time: Duration,
}

/// Publishes messages from 0 on with at most so many unconfirmed, until all are confirmed.
pub(super) fn publish(
    inlet: &mut Inlet,
    size: usize,
    window: u64,
    extent: Extent,
) -> Result<Published> {
    let (socket, publisher) = inlet;
    let mut bodies = Bodies::new(size);
    let mut out = Vec::with_capacity(1 << 20);
    // Confirms may come in any order, yet never from outside the window.
    let mut sent_at = vec![None; window.next_power_of_two() as usize];
    let mask = sent_at.len() as u64 - 1;
    let mut latencies = Vec::new();
    let (mut sent, mut confirmed) = (0_u64, 0_u64);
    let began = Instant::now();
    let mut finished = began;
    loop {
        let is_over = match extent {
            Extent::For(time) => began.elapsed() >= time,
            Extent::Count(count) => sent >= count,
        };
        if is_over && confirmed == sent {
            break;
        }
        stop::check()?;
        out.clear();
        let now = Instant::now();
        while !is_over && sent - confirmed < window {
            if matches!(extent, Extent::Count(count) if sent >= count) {
                break;
            }
            // A slot that is not free: a later message was confirmed before an earlier one.
            let slot = &mut sent_at[(sent & mask) as usize];
            if slot.is_some() {
                break;
            }
            *slot = Some(now);
            publisher.put(&mut out, sent, bodies.of(sent))?;
            sent += 1;
        }
        publisher.flush(&mut out)?;
        if !out.is_empty() {
            socket.send(&out)?;
        }
        socket.fill()?;
        let mut stray = None;
        let now = Instant::now();
        publisher.confirmed(socket, &mut |number| {
            let slot = sent_at.get_mut((number & mask) as usize);
            match slot.filter(|_| number < sent).and_then(Option::take) {
                Some(at) => {
                    latencies.push(now - at);
                    confirmed += 1;
                    finished = now;
                }
                None => stray = Some(number),
            }
        })?;
        if let Some(number) = stray {
            bail!("message {number} was confirmed, and was not in flight");
        }
    }
    latencies.sort_unstable();
    Ok(Published { confirmed, time: finished - began, latencies })
}

/// How long a consumer waits before it looks whether it has had enough.
const LOOK: Duration = Duration::from_millis(50);

/// Consumes so many messages from 0 on, and sees that they come once each and in order.
pub(super) fn consume(outlet: &mut Outlet, size: usize, count: u64) -> Result<Consumed> {
    consume_until(outlet, size, &AtomicU64::new(count))
}

/// The same, while it may not be known yet how many it will be: until then it is the most there can be.
fn consume_until(outlet: &mut Outlet, size: usize, count: &AtomicU64) -> Result<Consumed> {
    let (socket, consumer) = outlet;
    let mut check = Check::new(0, size);
    let mut out = Vec::with_capacity(1 << 20);
    let mut seen = 0;
    let began = Instant::now();
    let mut last = began;
    loop {
        stop::check()?;
        out.clear();
        let before = seen;
        consumer.delivered(socket, &mut out, &mut |body| {
            check.see(body);
            seen += 1;
        })?;
        if !out.is_empty() {
            socket.send(&out)?;
        }
        if seen > before {
            last = Instant::now();
        }
        let wanted = count.load(Ordering::Acquire);
        if seen >= wanted {
            break;
        }
        if !socket.fill_within(LOOK)? && last.elapsed() > LATE {
            bail!("{seen} of {wanted} messages came, and nothing more within {LATE:?}");
        }
    }
    Ok(Consumed { count: seen, wrong: check.wrong, time: last - began })
}

/// Publishes so long while a consumer takes all of it; the time is that of the last delivery.
pub(super) fn end_to_end(
    inlet: &mut Inlet,
    outlet: &mut Outlet,
    size: usize,
    window: u64,
    time: Duration,
) -> Result<(Published, Consumed)> {
    let count = AtomicU64::new(u64::MAX);
    thread::scope(|scope| {
        let taking = scope.spawn(|| consume_until(outlet, size, &count));
        let published = publish(inlet, size, window, Extent::For(time));
        // Also when it failed, so that the consumer ends.
        let confirmed = published.as_ref().map_or(0, |published| published.confirmed);
        count.store(confirmed, Ordering::Release);
        let Ok(consumed) = taking.join() else { bail!("the consumer panicked") };
        let (published, consumed) = (published?, consumed?);
        ensure!(consumed.count == confirmed, "{} of {confirmed} came", consumed.count);
        Ok((published, consumed))
    })
}
