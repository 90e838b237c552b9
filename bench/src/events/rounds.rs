//! Rounds in which every target has its turn, and the next in reverse, so that what drifts on the machine
//! falls on all alike; what each has appended is counted after every turn, and some of it read again.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinSet,
};

use super::{
    client::Client,
    flow::{self, Done},
    scenario::{Load, SIZE, Scenario},
    server::{Programs, Running},
    target::Target,
};
use crate::{
    child::own_cpu,
    disk::Disk,
    record::{
        Journal,
        durable::{Record, Records, Spent, Target as _},
    },
    stop,
};

/// How long the disk is asked in each round.
const DISK: Duration = Duration::from_millis(500);
/// Connections that fill, at least.
const FILLING: usize = 4;
/// Streams that are read again after a turn of appends.
const CHECKED: u64 = 16;

/// How much of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) rounds: usize,
    pub(super) time: Duration,
}

/// Runs a scenario on all targets, each on a server that is started for it and ends with it.
pub(super) fn run(
    (programs, folder): (&Programs, &Path),
    targets: &[Target],
    scenario: &'static Scenario,
    size: Size,
    disk: &Disk,
    journal: &mut Journal,
    records: &mut Records,
) -> Result<()> {
    let mut stages = Vec::with_capacity(targets.len());
    for &target in targets.iter().filter(|target| scenario.is_for(**target)) {
        let folder = folder.join(format!("{}-{}", target.name(), scenario.name));
        stages.push((target, Stage::prepare(programs, &folder, target, scenario, size.time)));
        stop::check()?;
    }
    for round in 0..size.rounds {
        let sync = disk.sync(DISK)?;
        let mut turns: Vec<usize> = (0..stages.len()).collect();
        if round % 2 == 1 {
            turns.reverse();
        }
        for turn in turns {
            for stage in stages.iter().filter_map(|(_, stage)| stage.as_ref().ok()) {
                stage.running.quiet()?;
            }
            let (target, stage) = &mut stages[turn];
            let outcome = match stage {
                Ok(stage) => stage.turn(disk, size.time),
                Err(error) => Err(anyhow::anyhow!("{error:#}")),
            };
            stop::check()?;
            let asked = (scenario.name, target.name(), "fsync");
            let record = Record::of(asked, round, sync, SIZE, outcome);
            journal.keep(&record)?;
            records.0.push(record);
        }
    }
    Ok(())
}

/// What all turns of a target in a scenario share. Clients go before the server.
struct Stage {
    scenario: &'static Scenario,
    clients: Vec<Client>,
    /// Transactions of each client.
    had: Vec<u64>,
    /// Events that are there.
    events: u64,
    _tasks: JoinSet<()>,
    running: Running,
    runtime: Runtime,
}

impl Stage {
    /// Starts a server, fills it, and goes through a short turn, so that the first round is as warm as the others.
    fn prepare(
        programs: &Programs,
        folder: &Path,
        target: Target,
        scenario: &'static Scenario,
        time: Duration,
    ) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let running = Running::start(programs, target, folder, &runtime)?;
        let mut tasks = JoinSet::new();
        let mut clients = Vec::new();
        for _ in 0..scenario.clients().max(FILLING) {
            clients.push(runtime.block_on(running.reach.connect(&mut tasks))?);
        }
        runtime.block_on(flow::fill(&mut clients[..FILLING], scenario.filling))?;
        clients.truncate(scenario.clients());
        let had = vec![0; clients.len()];
        let events = scenario.filling.streams * scenario.filling.events;
        let mut stage = Self { scenario, clients, had, events, _tasks: tasks, running, runtime };
        stage.load(time / 5)?;
        stage.check()?;
        Ok(stage)
    }

    fn turn(&mut self, disk: &Disk, time: Duration) -> Result<Spent> {
        let written = disk.written()?;
        let before = (self.running.cpu(), own_cpu());
        let done = self.load(time)?;
        let after = (self.running.cpu(), own_cpu());
        let memory_kib = self.running.memory_kib();
        // Reading writes nothing that tells anything.
        let written = match self.scenario.load {
            Load::Append { .. } => written.zip(disk.written()?),
            Load::ReadStream | Load::CatchUp | Load::Project => None,
        };
        self.check()?;
        Ok(Spent {
            good: done.events,
            wrong: 0,
            time: done.time,
            latencies: done.latencies,
            cpu: after.0.saturating_sub(before.0),
            client: after.1.saturating_sub(before.1),
            written: written.map(|(before, after)| after.saturating_sub(before)),
            memory_kib,
        })
    }

    fn load(&mut self, time: Duration) -> Result<Done> {
        let filling = self.scenario.filling;
        let client = self.clients.first_mut().context("a client")?;
        let done = match self.scenario.load {
            Load::Append { events } => {
                let append = flow::append(&mut self.clients, &mut self.had, filling, events, time);
                let done = self.runtime.block_on(append)?;
                self.events += done.events;
                done
            }
            Load::ReadStream => self.runtime.block_on(flow::streams(client, filling, time))?,
            Load::CatchUp => self.runtime.block_on(flow::catch_up(client, self.events))?,
            Load::Project => self.runtime.block_on(flow::project(client, filling))?,
        };
        Ok(done)
    }

    /// After appends: as many events as were acknowledged, and streams that have what they should.
    fn check(&mut self) -> Result<()> {
        let Load::Append { events } = self.scenario.load else { return Ok(()) };
        let filling = self.scenario.filling;
        let client = self.clients.first_mut().context("a client")?;
        let there = self.runtime.block_on(client.count())?;
        ensure!(there == self.events, "{there} events are there instead of {}", self.events);
        let step = filling.streams / CHECKED + 1;
        for number in (0..filling.streams).step_by(step as usize) {
            let length = flow::length(filling, number, &self.had, events);
            self.runtime.block_on(flow::read(client, number, length))?;
        }
        Ok(())
    }
}
