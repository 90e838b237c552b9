//! Reading what is not in memory, off the lock and off the callers' threads.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::oneshot;
use weft_kernel::{Error, Reason, Result, SystemClock, memory::Spare};

use super::{Files, LONG};
use crate::{
    core::{Cold, Want},
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

#[derive(Debug, Default)]
struct State {
    running: bool,
    waiting: VecDeque<(Vec<Want>, oneshot::Sender<Answers>)>,
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
            if let Some((wants, answer)) = state.waiting.pop_front() {
                drop(state);
                spare.worked(SystemClock::tick());
                // Who no longer waits needs no answer.
                if !answer.is_closed() {
                    let _ = answer.send(self.files.read(&wants));
                }
                state = self.state.lock();
            } else if state.running {
                let _ = self.changed.wait_for(&mut state, spare.sleep(LONG));
                MutexGuard::unlocked(&mut state, || spare.look(SystemClock::tick()));
            } else {
                return;
            }
        }
    }
}

impl Cold for Readers {
    fn read(&self, wants: Vec<Want>) -> Pending<'static, Answers> {
        let mut state = self.state.lock();
        if !state.running || state.waiting.len() >= WAITING_MAX {
            drop(state);
            let told = self.files.read(&wants);
            return Box::pin(std::future::ready(told));
        }
        let (answer, told) = oneshot::channel();
        let wanted = wants.len();
        state.waiting.push_back((wants, answer));
        drop(state);
        self.changed.notify_one();
        Box::pin(async move {
            told.await.unwrap_or_else(|_| {
                let gone = || Error::new(Reason::StorageBusy, "the ledger is being closed");
                std::iter::repeat_with(|| Err(gone())).take(wanted).collect()
            })
        })
    }
}
