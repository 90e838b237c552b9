//! Counted tasks and the signal that ends them: drain waits for all work, then cuts it.
//!
//! A [`Stop`] only moves forward: running, draining, closed. Reading it is one atomic load, and a
//! future that waits for it takes a lock when it is first polled and when it is dropped, never in
//! between, so a connection may keep one in its `select!` at no cost per request.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use pin_project_lite::pin_project;
use slab::Slab;
use tokio::sync::Notify;
use weft_kernel::Tick;

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Business as usual.
    Running,
    /// Finish what has begun, take nothing new, be done by the deadline.
    Draining {
        /// When the rest is cut.
        deadline: Tick,
    },
    /// Over: drop everything.
    Closed,
}

const RUNNING: u8 = 0;
const DRAINING: u8 = 1;
const CLOSED: u8 = 2;

/// A stop signal; clones share it, and every thread may hold one.
#[derive(Clone, Debug)]
pub struct Stop(Arc<Signal>);

#[derive(Debug)]
struct Signal {
    phase: AtomicU8,
    deadline: AtomicU64,
    listeners: Mutex<Listeners>,
}

#[derive(Debug, Default)]
struct Listeners {
    wakers: Slab<Waker>,
    children: Vec<Weak<Signal>>,
}

impl Default for Stop {
    fn default() -> Self {
        Self::new()
    }
}

impl Stop {
    /// A signal that nobody has given yet.
    pub fn new() -> Self {
        Self(Arc::new(Signal {
            phase: AtomicU8::new(RUNNING),
            deadline: AtomicU64::new(Tick::NEVER.nanos()),
            listeners: Mutex::default(),
        }))
    }

    /// A signal that follows this one and can be given for itself, to stop a part of the whole.
    pub fn child(&self) -> Self {
        let child = Self::new();
        {
            let mut listeners = self.0.lock();
            listeners.children.retain(|other| other.strong_count() > 0);
            listeners.children.push(Arc::downgrade(&child.0));
        }
        // After it was entered, so that a phase that came in between is seen here or passed on.
        match self.phase() {
            Phase::Running => {}
            Phase::Draining { deadline } => child.drain(deadline),
            Phase::Closed => child.close(),
        }
        child
    }

    /// Asks for the end by `deadline`; a second call can only bring the deadline forward.
    pub fn drain(&self, deadline: Tick) {
        self.0.deadline.fetch_min(deadline.nanos(), Ordering::AcqRel);
        self.0.advance(DRAINING);
    }

    /// Ends everything now.
    pub fn close(&self) {
        self.0.advance(CLOSED);
    }

    /// How far the end has come.
    pub fn phase(&self) -> Phase {
        match self.0.phase.load(Ordering::Acquire) {
            RUNNING => Phase::Running,
            DRAINING => Phase::Draining { deadline: self.deadline() },
            _ => Phase::Closed,
        }
    }

    fn deadline(&self) -> Tick {
        Tick::from_nanos(self.0.deadline.load(Ordering::Acquire))
    }

    /// Whether nothing new should begin.
    #[inline]
    pub fn is_draining(&self) -> bool {
        self.0.phase.load(Ordering::Relaxed) >= DRAINING
    }

    /// Whether it is over.
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.0.phase.load(Ordering::Relaxed) >= CLOSED
    }

    /// Completes when draining begins; make it once for a connection, not for each request.
    pub fn draining(&self) -> Reached {
        self.reached(DRAINING)
    }

    /// Completes when it is over.
    pub fn closed(&self) -> Reached {
        self.reached(CLOSED)
    }

    fn reached(&self, wanted: u8) -> Reached {
        Reached { signal: Arc::clone(&self.0), wanted, entry: None }
    }
}

