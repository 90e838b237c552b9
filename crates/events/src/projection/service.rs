//! Projections as they run: each reads on as events come, rebuilds beside what answers, and says how it is.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::future::try_join_all;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};
use weft_kernel::{Error, Reason, Result};
use weft_ledger::{
    Durability, Transaction, options::MapOptions, record::MapId, transaction::ExpectValue,
};

pub use super::build::Resolve;
use super::{
    build::{Build, Step},
    definition::{Compiled, Definition},
    rows::{BuildRow, Control, Parked, map_name},
};
use crate::{
    row::{decode, encode},
    store::EventStore,
};

/// How long it waits after the store has refused something.
const AGAIN: Duration = Duration::from_secs(1);
/// Commands that wait.
const COMMANDS: usize = 16;

/// How a projection stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The position of the next event that it looks at: who asks for documents finds all before it.
    pub position: u64,
    /// How often an event was applied to a document.
    pub applied: u64,
    /// When the event was appended that it has applied last, in milliseconds since 1970; 0 if none since the start.
    pub time_ms: u64,
    /// The number of the build that answers.
    pub build: u64,
    /// How far the build has got that is to take its place.
    pub building: Option<u64>,
    /// How much is parked.
    pub parked: usize,
    /// Why it does not go on.
    pub stopped: Option<String>,
}

/// What answers.
#[derive(Clone)]
pub(super) struct Answers {
    pub(super) map: MapId,
    pub(super) definition: Arc<Compiled>,
    pub(super) parked: Arc<Vec<Parked>>,
}

enum Command {
    Rebuild(oneshot::Sender<Result<()>>),
    Resolve(Option<String>, Option<u64>, Resolve, oneshot::Sender<Result<Option<Parked>>>),
}

/// A projection; a clone is a handle to the same.
#[derive(Clone)]
pub struct Projection {
    pub(super) name: Arc<str>,
    pub(super) declared: Arc<Definition>,
    pub(super) events: EventStore,
    pub(super) answers: Arc<Mutex<Answers>>,
    status: watch::Receiver<Status>,
    commands: mpsc::Sender<Command>,
}

/// The projections of a store, by name.
#[derive(Clone, Default)]
pub struct Projections(Arc<BTreeMap<String, Projection>>);

/// What runs a projection.
pub struct Runner {
    name: Arc<str>,
    events: EventStore,
    controls: MapId,
    control: Control,
    active: Build,
    building: Option<Build>,
    answers: Arc<Mutex<Answers>>,
    status: watch::Sender<Status>,
    commands: mpsc::Receiver<Command>,
}

impl Projections {
    /// Opens projections as they are declared; each is to be run.
    ///
    /// # Errors
    /// What is wrong with a definition, and what the store says.
    pub async fn open(
        events: &EventStore,
        declared: BTreeMap<String, Definition>,
    ) -> Result<(Self, Vec<Runner>)> {
        let controls = events.0.store.create_map("projections", MapOptions::default()).await?;
        let open = declared.into_iter().map(|(name, definition)| async move {
            let opened = Runner::open(events.clone(), controls, &name, definition).await;
            opened.map_err(|error| error.at(format!("projection {name}"))).map(|of| (name, of))
        });
        let (mut all, mut runners) = (BTreeMap::new(), Vec::new());
        for (name, (projection, runner)) in try_join_all(open).await? {
            all.insert(name, projection);
            runners.push(runner);
        }
        Ok((Self(Arc::new(all)), runners))
    }

    /// One of them.
    ///
    /// # Errors
    /// `not_found` if it is not there.
    pub fn get(&self, name: &str) -> Result<&Projection> {
        let absent = || Error::new(Reason::NotFound, format!("there is no projection `{name}`"));
        self.0.get(name).ok_or_else(absent)
    }

    /// All of them, by name.
    pub fn all(&self) -> impl Iterator<Item = &Projection> {
        self.0.values()
    }
}

impl Projection {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is declared as; an earlier one answers while it is rebuilt.
    pub fn definition(&self) -> &Definition {
        &self.declared
    }

    /// How it stands.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// How many positions of the log it has not looked at.
    pub fn lag(&self) -> u64 {
        self.events.next_position().saturating_sub(self.status.borrow().position)
    }

    /// The position of the first event of a time or later.
    ///
    /// # Errors
    /// What the store says.
    pub async fn position_at(&self, time_ms: u64) -> Result<u64> {
        self.events.position_at(time_ms).await
    }

    /// The position that the next event will have.
    pub fn end(&self) -> u64 {
        self.events.next_position()
    }

    /// The age of the event that it has applied last, in seconds, while it is behind; 0 otherwise, and until it has
    /// applied one since the start.
    pub fn lag_seconds(&self, now: SystemTime) -> f64 {
        let time_ms = self.status.borrow().time_ms;
        if self.lag() == 0 || time_ms == 0 {
            return 0.0;
        }
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(time_ms);
        now.duration_since(at).map_or(0.0, |span| span.as_secs_f64())
    }

