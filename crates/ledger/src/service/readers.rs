//! Reading what is not in memory, off the lock and off the callers' threads.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::oneshot;
use weft_kernel::{Error, Reason, Result, SystemClock, memory::Spare};

use super::{Files, LONG};
use crate::{
    checkpoint::Checkpoint,
    core::{Cold, ReadJob, Want},
    record::Told,
    store::Pending,
};

/// The most reads that may wait; more are done by those who ask, which slows them down.
const WAITING_MAX: usize = 1024;

/// Reads that wait, and the files that they are from.
#[derive(Debug)]
pub(crate) struct Readers {
    files: Arc<Files>,
    state: Mutex<State>,
    changed: Condvar,
}

type Answers = Vec<Result<Told>>;

/// What a thread reads.
enum Job {
    Records(Vec<Want>, oneshot::Sender<Answers>),
    Checkpoint(ReadJob),
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Job")
    }
}

impl Job {
    fn run(self, files: &Files) {
        match self {
            // Who no longer waits needs no answer.
            Self::Records(wants, answer) => {
                if !answer.is_closed() {
                    let _ = answer.send(files.read(&wants));
                }
            }
            Self::Checkpoint(read) => read(&files.checkpoint),
        }
    }
}

#[derive(Debug, Default)]
struct State {
    running: bool,
    waiting: VecDeque<Job>,
}

impl Readers {
    /// No thread reads yet: until then who asks reads.
    pub(crate) fn new(files: Arc<Files>) -> Self {
        Self { files, state: Mutex::default(), changed: Condvar::new() }
    }

    /// From now on threads read.
    pub(crate) fn start(&self) {
        self.state.lock().running = true;
    }

    /// The threads end; who asks then reads.
    pub(crate) fn stop(&self) {
        self.state.lock().running = false;
        self.changed.notify_all();
    }

    /// Reads until it is told to stop, and what waits then.
    pub(crate) fn run(&self) {
        let mut spare = Spare::default();
        let mut state = self.state.lock();
        loop {
            if let Some(job) = state.waiting.pop_front() {
                drop(state);
                spare.worked(SystemClock::tick());
                job.run(&self.files);
                state = self.state.lock();
            } else if state.running {
                let _ = self.changed.wait_for(&mut state, spare.sleep(LONG));
                MutexGuard::unlocked(&mut state, || spare.look(SystemClock::tick()));
            } else {
                return;
            }
        }
    }

    /// Has a thread do it, or does it at once where none runs or too much waits.
    fn enqueue(&self, job: Job) {
        let mut state = self.state.lock();
        if !state.running || state.waiting.len() >= WAITING_MAX {
            drop(state);
            job.run(&self.files);
            return;
        }
        state.waiting.push_back(job);
        drop(state);
        self.changed.notify_one();
    }
}

impl Cold for Readers {
    fn read(&self, wants: Vec<Want>) -> Pending<'static, Answers> {
        let (answer, told) = oneshot::channel();
        let wanted = wants.len();
        self.enqueue(Job::Records(wants, answer));
        Box::pin(async move {
            told.await.unwrap_or_else(|_| {
                let gone = || Error::new(Reason::StorageBusy, "the ledger is being closed");
                std::iter::repeat_with(|| Err(gone())).take(wanted).collect()
            })
        })
    }

    fn spawn(&self, read: ReadJob) {
        self.enqueue(Job::Checkpoint(read));
    }

    fn checkpoint(&self) -> &Checkpoint {
        &self.files.checkpoint
    }
}
