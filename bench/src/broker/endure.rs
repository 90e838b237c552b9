//! What is measured once on servers of their own: recovery after a crash, and the cost of idling.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use serde::Serialize;

use super::{
    client::{Mode, Place, Reach},
    flow::{self, Extent},
    rounds::name,
    server::{Programs, Running},
    target::Target,
};
use crate::{
    poll,
    record::{self, durable::Target as _},
    stop,
};

/// Bytes of a body in what is recovered.
const BODY: usize = 1024;
/// How long filling may take; the slowest are measured on less, and that is said.
const FILL: Duration = Duration::from_secs(120);
/// How long declaring queues may take.
const DECLARE: Duration = Duration::from_secs(90);
/// How long a server is watched while it idles.
const WATCH: Duration = Duration::from_secs(5);
/// Queues that idle.
const QUEUES: usize = 10_000;
/// For how long messages pass before a server rests, and how many at a time.
const LOAD: Duration = Duration::from_secs(20);
const WINDOW: u64 = 256;
/// After it, what is kept for readers and writers that may come back is let go.
const REST: Duration = Duration::from_secs(15);

/// What a crash came to.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Recovery {
    pub(super) at: u64,
    pub(super) recovery: &'static str,
    pub(super) durability: &'static str,
    /// Messages confirmed before the crash.
    pub(super) messages: u64,
    /// Of payload.
    pub(super) mib: f64,
    pub(super) mib_on_disk: f64,
    /// From the start of the process to the first message delivered.
    pub(super) seconds: f64,
    /// Confirmed, and not there.
    pub(super) lost: u64,
}

/// All that was measured here.
#[derive(Debug, Default)]
pub(super) struct Endured {
    pub(super) recovered: Vec<Recovery>,
    pub(super) idled: Vec<Idle>,
}

/// Fills a queue, kills the server and starts it again.
pub(super) fn recovery(
    programs: &Programs,
    target: Target,
    folder: &Path,
    mib: u64,
) -> Result<Recovery> {
    let mut server = Running::start(programs, target.server(), folder.join(name("crash")))?;
    let reach = server.reach(target);
    let names = [name("crash")];
    reach.create(Place::Queue, &names[0])?;
    let (wanted, began) = (mib * 1024 * 1024 / BODY as u64, Instant::now());
    let mut confirmed = 0;
    // By parts, each from number 0 on, so that a slow one can end in time.
    while confirmed < wanted && began.elapsed() < FILL {
        stop::check()?;
        let part = Extent::Count((wanted / 64).clamp(1, wanted - confirmed));
        let mut inlet = reach.publisher(Place::Queue, &names, BODY)?;
        confirmed += flow::publish(&mut inlet, BODY, 1_000, part)?.confirmed;
    }
    let on_disk = server.on_disk();
    let (took, taken) = server.crash_and_restart(programs, |server| {
        let mut outlet = server.reach(target).consumer(Mode::Take, &names[0], 1)?;
        let consumed = flow::consume(&mut outlet, BODY, 1)?;
        ensure!(consumed.wrong == 0, "another message than the first");
        Ok(consumed.count)
    })?;
    // What was held by a consumer that is gone goes back, and takes its time; what it accepted does not.
    let mut found = 0;
    let whole = poll::until("all that was confirmed", Duration::from_secs(20), || {
        found = reach.depth(&names[0])?;
        Ok((found + taken >= confirmed).then_some(()))
    });
    let lost = if whole.is_ok() { 0 } else { confirmed - found - taken };
    Ok(Recovery {
        at: record::now(),
        recovery: target.name(),
        durability: target.durability(),
        messages: confirmed,
        mib: confirmed as f64 * BODY as f64 / 1024.0 / 1024.0,
        mib_on_disk: on_disk as f64 / 1024.0 / 1024.0,
        seconds: took.as_secs_f64(),
        lost,
    })
}

/// What idling came to.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Idle {
    pub(super) at: u64,
    pub(super) idle: &'static str,
    /// As many as could be declared in time.
    pub(super) queues: usize,
    pub(super) seconds_to_declare: f64,
    /// Before anything was done.
    pub(super) one_mib: f64,
    /// At rest after so many messages have passed.
    pub(super) passed: u64,
    pub(super) rested_mib: f64,
    pub(super) many_mib: f64,
    pub(super) kib_per_queue: f64,
    /// Milliseconds of processor time a second.
    pub(super) one_ms: f64,
    pub(super) many_ms: f64,
}

/// Watches a server with one queue, after a load on it, then with many.
pub(super) fn idle(programs: &Programs, target: Target, folder: &Path) -> Result<Idle> {
    let server = Running::start(programs, target.server(), folder.join(name("idle")))?;
    let reach = server.reach(target);
    let queue = name("idle");
    reach.create(Place::Queue, &queue)?;
    let (one_kib, one_ms) = watch(&server)?;
    let passed = pass(&reach, &queue)?;
    wait(REST)?;
    let (rested_kib, _) = watch(&server)?;
    let began = Instant::now();
    let mut queues = 1;
    while queues < QUEUES && began.elapsed() < DECLARE {
        stop::check()?;
        let some: Vec<String> = (0..100.min(QUEUES - queues)).map(|_| name("idle")).collect();
        reach.create_all(&some)?;
        queues += some.len();
    }
    let seconds_to_declare = began.elapsed().as_secs_f64();
    let (many_kib, many_ms) = watch(&server)?;
    let more = many_kib.saturating_sub(rested_kib) as f64;
    Ok(Idle {
        at: record::now(),
        idle: target.name(),
        queues,
        seconds_to_declare,
        one_mib: one_kib as f64 / 1024.0,
        passed,
        rested_mib: rested_kib as f64 / 1024.0,
        many_mib: many_kib as f64 / 1024.0,
        kib_per_queue: more / (queues.max(2) - 1) as f64,
        one_ms,
        many_ms,
    })
}

/// Has messages pass through a queue; how many did.
fn pass(reach: &Reach, queue: &str) -> Result<u64> {
    let names = [queue.to_owned()];
    let mut outlet = reach.consumer(Mode::Take, queue, 1_000)?;
    let mut inlet = reach.publisher(Place::Queue, &names, BODY)?;
    let (_, consumed) = flow::end_to_end(&mut inlet, &mut outlet, BODY, WINDOW, LOAD)?;
    ensure!(
        consumed.wrong == 0,
        "{} messages were lost, doubled, cut or out of order",
        consumed.wrong
    );
    Ok(consumed.count)
}

fn wait(time: Duration) -> Result<()> {
    let until = Instant::now() + time;
    while Instant::now() < until {
        stop::check()?;
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Memory, and milliseconds of processor time a second.
fn watch(server: &Running) -> Result<(u64, f64)> {
    server.quiet()?;
    let before = server.cpu();
    wait(WATCH)?;
    let spent = server.cpu().saturating_sub(before);
    Ok((server.memory_kib(), spent.as_secs_f64() * 1e3 / WATCH.as_secs_f64()))
}
