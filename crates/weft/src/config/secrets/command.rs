//! Commands that print secrets, and what they have printed last.
//!
//! A command runs when a load first asks for it, and then at its interval on a thread of its own, so that neither
//! a request nor a reload waits for it. If it then fails, what it printed last stays. Its time and its output are
//! bounded, and whatever it has started ends with it. What it writes to its standard error is not shown, since that
//! may hold secrets as well.

use std::{
    collections::{HashMap, HashSet},
    io::Read as _,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::PathBuf,
    process::{Child, ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::sync::Notify;

use super::{BYTES_MAX, text_of};

/// The most commands that run at once.
const AT_ONCE: usize = 8;
/// How soon a command that failed is run again, if its interval is longer.
const AGAIN: Duration = Duration::from_secs(30);
/// How often it is looked whether one that has closed its output has ended.
const LOOK: Duration = Duration::from_millis(5);

/// Command that prints a secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Command {
    /// Program and arguments.
    pub run: Vec<PathBuf>,
    /// Time that it may take.
    pub timeout: Duration,
    /// Time after which it is run again.
    pub every: Duration,
}

/// What commands have printed, from load to load.
#[derive(Debug, Default)]
pub struct Commands {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    known: HashMap<Command, Known>,
    /// Those that the load under way asks for.
    asked: HashSet<Command>,
    /// Those of them that have failed, and how.
    failed: HashMap<Command, String>,
    /// Those that the configuration in force asks for.
    in_force: HashSet<Command>,
    /// The thread that runs them again; `None` before [`Commands::keep`].
    keeper: Option<Keeper>,
}

#[derive(Clone, Debug)]
struct Known {
    printed: Arc<str>,
    due: Instant,
}

#[derive(Debug)]
enum Keeper {
    /// It begins with the first command.
    Wanted,
    Runs(thread::Thread),
}

impl Commands {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a command prints, or has printed; the error is a sentence.
    pub(super) fn get(&self, command: &Command) -> Result<Arc<str>, String> {
        {
            let mut state = self.state();
            state.asked.insert(command.clone());
            if let Some(known) = state.known.get(command) {
                return Ok(Arc::clone(&known.printed));
            }
            if let Some(what) = state.failed.get(command) {
                return Err(what.clone());
            }
        }
        let output = command.output();
        let mut state = self.state();
        match &output {
            Ok(printed) => {
                let (printed, due) = (Arc::clone(printed), Instant::now() + command.every);
                state.known.insert(command.clone(), Known { printed, due });
            }
            Err(what) => drop(state.failed.insert(command.clone(), what.clone())),
        }
        output
    }

    /// Runs those that have not run, side by side.
    pub(super) fn prefetch<'a>(&self, commands: impl Iterator<Item = &'a Command>) {
        let mut waiting: Vec<&Command> = {
            let state = self.state();
            commands.filter(|command| !state.known.contains_key(*command)).collect()
        };
        waiting.sort_by(|a, b| a.run.cmp(&b.run));
        waiting.dedup();
        if waiting.len() < 2 {
            return;
        }
        for some in waiting.chunks(AT_ONCE) {
            thread::scope(|scope| {
                for command in some {
                    // What is wrong is told by whoever asks for it.
                    scope.spawn(|| drop(self.get(command)));
                }
            });
        }
    }

    /// Ends a load. What neither it nor the configuration in force asks for is forgotten.
    pub(in crate::config) fn loaded(self: &Arc<Self>, is_good: bool) {
        let mut state = self.state();
        let asked = std::mem::take(&mut state.asked);
        state.failed.clear();
        if is_good {
            state.in_force = asked;
        }
        let State { known, in_force, .. } = &mut *state;
        known.retain(|command, _| in_force.contains(command));
        self.begin(state);
    }

    /// Runs commands again at their intervals from now on.
    pub fn keep(self: &Arc<Self>) {
        let mut state = self.state();
        state.keeper.get_or_insert(Keeper::Wanted);
        self.begin(state);
    }

    fn begin(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        match &state.keeper {
            Some(Keeper::Wanted) if !state.known.is_empty() => {
                let commands = Arc::downgrade(self);
                let thread = thread::Builder::new().name("weft-secrets".into());
                match thread.spawn(move || keep(&commands)) {
                    Ok(handle) => state.keeper = Some(Keeper::Runs(handle.thread().clone())),
                    Err(error) => tracing::error!("no thread for commands of secrets: {error}"),
                }
            }
            Some(Keeper::Runs(thread)) => thread.unpark(),
            _ => {}
        }
    }

    /// Completes when a command has printed something else than before. Cancel-safe.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Runs what is due, and tells when something will be.
    fn refresh(&self) -> Option<Instant> {
        let now = Instant::now();
        let due: Vec<Command> = {
            let state = self.state();
            let due = state.known.iter().filter(|(_, known)| known.due <= now);
            due.map(|(command, _)| command.clone()).collect()
        };
        for command in due {
            let output = command.output();
            let mut state = self.state();
            let Some(known) = state.known.get_mut(&command) else { continue };
            match output {
                Ok(printed) => {
                    known.due = Instant::now() + command.every;
                    if printed != known.printed {
                        known.printed = printed;
                        self.changed.notify_one();
                    }
                }
                Err(what) => {
                    known.due = Instant::now() + command.every.min(AGAIN);
                    let program = command.run.first().map(|program| program.display().to_string());
                    tracing::warn!(
                        program,
                        "the command of a secret failed, and the secret stays as it was: {what}"
                    );
                }
            }
        }
        self.state().known.values().map(|known| known.due).min()
    }
}

