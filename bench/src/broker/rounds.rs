//! Rounds in which every target has its turn, and the next in reverse, so that what drifts on the machine
//! falls on all alike; each turn is on a queue of its own and is checked to the last message.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use super::{
    client::{Mode, Place, Reach},
    flow::{self, Consumed, Extent, Published},
    scenario::{Load, Scenario},
    server::Running,
    target::Target,
};
use crate::{
    child::own_cpu,
    disk::Disk,
    poll,
    record::{
        Journal,
        durable::{Record, Records, Spent, Target as _},
    },
    stop,
};

/// What a consumer holds at most.
const PREFETCH: u16 = 256;
/// Messages that are taken again after publishing, to see that they are those that were confirmed.
const CHECKED: u64 = 20_000;
/// How long a server may take to count what it has confirmed.
const COUNTS: Duration = Duration::from_secs(20);
/// How long the disk is asked in each round.
const DISK: Duration = Duration::from_millis(500);

/// How much of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) rounds: usize,
    pub(super) time: Duration,
}

/// A target with its server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stand<'a> {
    pub(super) target: Target,
    pub(super) server: &'a Running,
}

impl Stand<'_> {
    fn reach(&self) -> Reach {
        self.server.reach(self.target)
    }
}

/// A name that nothing had before, and that every broker takes.
pub(super) fn name(what: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("bench-{what}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Runs a scenario on all of them.
pub(super) fn run(
    stands: &[Stand<'_>],
    scenario: &'static Scenario,
    size: Size,
    disk: &Disk,
    journal: &mut Journal,
    records: &mut Records,
) -> Result<()> {
    let stages: Vec<Result<Stage<'_>>> =
        stands.iter().map(|stand| Stage::prepare(*stand, scenario, disk, size.time)).collect();
    for round in 0..size.rounds {
        let sync = disk.sync(DISK)?;
        let forth = stages.iter().zip(stands);
        let turns: Vec<_> = if round % 2 == 0 { forth.collect() } else { forth.rev().collect() };
        for (stage, stand) in turns {
            for other in stands {
                other.server.quiet()?;
            }
            let outcome = match stage {
                Ok(stage) => stage.run(size.time),
                Err(error) => Err(anyhow::anyhow!("{error:#}")),
            };
            stop::check()?;
            let target = stand.target;
            let asked = (scenario.name, target.name(), target.durability());
            let record = Record::of(asked, round, sync, scenario.size, outcome);
            journal.keep(&record)?;
            records.0.push(record);
        }
    }
    for stage in stages.into_iter().flatten() {
        stage.clear();
    }
    Ok(())
}

/// What all turns of a target in a scenario share.
struct Stage<'a> {
    stand: Stand<'a>,
    scenario: &'static Scenario,
    disk: &'a Disk,
    place: Place,
    /// Queues or logs that stay over all turns.
    names: Vec<String>,
}

impl<'a> Stage<'a> {
    /// Makes what stays, and goes through a short turn, so that the first round is as warm as the others.
    fn prepare(
        stand: Stand<'a>,
        scenario: &'static Scenario,
        disk: &'a Disk,
        time: Duration,
    ) -> Result<Self> {
        let mut stage = Self { stand, scenario, disk, place: Place::Queue, names: Vec::new() };
        let reach = stand.reach();
        match scenario.load {
            Load::Publish { .. } | Load::EndToEnd { .. } => {
                stage.run(time / 5)?;
            }
            Load::Replay { count } => {
                stage.place = Place::Log;
                stage.names = vec![name("log")];
                reach.create(Place::Log, &stage.names[0])?;
                let mut inlet = reach.publisher(Place::Log, &stage.names, scenario.size)?;
                let filled = flow::publish(&mut inlet, scenario.size, 1_000, Extent::Count(count))?;
                ensure!(filled.confirmed == count, "{} of {count} confirmed", filled.confirmed);
            }
            Load::Queues { queues, .. } => {
                stage.names = (0..queues).map(|_| name("many")).collect();
                reach.create_all(&stage.names)?;
            }
        }
        Ok(stage)
    }

    fn clear(self) {
        // The server's folder goes in the end; what is left in it until then is in nobody's way.
        let _ = self.stand.reach().delete(self.place, &self.names);
    }

    fn run(&self, time: Duration) -> Result<Spent> {
        match self.scenario.load {
            Load::Publish { window } => self.publish(window, time),
            Load::EndToEnd { window } => self.end_to_end(window, time),
            Load::Replay { count } => self.replay(count),
            Load::Queues { window, .. } => self.queues(window, time),
        }
    }

    fn publish(&self, window: u64, time: Duration) -> Result<Spent> {
        let (reach, size) = (self.stand.reach(), self.scenario.size);
        let names = [name("queue")];
        reach.create(Place::Queue, &names[0])?;
        let mut inlet = reach.publisher(Place::Queue, &names, size)?;
        let mut spent =
            self.meter(|| flow::publish(&mut inlet, size, window, Extent::For(time)))?;
        let count = spent.good;
        let counted = poll::until("as many as were confirmed", COUNTS, || {
            let found = reach.depth(&names[0])?;
            ensure!(found <= count, "{found} messages are there, {count} were confirmed");
            Ok((found == count).then_some(()))
        });
        counted.with_context(|| format!("{count} were confirmed"))?;
        let mut outlet = reach.consumer(Mode::Take, &names[0], PREFETCH)?;
        spent.wrong = flow::consume(&mut outlet, size, count.min(CHECKED))?.wrong;
        drop((inlet, outlet));
        reach.delete(Place::Queue, &names)?;
        Ok(spent)
    }

    fn end_to_end(&self, window: u64, time: Duration) -> Result<Spent> {
        let (reach, size) = (self.stand.reach(), self.scenario.size);
        let names = [name("queue")];
        reach.create(Place::Queue, &names[0])?;
        let mut outlet = reach.consumer(Mode::Take, &names[0], PREFETCH)?;
        let mut inlet = reach.publisher(Place::Queue, &names, size)?;
        let spent = self.meter(|| flow::end_to_end(&mut inlet, &mut outlet, size, window, time))?;
        // While the consumer is there, so that nothing goes back by its end.
        poll::until("an empty queue", COUNTS, || Ok((reach.depth(&names[0])? == 0).then_some(())))?;
        drop((inlet, outlet));
        let left = reach.depth(&names[0])?;
        ensure!(left == 0, "{left} messages came back though they were accepted");
        reach.delete(Place::Queue, &names)?;
        Ok(spent)
    }

    fn replay(&self, count: u64) -> Result<Spent> {
        let (reach, size) = (self.stand.reach(), self.scenario.size);
        let log = self.names.first().context("a log")?;
        self.meter(|| {
            let mut outlet = reach.consumer(Mode::Replay, log, 10 * PREFETCH)?;
            flow::consume(&mut outlet, size, count)
        })
    }

    fn queues(&self, window: u64, time: Duration) -> Result<Spent> {
        let (reach, size) = (self.stand.reach(), self.scenario.size);
        let depths = || -> Result<u64> {
            let some = self.names.iter().step_by(self.names.len() / 8);
            some.map(|name| reach.depth(name)).sum()
        };
        let before = depths()?;
        let mut inlet = reach.publisher(Place::Queue, &self.names, size)?;
        let spent = self.meter(|| flow::publish(&mut inlet, size, window, Extent::For(time)))?;
        let each = spent.good / self.names.len() as u64;
        poll::until("as many in each as were confirmed", COUNTS, || {
            // Of a last turn that not all queues had, each has one more or none.
            let (found, least) = (depths()? - before, 8 * each);
            Ok((found >= least && found <= least + 8).then_some(()))
        })?;
        Ok(spent)
    }

    /// Does it, and looks at what it cost.
    fn meter<T: Into<Came>>(&self, run: impl FnOnce() -> Result<T>) -> Result<Spent> {
        let server = self.stand.server;
        let written = self.disk.written()?;
        let before = (server.cpu(), own_cpu());
        let came: Came = run()?.into();
        let after = (server.cpu(), own_cpu());
        let written = written.zip(self.disk.written()?);
        Ok(Spent {
            good: came.good,
            wrong: came.wrong,
            time: came.time,
            latencies: came.latencies,
            cpu: after.0.saturating_sub(before.0),
            written: written.map(|(before, after)| after.saturating_sub(before)),
            client: after.1.saturating_sub(before.1),
            memory_kib: server.memory_kib(),
        })
    }
}

/// What a flow came to, whichever it was.
struct Came {
    good: u64,
    wrong: u64,
    time: Duration,
    latencies: Vec<Duration>,
}

impl From<Published> for Came {
    fn from(Published { confirmed, time, latencies }: Published) -> Self {
        Self { good: confirmed, wrong: 0, time, latencies }
    }
}

impl From<Consumed> for Came {
    fn from(Consumed { count, wrong, time }: Consumed) -> Self {
        Self { good: count, wrong, time, latencies: Vec::new() }
    }
}

impl From<(Published, Consumed)> for Came {
    fn from((published, consumed): (Published, Consumed)) -> Self {
        Self { latencies: published.latencies, ..consumed.into() }
    }
}
