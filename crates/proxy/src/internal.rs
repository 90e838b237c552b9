//! The internal client: requests along the routes of this node, from any task on any thread.
//!
//! A request is handed to a worker, whose [`WorkerClient`] leads it along its route with all policies, as if a
//! client had sent it; the workers take turns. What is under way at once is bounded in number and in
//! bytes, and whoever drops the future gives the request up. On a worker's own thread a [`WorkerClient`] does
//! the same without the way across.

use std::{
    fmt,
    rc::Rc,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::timeout,
};
use weft_kernel::{Error, Name, Reason, Result};
use weft_net::clock;
use weft_wire::RequestHead;

use crate::{
    local::Local,
    worker_client::{Answered, Reading, WorkerClient, gone},
};

/// How long a request waits at most until it may begin, if it has no time of its own.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// The bounds of an internal client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The most requests under way; further ones wait. Default: 1024.
    pub in_flight_max: usize,
    /// The most bytes that bodies of requests, and responses as far as they may be read, take together.
    /// Default: 256 MiB.
    pub bytes_max: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { in_flight_max: 1024, bytes_max: 256 << 20 }
    }
}

/// A request on its way to a worker.
struct Job {
    route: Name,
    head: RequestHead,
    body: Bytes,
    reading: Reading,
    answer: oneshot::Sender<Result<Answered>>,
    /// Given back when the worker is done with it, however it ends.
    _permits: (OwnedSemaphorePermit, OwnedSemaphorePermit),
}

struct Shared {
    options: Options,
    workers: Mutex<Vec<mpsc::Sender<Job>>>,
    turn: AtomicUsize,
    in_flight: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
}

/// Sends requests along the routes of this node; its clones share their bounds.
#[derive(Clone)]
pub struct InternalClient(Arc<Shared>);

impl fmt::Debug for InternalClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InternalClient").field("options", &self.0.options).finish_non_exhaustive()
    }
}

impl InternalClient {
    /// A client that no worker serves yet.
    pub fn new(options: Options) -> Self {
        Self(Arc::new(Shared {
            options,
            workers: Mutex::default(),
            turn: AtomicUsize::new(0),
            in_flight: Arc::new(Semaphore::new(options.in_flight_max.max(1))),
            bytes: Arc::new(Semaphore::new(options.bytes_max as usize)),
        }))
    }

    fn workers(&self) -> MutexGuard<'_, Vec<mpsc::Sender<Job>>> {
        self.0.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a worker carry out its share, until it drains. To be called once by each worker, on its own
    /// runtime.
    pub fn serve(&self, local: &Rc<Local>) -> Result<()> {
        let client = Rc::new(WorkerClient::new(local.clone())?);
        // As many as may be under way, so that there is always room.
        let (to, mut jobs) = mpsc::channel(self.0.options.in_flight_max.max(1));
        self.workers().push(to);
        let (tasks, stop) = (local.tasks.clone(), local.stop.clone());
        local.tasks.spawn_local(async move {
            let mut draining = std::pin::pin!(stop.draining());
            loop {
                let job: Option<Job> = tokio::select! {
                    biased;
                    () = draining.as_mut() => return,
                    job = jobs.recv() => job,
                };
                let Some(job) = job else { return };
                tasks.spawn_local(carry_out(client.clone(), job));
            }
        });
        Ok(())
    }

    /// Sends a request by a route, and reads the answer within bounds, which count from now on. As
    /// [`WorkerClient::send`] says, not reaching a service is an answer too, with a
    /// [`reason`](Answered::reason). Cancelled when it is dropped.
    ///
    /// # Errors
    /// What kept the request from being led along its route: no such route, a node that drains
    /// ([`Reason::Draining`]), or too much under way for too long ([`Reason::Overload`]).
    pub async fn send(
        &self,
        route: &Name,
        head: RequestHead,
        body: Bytes,
        mut reading: Reading,
    ) -> Result<Answered> {
        let begun = clock::now();
        let longest = reading.whole_max.unwrap_or(WAIT_MAX).min(WAIT_MAX);
        let admit = self.admit(body.len(), reading.bytes_max);
        let admitted = timeout(longest, admit).await;
        let permits = admitted.unwrap_or_else(|_elapsed| {
            Err(Error::new(Reason::Overload, "too many internal requests are under way"))
        })?;
        let waited = clock::now().since(begun);
        reading.whole_max = reading.whole_max.map(|span| span.saturating_sub(waited));
        let (answer, answered) = oneshot::channel();
        let route = route.clone();
        self.hand_over(Job { route, head, body, reading, answer, _permits: permits })?;
        answered.await.unwrap_or_else(|_dropped| Err(gone()))
    }

    async fn admit(
        &self,
        body: usize,
        answer: usize,
    ) -> Result<(OwnedSemaphorePermit, OwnedSemaphorePermit)> {
        let most = self.0.options.bytes_max;
        let bytes = u32::try_from(body.saturating_add(answer)).ok().filter(|bytes| *bytes <= most);
        let bytes = bytes.ok_or_else(|| {
            let say = format!("an internal request and its answer may take {most} bytes at most");
            Error::new(Reason::BodyTooLarge, say)
        })?;
        // In one order for all, so that nobody waits for somebody who waits for them.
        let slot = self.0.in_flight.clone().acquire_owned().await;
        let bytes = self.0.bytes.clone().acquire_many_owned(bytes).await;
        match (slot, bytes) {
            (Ok(slot), Ok(bytes)) => Ok((slot, bytes)),
            _closed => Err(gone()),
        }
    }

    /// Gives a job to the next worker that takes any.
    fn hand_over(&self, mut job: Job) -> Result<()> {
        let workers = self.workers();
        let turn = self.0.turn.fetch_add(1, Relaxed);
        for at in 0..workers.len() {
            let worker = &workers[turn.wrapping_add(at) % workers.len()];
            job = match worker.try_send(job) {
                Ok(()) => return Ok(()),
                Err(error) => error.into_inner(),
            };
        }
        Err(gone())
    }
}

async fn carry_out(client: Rc<WorkerClient>, job: Job) {
    let Job { route, head, body, reading, mut answer, _permits } = job;
    let sent = tokio::select! {
        biased;
        () = answer.closed() => return,
        sent = client.send(&route, head, body, reading) => sent,
    };
    // Nobody listens if the future was dropped just now.
    let _ = answer.send(sent);
}