    /// What is parked.
    pub fn parked(&self) -> Arc<Vec<Parked>> {
        Arc::clone(&self.answers.lock().parked)
    }

    /// Waits until everything before a position has been looked at. Cancel-safe.
    pub async fn reached(&self, position: u64) {
        let mut status = self.status.clone();
        if status.wait_for(|status| status.position >= position).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until it has got further, or something else has changed about it, since it was at a position.
    pub(super) async fn beyond(&self, position: u64, build: u64) -> Status {
        let mut status = self.status.clone();
        let beyond = |now: &Status| now.position > position || now.build != build;
        let now = status.wait_for(beyond).await.ok().map(|now| now.clone());
        match now {
            Some(status) => status,
            None => std::future::pending().await,
        }
    }

    /// Builds it again from the first event on, beside what answers, which it replaces when it is as far.
    ///
    /// # Errors
    /// `conflict` while it is being built, and what the store says.
    pub async fn rebuild(&self) -> Result<()> {
        self.command(Command::Rebuild).await
    }

    /// Goes on with what is parked; gives it if it is parked again.
    ///
    /// # Errors
    /// `not_found` if nothing is parked there, and what the store says.
    pub async fn resolve(
        &self,
        key: Option<String>,
        position: Option<u64>,
        how: Resolve,
    ) -> Result<Option<Parked>> {
        self.command(|answer| Command::Resolve(key, position, how, answer)).await
    }

    async fn command<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T>>) -> Command,
    ) -> Result<T> {
        let (send, answer) = oneshot::channel();
        let gone = || Error::new(Reason::Draining, "the projection has ended");
        self.commands
            .send(command(send))
            .await
            .map_err(|error| gone().because(error.to_string()))?;
        answer.await.map_err(|error| gone().because(error))?
    }
}

impl Runner {
    async fn open(
        events: EventStore,
        controls: MapId,
        name: &str,
        declared: Definition,
    ) -> Result<(Projection, Self)> {
        declared.compile()?;
        let found = events.0.store.get(controls, name.as_bytes()).await?;
        let mut control: Control = found.map_or(Ok(Control::default()), |of| decode(&of.data))?;
        let before = control.clone();
        let text = declared.text();
        // Of another epoch it has folded events that are not there any more.
        let epoch = events.epoch();
        let is_declared = |row: &BuildRow| row.definition == text && row.epoch == epoch;
        if control.active.as_ref().is_none_or(|row| !is_declared(row)) {
            if control.building.as_ref().is_none_or(|row| !is_declared(row)) {
                control.begin(text.clone(), epoch);
            }
        } else if control.building.as_ref().is_some_and(|row| !is_declared(row)) {
            // What was being built is not wanted any more.
            control.removing.extend(control.building.take().map(|row| row.id));
        }
        let active = match &control.active {
            Some(active) => active.clone(),
            // The first one answers while it is being built.
            None => {
                let first = control.building.take().unwrap_or_else(|| control.begun(text, epoch));
                control.active = Some(first.clone());
                first
            }
        };
        if control != before {
            keep(&events, controls, name, &control).await?;
        }
        let active = Build::open(events.clone(), name, active).await?;
        if active.is_ahead && control.building.is_none() {
            control.begin(active.row.definition.clone(), epoch);
            keep(&events, controls, name, &control).await?;
        }
        let building = match &control.building {
            Some(row) => Some(Build::open(events.clone(), name, row.clone()).await?),
            None => None,
        };
        let answers = Arc::new(Mutex::new(answers(&active)));
        let (status, watched) = watch::channel(Status::default());
        let (commands, asked) = mpsc::channel(COMMANDS);
        let name: Arc<str> = name.into();
        let projection = Projection {
            name: Arc::clone(&name),
            declared: Arc::new(declared),
            events: events.clone(),
            answers: Arc::clone(&answers),
            status: watched,
            commands,
        };
        let commands = asked;
        let runner =
            Self { name, events, controls, control, active, building, answers, status, commands };
        runner.tell(None);
        Ok((projection, runner))
    }

    /// Runs it for ever; dropped, it goes on at the next start where it was.
    pub async fn run(mut self) {
        loop {
            // Looked at before a step is made: what comes after that wakes.
            let mut tail = self.events.0.tail();
            let waits = match self.advance().await {
                Ok(true) => false,
                Ok(false) => true,
                Err(error) => {
                    self.failed(&error).await;
                    continue;
                }
            };
            let command = if waits {
                tokio::select! {
                    biased;
                    command = self.commands.recv() => command,
                    _ = tail.changed() => None,
                }
            } else {
                self.commands.try_recv().ok()
            };
            if let Some(command) = command {
                self.obey(command).await;
            }
        }
    }

