//! The loops: filling, appending from many writers, reading a stream, reading all.
//!
//! Writers share out the streams, so that each knows the version of every one of its own, and none has to
//! be kept: it follows from how many transactions the writer has had.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;

use super::{
    client::{Append, Client, Found, NewEvent, Of},
    scenario::{Filling, SIZE, stream},
};
use crate::{
    message::{Bodies, number},
    stop,
};

/// Streams of one transaction when there is something to be filled.
const AT_ONCE: u64 = 500;

/// What a flow came to.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// Events.
    pub(super) events: u64,
    pub(super) time: Duration,
    /// Of transactions, or of streams that were read; sorted.
    pub(super) latencies: Vec<Duration>,
}

/// The streams of one of several: its number, and those of which it is a multiple away.
#[derive(Clone, Copy, Debug)]
struct Share {
    first: u64,
    step: u64,
    count: u64,
}

impl Share {
    fn of(streams: u64, index: usize, writers: usize) -> Self {
        let (first, step) = (index as u64, writers as u64);
        Self { first, step, count: streams.saturating_sub(first).div_ceil(step) }
    }

    fn stream(&self, slot: u64) -> u64 {
        self.first + slot * self.step
    }
}

/// Events of a stream from a version on.
fn events(bodies: &mut Bodies, next: u64, count: u64) -> Vec<NewEvent> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let first = NEXT.fetch_add(count, Ordering::Relaxed);
    let event = |at: u64| {
        let id = first + at;
        // Ids are in no order, as those that are drawn by chance.
        let high = id.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        NewEvent {
            id: u128::from(high) << 64 | u128::from(id),
            body: bodies.of(next + at).to_vec(),
        }
    };
    (0..count).map(event).collect()
}

/// Appends what is to be there at first.
pub(super) async fn fill(clients: &mut [Client], filling: Filling) -> Result<()> {
    let writers = clients.len();
    let fill = async |(index, client): (usize, &mut Client)| -> Result<()> {
        let share = Share::of(filling.streams, index, writers);
        let mut bodies = Bodies::new(SIZE);
        for next in 0..filling.events {
            for slot in (0..share.count).step_by(AT_ONCE as usize) {
                stop::check()?;
                let slots = slot..(slot + AT_ONCE).min(share.count);
                let appends = slots.map(|slot| Append {
                    stream: stream(share.stream(slot)),
                    next,
                    events: events(&mut bodies, next, 1),
                });
                client.append(appends.collect()).await?;
            }
        }
        Ok(())
    };
    try_join_all(clients.iter_mut().enumerate().map(fill)).await.map(drop)
}

/// Appends so many events a transaction from every client, so long. `had` is how many transactions each has had.
pub(super) async fn append(
    clients: &mut [Client],
    had: &mut [u64],
    filling: Filling,
    count: u64,
    time: Duration,
) -> Result<Done> {
    let writers = clients.len();
    let began = Instant::now();
    let write = async |(index, (client, had)): (usize, (&mut Client, &mut u64))| {
        let share = Share::of(filling.streams, index, writers);
        let mut bodies = Bodies::new(SIZE);
        let mut latencies = Vec::new();
        while began.elapsed() < time {
            stop::check()?;
            let next = filling.events + *had / share.count * count;
            let stream = stream(share.stream(*had % share.count));
            let append = Append { stream, next, events: events(&mut bodies, next, count) };
            let sent = Instant::now();
            client.append(vec![append]).await?;
            latencies.push(sent.elapsed());
            *had += 1;
        }
        anyhow::Ok(latencies)
    };
    let found = try_join_all(clients.iter_mut().zip(had).enumerate().map(write)).await?;
    let time = began.elapsed();
    let mut latencies = found.concat();
    latencies.sort_unstable();
    Ok(Done { events: latencies.len() as u64 * count, time, latencies })
}

/// How many events a stream has after so many transactions of its writer.
pub(super) fn length(filling: Filling, number: u64, had: &[u64], count: u64) -> u64 {
    let index = (number % had.len() as u64) as usize;
    let share = Share::of(filling.streams, index, had.len());
    let (cycles, rest) = (had[index] / share.count, had[index] % share.count);
    let slot = number / had.len() as u64;
    filling.events + (cycles + u64::from(slot < rest)) * count
}