fn keep(commands: &Weak<Commands>) {
    while let Some(commands) = commands.upgrade() {
        let due = commands.refresh();
        drop(commands);
        match due {
            Some(due) => thread::park_timeout(due.saturating_duration_since(Instant::now())),
            None => thread::park(),
        }
    }
}

impl Command {
    /// Runs it; the error is a sentence.
    fn output(&self) -> Result<Arc<str>, String> {
        let Some((program, arguments)) = self.run.split_first() else {
            return Err("no program is named".into());
        };
        let deadline = Instant::now() + self.timeout;
        let mut child = std::process::Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|error| format!("{} cannot be run: {error}", program.display()))?;
        let ended = self.read(&mut child, deadline).and_then(|bytes| {
            let status = self.wait(&mut child, deadline)?;
            Ok((bytes, status))
        });
        if ended.is_err() {
            end(&mut child);
        }
        let (bytes, status) = ended?;
        if !status.success() {
            return Err(match (status.code(), status.signal()) {
                (Some(code), _) => format!("its command exited with {code}"),
                (None, signal) => format!("its command ended by signal {}", signal.unwrap_or(0)),
            });
        }
        let text = text_of(bytes).map_err(|what| format!("what its command printed: {what}"))?;
        if text.is_empty() { Err("its command printed nothing".into()) } else { Ok(text.into()) }
    }

    fn late(&self) -> String {
        format!("its command took longer than {:?}", self.timeout)
    }

    fn read(&self, child: &mut Child, deadline: Instant) -> Result<Vec<u8>, String> {
        let Some(mut stdout) = child.stdout.take() else { return Ok(Vec::new()) };
        let mut bytes = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(self.late());
            }
            let wait = Timespec::try_from(left).ok();
            match poll(&mut [PollFd::new(&stdout, PollFlags::IN)], wait.as_ref()) {
                Ok(0) | Err(rustix::io::Errno::INTR) => continue,
                Ok(_) => {}
                Err(error) => return Err(format!("cannot wait for its command: {error}")),
            }
            match stdout.read(&mut buffer) {
                Ok(0) => return Ok(bytes),
                Ok(count) => bytes.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("cannot read from its command: {error}")),
            }
            if bytes.len() > BYTES_MAX {
                return Err(format!("its command prints more than {BYTES_MAX} bytes"));
            }
        }
    }

    fn wait(&self, child: &mut Child, deadline: Instant) -> Result<ExitStatus, String> {
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return Ok(status),
                Ok(None) if Instant::now() < deadline => thread::sleep(LOOK),
                Ok(None) => return Err(self.late()),
                Err(error) => return Err(format!("cannot wait for its command: {error}")),
            }
        }
    }
}

/// Ends a child and what it has started, and forgets it.
fn end(child: &mut Child) {
    let group = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(group) = group {
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let _ = child.kill();
    let _ = child.wait();
}