    /// A step of each build; whether there may be more at once.
    async fn advance(&mut self) -> Result<bool> {
        self.remove().await?;
        let active = self.active.step().await?;
        let mut is_more = active == Step::More;
        let mut stopped = (active == Step::Full)
            .then(|| "as much is parked as there may be: resume or skip it".to_owned());
        if let Some(building) = &mut self.building {
            match building.step().await? {
                Step::Full => {
                    let say = "of the new build as much is parked as there may be";
                    stopped = stopped.or_else(|| Some(say.to_owned()));
                }
                _ if building.state.position >= self.active.state.position => {
                    self.switch().await?;
                    // The old one is removed at once, and not with the next event.
                    is_more = true;
                }
                _ => is_more = true,
            }
        }
        self.tell(stopped);
        Ok(is_more)
    }

    /// The new build answers from now on, and the old one goes.
    async fn switch(&mut self) -> Result<()> {
        let mut control = self.control.clone();
        control.removing.extend(control.active.take().map(|row| row.id));
        control.active = control.building.take();
        keep(&self.events, self.controls, &self.name, &control).await?;
        self.control = control;
        if let Some(building) = self.building.take() {
            self.active = building;
        }
        self.tell(None);
        Ok(())
    }

    /// Removes the rows of builds that nobody asks any more.
    async fn remove(&mut self) -> Result<()> {
        if self.control.removing.is_empty() {
            return Ok(());
        }
        let store = &self.events.0.store;
        for build in &self.control.removing {
            // It may have gone already, if the process ended in between.
            let name = map_name(&self.name, *build);
            let map = store.create_map(&name, MapOptions::default()).await?;
            store.drop_map(map).await?;
        }
        let control = Control { removing: Vec::new(), ..self.control.clone() };
        keep(&self.events, self.controls, &self.name, &control).await?;
        self.control = control;
        Ok(())
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Rebuild(answer) => {
                let done = self.rebuild().await;
                let _ = answer.send(done);
            }
            Command::Resolve(key, position, how, answer) => {
                let done = self.active.resolve(key.as_deref(), position, how).await;
                // What was begun and failed is in memory alone.
                if let Err(error) = &done
                    && error.reason() != Reason::NotFound
                {
                    self.failed(error).await;
                }
                self.tell(None);
                let _ = answer.send(done);
            }
        }
    }

    async fn rebuild(&mut self) -> Result<()> {
        if self.building.is_some() {
            return Err(Error::new(Reason::Conflict, "the projection is being built already"));
        }
        let mut control = self.control.clone();
        control.begin(self.active.row.definition.clone(), self.events.epoch());
        keep(&self.events, self.controls, &self.name, &control).await?;
        let row = control.building.clone();
        self.control = control;
        if let Some(row) = row {
            self.building = Some(Build::open(self.events.clone(), &self.name, row).await?);
        }
        self.tell(None);
        Ok(())
    }

    /// Tells what is wrong, and begins again with what is on the disk.
    async fn failed(&mut self, error: &Error) {
        self.tell(Some(error.detail().to_owned()));
        loop {
            tokio::time::sleep(AGAIN).await;
            match self.again().await {
                Ok(()) => return,
                Err(error) => self.tell(Some(error.detail().to_owned())),
            }
        }
    }

    async fn again(&mut self) -> Result<()> {
        let row = self.active.row.clone();
        self.active = Build::open(self.events.clone(), &self.name, row).await?;
        if let Some(row) = self.control.building.clone() {
            self.building = Some(Build::open(self.events.clone(), &self.name, row).await?);
        }
        Ok(())
    }

    fn tell(&self, stopped: Option<String>) {
        *self.answers.lock() = answers(&self.active);
        self.status.send_replace(Status {
            position: self.active.state.position,
            applied: self.active.state.applied,
            time_ms: self.active.time_ms,
            build: self.active.row.id,
            building: self.building.as_ref().map(|building| building.state.position),
            parked: self.active.fold.parked_count(),
            stopped,
        });
    }
}

impl Control {
    fn begun(&mut self, definition: String, epoch: u64) -> BuildRow {
        self.next += 1;
        BuildRow { id: self.next, definition, epoch }
    }

    /// Begins a build in the place of one that is not done.
    fn begin(&mut self, definition: String, epoch: u64) {
        self.removing.extend(self.building.take().map(|row| row.id));
        self.building = Some(self.begun(definition, epoch));
    }
}

fn answers(build: &Build) -> Answers {
    let parked = build.fold.parked().cloned().collect();
    Answers { map: build.map, definition: Arc::clone(&build.definition), parked: Arc::new(parked) }
}

async fn keep(events: &EventStore, controls: MapId, name: &str, control: &Control) -> Result<()> {
    let (key, value): (Bytes, _) = (name.as_bytes().to_vec().into(), encode(control)?);
    let transaction =
        Transaction::new(Durability::Fsync).put(controls, key, value, ExpectValue::Any);
    events.0.store.commit(transaction).await.map_err(Error::from)?;
    Ok(())
}