impl Signal {
    fn lock(&self) -> MutexGuard<'_, Listeners> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn advance(&self, to: u8) {
        let before = self.phase.fetch_max(to, Ordering::AcqRel);
        let (wakers, children) = {
            let mut listeners = self.lock();
            // The futures keep their keys, so the entries stay until each is dropped.
            let wakers: Vec<Waker> = if before < to {
                listeners.wakers.iter().map(|(_, waker)| waker.clone()).collect()
            } else {
                Vec::new()
            };
            listeners.children.retain(|child| child.strong_count() > 0);
            (wakers, listeners.children.clone())
        };
        let deadline = self.deadline.load(Ordering::Acquire);
        for child in children.iter().filter_map(Weak::upgrade) {
            child.deadline.fetch_min(deadline, Ordering::AcqRel);
            child.advance(to);
        }
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// Waits for a [`Stop`] to reach a phase; cancel-safe, and complete for ever once complete.
#[derive(Debug)]
pub struct Reached {
    signal: Arc<Signal>,
    wanted: u8,
    entry: Option<(usize, Waker)>,
}

impl Future for Reached {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if this.signal.phase.load(Ordering::Acquire) >= this.wanted {
            return Poll::Ready(());
        }
        match &mut this.entry {
            Some((_, waker)) if waker.will_wake(cx.waker()) => return Poll::Pending,
            Some((key, waker)) => {
                waker.clone_from(cx.waker());
                this.signal.lock().wakers[*key] = waker.clone();
            }
            None => {
                let key = this.signal.lock().wakers.insert(cx.waker().clone());
                this.entry = Some((key, cx.waker().clone()));
            }
        }
        // Again: the phase may have moved before the waker was entered.
        if this.signal.phase.load(Ordering::Acquire) >= this.wanted {
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

impl Drop for Reached {
    fn drop(&mut self) {
        if let Some((key, _)) = self.entry {
            self.signal.lock().wakers.try_remove(key);
        }
    }
}

/// Spawns tasks and counts them; clones share the count.
#[derive(Clone, Debug)]
pub struct Tasks(Arc<Tally>);

#[derive(Debug)]
struct Tally {
    stop: Stop,
    running: AtomicUsize,
    panics: AtomicU64,
    cut: AtomicU64,
    emptied: Notify,
}

impl Tasks {
    /// Tasks that are cut when `stop` is closed.
    pub fn new(stop: Stop) -> Self {
        Self(Arc::new(Tally {
            stop,
            running: AtomicUsize::new(0),
            panics: AtomicU64::new(0),
            cut: AtomicU64::new(0),
            emptied: Notify::new(),
        }))
    }

    /// The signal that cuts them.
    pub fn stop(&self) -> &Stop {
        &self.0.stop
    }

    /// Runs a future on this thread, and cuts it when the tasks' signal is closed.
    ///
    /// # Panics
    /// Outside a `LocalSet` or a local runtime; a [`Worker`](crate::Worker) has one.
    pub fn spawn_local(&self, future: impl Future<Output = ()> + 'static) {
        self.spawn_local_until(&self.0.stop, future);
    }

    /// Runs a future as [`Tasks::spawn_local`] does, and cuts it when `stop` is closed; `stop` is the
    /// tasks' own or a child of it.
    ///
    /// # Panics
    /// Outside a `LocalSet` or a local runtime.
    pub fn spawn_local_until(&self, stop: &Stop, future: impl Future<Output = ()> + 'static) {
        tokio::task::spawn_local(self.counted(stop, future, false));
    }

    /// Runs a part of the work of another task as [`Tasks::spawn_local`] does. When they are cut that is
    /// one, not two.
    ///
    /// # Panics
    /// Outside a `LocalSet` or a local runtime.
    pub fn spawn_part(&self, future: impl Future<Output = ()> + 'static) {
        tokio::task::spawn_local(self.counted(&self.0.stop, future, true));
    }

    /// Runs a future on the runtime this is called in, on any of its threads.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        // The one place where tasks that move between threads are born.
        #[allow(clippy::disallowed_methods)]
        tokio::spawn(self.counted(&self.0.stop, future, false));
    }

    fn counted<F: Future<Output = ()>>(&self, stop: &Stop, future: F, part: bool) -> Counted<F> {
        // Entered before it is first polled, so that what is spawned is never missed.
        self.0.running.fetch_add(1, Ordering::AcqRel);
        Counted { closed: stop.closed(), future, part, entry: Entry(Arc::clone(&self.0)) }
    }

    /// How many are running.
    pub fn count(&self) -> usize {
        self.0.running.load(Ordering::Acquire)
    }

    /// How many have panicked; a panic ends its task alone.
    pub fn panics(&self) -> u64 {
        self.0.panics.load(Ordering::Relaxed)
    }

    /// How many were cut before they were done, without those that are part of others.
    pub fn cut(&self) -> u64 {
        self.0.cut.load(Ordering::Relaxed)
    }

    /// Completes when none is running.
    pub async fn idle(&self) {
        loop {
            let emptied = self.0.emptied.notified();
            tokio::pin!(emptied);
            // Enlisted before the count is read, or the last task could end unheard in between.
            emptied.as_mut().enable();
            if self.count() == 0 {
                return;
            }
            emptied.await;
        }
    }
}

pin_project! {
    /// A task's work until it is done or cut. Not an `async` block: that would hold the work twice, as
    /// what it was given and as what it waits for, and there is one for each connection.
    struct Counted<F> {
        closed: Reached,
        #[pin]
        future: F,
        // Whether it is part of another task's work, which tells when it is cut.
        part: bool,
        // Dropped last.
        entry: Entry,
    }
}

impl<F: Future<Output = ()>> Future for Counted<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let is_closed = Pin::new(this.closed).poll(cx).is_ready();
        // Polled for the last time even so: a relay then tells what it has carried.
        let done = this.future.poll(cx);
        if is_closed {
            this.entry.0.cut.fetch_add(u64::from(!*this.part), Ordering::Relaxed);
            return Poll::Ready(());
        }
        done
    }
}

/// One running task; leaves the count however the task ends.
#[derive(Debug)]
struct Entry(Arc<Tally>);

impl Drop for Entry {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.panics.fetch_add(1, Ordering::Relaxed);
            tracing::error!("a task panicked; its connection is lost, all others go on");
        }
        if self.0.running.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.emptied.notify_waiters();
        }
    }
}