/// Reads streams in turns, each whole, so long.
pub(super) async fn streams(client: &mut Client, filling: Filling, time: Duration) -> Result<Done> {
    let mut latencies = Vec::new();
    let began = Instant::now();
    while began.elapsed() < time {
        stop::check()?;
        let sent = Instant::now();
        read(client, latencies.len() as u64 % filling.streams, filling.events).await?;
        latencies.push(sent.elapsed());
    }
    let time = began.elapsed();
    latencies.sort_unstable();
    Ok(Done { events: latencies.len() as u64 * filling.events, time, latencies })
}

/// Reads a stream, which must have so many events, each at its place and as it was appended.
pub(super) async fn read(client: &mut Client, number: u64, count: u64) -> Result<()> {
    let name = stream(number);
    let mut next = 0;
    while next < count {
        let came = client
            .page(Of::Stream(&name, next), &mut |found| {
                ensure!(found.version == next, "{name}: {} instead of {next}", found.version);
                next += 1;
                as_appended(found)
            })
            .await?;
        ensure!(came > 0, "{name}: {next} of {count} events are there");
    }
    ensure!(next == count, "{name}: {next} events instead of {count}");
    Ok(())
}

/// Reads all events, of which there must be so many.
pub(super) async fn catch_up(client: &mut Client, count: u64) -> Result<Done> {
    let (mut events, mut next) = (0_u64, 0_u64);
    let began = Instant::now();
    loop {
        stop::check()?;
        // PostgreSQL's positions begin with one, and those of transactions that failed are missing.
        let came = client
            .page(Of::All(next), &mut |found| {
                ensure!(found.position >= next, "position {} after {next}", found.position);
                next = found.position + 1;
                as_appended(found)
            })
            .await?;
        events += came;
        if came == 0 {
            break;
        }
    }
    ensure!(events == count, "{events} events were read, {count} appended");
    Ok(Done { events, time: began.elapsed(), latencies: Vec::new() })
}

/// Folds all events from the first on.
pub(super) async fn project(client: &mut Client, filling: Filling) -> Result<Done> {
    let time = client.project(filling).await?;
    Ok(Done { events: filling.streams * filling.events, time, latencies: Vec::new() })
}

fn as_appended(Found { version, body, .. }: Found<'_>) -> Result<()> {
    let says = number(body)?;
    ensure!(says == version && body.len() == SIZE, "version {version} has the body of {says}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_hold_every_stream_once() {
        for (streams, writers) in [(10, 3), (64, 64), (65, 64), (100, 1)] {
            let mut all: Vec<u64> = (0..writers)
                .flat_map(|index| {
                    let share = Share::of(streams, index, writers);
                    (0..share.count).map(move |slot| share.stream(slot))
                })
                .collect();
            all.sort_unstable();
            assert_eq!(all, (0..streams).collect::<Vec<_>>(), "{streams} of {writers}");
        }
    }

    #[test]
    fn lengths_add_up() {
        let filling = Filling { streams: 10, events: 2 };
        // Of four streams of the first writer and three of the others.
        let had = [5, 3, 0];
        let lengths: Vec<u64> = (0..10).map(|number| length(filling, number, &had, 7)).collect();
        assert_eq!(lengths.iter().sum::<u64>(), 20 + 8 * 7);
        assert_eq!((lengths[0], lengths[3], lengths[1], lengths[2]), (16, 9, 9, 2));
    }

    #[test]
    fn bodies_say_their_version() {
        let mut bodies = Bodies::new(SIZE);
        let made = events(&mut bodies, 5, 2);
        assert_ne!(made[0].id, made[1].id);
        let found = |version, body| Found { version, position: 0, body };
        assert!(as_appended(found(6, &made[1].body)).is_ok());
        assert!(as_appended(found(5, &made[1].body)).is_err());
        assert!(as_appended(found(6, &made[1].body[1..])).is_err());
    }
}
