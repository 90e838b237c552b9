//! Worker threads: each has a runtime of its own, accepts for itself, and shares no task with others.
//!
//! A connection lives and dies on one worker, so that its work needs no lock, no `Send` and no wake-up
//! of another core. The kernel spreads connections over the workers' sockets by a hash, which leaves
//! a few long-lived ones unevenly spread; a worker that has clearly more than the least loaded hands
//! the next one over before it is read from. Listeners come and go at run time, and each has a stop
//! signal of its own; other listeners' connections never notice. A panic ends its task alone.

mod load;
mod rest;
mod run;

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    io,
    os::fd::{AsFd, OwnedFd},
    rc::Rc,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tokio::sync::{mpsc, oneshot};
use weft_kernel::{Error, Name, Reason, Result, Tick};

pub use self::rest::watch_rest;
use self::{
    load::Loads,
    run::{Handed, Listening, Local},
};
use crate::{Address, Socket, Stop, Tasks, clock, listen::Bound};

/// Changes of listeners that may wait for a worker.
const COMMANDS_MAX: usize = 64;
/// Connections that may wait to be taken by the worker they were handed to.
const HANDED_MAX: usize = 256;
/// How long dropping what was cut may take.
const CUT_TIME: Duration = Duration::from_secs(5);

/// What a worker's start is given: who it is, and where its tasks are counted.
#[derive(Clone, Debug)]
pub struct Worker {
    index: usize,
    tasks: Tasks,
}

impl Worker {
    /// Which worker it is, from 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Where its tasks are spawned.
    pub fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// The signal that ends all workers.
    pub fn stop(&self) -> &Stop {
        self.tasks.stop()
    }
}

/// An accepted connection, of which nothing was read yet.
#[derive(Debug)]
pub struct AcceptedConnection {
    /// The socket.
    pub socket: Socket,
    /// The other end.
    pub peer: Address,
    /// Draining when its listener is removed or all of Weft stops; its task is cut when closed.
    pub stop: Stop,
}

type Command<W> = Box<dyn FnOnce(&Rc<Local<W>>) + Send>;

struct Thread<W> {
    commands: mpsc::Sender<Command<W>>,
    tasks: Tasks,
    ended: Mutex<Option<oneshot::Receiver<()>>>,
}

struct Listed {
    sockets: Vec<Bound>,
    stop: Stop,
    /// Ends when the last accept loop has; nothing is ever sent.
    closed: mpsc::Receiver<()>,
}

/// The worker threads, each with a state `W` that never leaves its thread.
///
/// Dropping them cuts everything; [`Workers::drain`] first lets it finish.
pub struct Workers<W> {
    threads: Vec<Thread<W>>,
    loads: Loads,
    listeners: Mutex<HashMap<Name, Listed>>,
    stop: Stop,
}

impl<W> fmt::Debug for Workers<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers").field("connections", &self.connections()).finish_non_exhaustive()
    }
}

impl<W: 'static> Workers<W> {
    /// Starts `count` workers (at least one) and waits until `init` has made each one's state.
    pub async fn start<F, Fut>(count: usize, stop: Stop, init: F) -> Result<Self>
    where
        F: Fn(Worker) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Rc<W>>> + 'static,
    {
        let count = count.max(1);
        let loads = Loads::new(count);
        let init = Arc::new(init);
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..count).map(|_| mpsc::channel::<Handed<W>>(HANDED_MAX)).unzip();
        let senders: Arc<[_]> = senders.into();
        let mut threads = Vec::with_capacity(count);
        let mut started = Vec::with_capacity(count);
        for (index, handed) in receivers.into_iter().enumerate() {
            let worker = Worker { index, tasks: Tasks::new(stop.clone()) };
            let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
            let (up, is_up) = oneshot::channel();
            let (end, ended) = oneshot::channel();
            threads.push(Thread {
                commands,
                tasks: worker.tasks.clone(),
                ended: Mutex::new(Some(ended)),
            });
            let (init, loads, senders) = (Arc::clone(&init), loads.clone(), Arc::clone(&senders));
            thread::Builder::new()
                .name(format!("weft-worker-{index}"))
                .spawn(move || {
                    run::thread(worker, inbox, handed, senders, loads, &*init, up);
                    // Whoever waited may be gone.
                    let _ = end.send(());
                })
                .map_err(|error| broken("a worker thread could not be started").because(error))?;
            started.push(is_up);
        }
        let workers = Self { threads, loads, listeners: Mutex::default(), stop };
        for (index, is_up) in started.into_iter().enumerate() {
            is_up
                .await
                .map_err(|error| broken("it panicked while it was starting").because(error))
                .flatten()
                .map_err(|error| error.at(format!("worker {index}")))?;
        }
        Ok(workers)
    }

    /// How many there are; bind as many sockets for a listener.
    pub fn count(&self) -> usize {
        self.threads.len()
    }

    /// Serves a listener: once this returns, every worker accepts from its socket.
    ///
    /// Each connection becomes a task on its worker that runs `serve` and is cut when the
    /// connection's stop signal is closed. The name must be free.
    pub async fn listen<F, Fut>(&self, name: &Name, sockets: Vec<Bound>, serve: F) -> Result<()>
    where
        F: Fn(Rc<W>, AcceptedConnection) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        let place = || format!("listener {name}");
        let stop = self.stop.child();
        let listening = Arc::new(Listening::new(name.clone(), stop.clone(), serve));
        let (open, closed) = mpsc::channel(1);
        let shares = sockets.iter().map(Bound::try_clone).collect::<Result<Vec<_>>>()?;
        {
            let mut listeners = self.listeners();
            if listeners.contains_key(name) {
                return Err(
                    Error::new(Reason::Internal, "a listener of that name is there").at(place())
                );
            }
            listeners.insert(name.clone(), Listed { sockets, stop, closed });
        }
        let mut accepting = Vec::with_capacity(shares.len());
        for (index, bound) in shares.into_iter().enumerate() {
            let (listening, open) = (Arc::clone(&listening), open.clone());
            let (done, is_done) = oneshot::channel();
            let command: Command<W> = Box::new(move |local| {
                // Whoever asked may have given up; the listener then goes with its entry.
                let _ = done.send(local.accept_from(bound, listening, open));
            });
            self.command(index, command).await.map_err(|error| error.at(place()))?;
            accepting.push(is_done);
        }
        for is_done in accepting {
            let result = is_done
                .await
                .map_err(|error| broken("a worker ended meanwhile").because(error))
                .flatten();
            if let Err(error) = result {
                let listed = self.listeners().remove(name);
                if let Some(listed) = listed {
                    listed.stop.close();
                }
                return Err(error.at(place()));
            }
        }
        Ok(())
    }

    /// Stops a listener: accepts no more, lets its connections finish, and cuts them at `deadline`.
    ///
    /// Returns when no worker holds its socket any more; whether there was such a listener. Not
    /// cancel-safe: a deadline that was not passed on does not cut. To listen
    /// there again with other settings and refuse nobody meanwhile, take [`Workers::bound`] before.
    pub async fn unlisten(&self, name: &Name, deadline: Tick) -> bool {
        let Some(listed) = self.listeners().remove(name) else {
            return false;
        };
        let Listed { sockets, stop, mut closed } = listed;
        stop.drain(deadline);
        // The workers hold descriptors of their own until they have emptied the queues.
        drop(sockets);
        let until = stop.clone();
        let cut: Command<W> = Box::new(move |_| {
            // Not counted: a drain of everything need not wait for this deadline.
            tokio::task::spawn_local(run::close_at(until, deadline));
        });
        if self.command(0, cut).await.is_err() {
            stop.close();
        }
        // `None` at last: all senders are gone, since nothing is ever sent.
        while closed.recv().await.is_some() {}
        true
    }

    /// Further descriptors of a listener's sockets, with the same queues; `None` if there is none.
    pub fn bound(&self, name: &Name) -> Result<Option<Vec<Bound>>> {
        let listeners = self.listeners();
        listeners
            .get(name)
            .map(|listed| listed.sockets.iter().map(Bound::try_clone).collect())
            .transpose()
    }

    /// Another descriptor of every listening socket, with its listener's name, for a handover.
    pub fn sockets(&self) -> Result<Vec<(String, OwnedFd)>> {
        let listeners = self.listeners();
        let mut sockets = Vec::new();
        for (name, listed) in listeners.iter() {
            for socket in &listed.sockets {
                let socket = socket.as_fd().try_clone_to_owned().map_err(|error: io::Error| {
                    broken("a listening socket could not be duplicated").because(error)
                })?;
                sockets.push((name.to_string(), socket));
            }
        }
        Ok(sockets)
    }

    /// Does something with the state of every worker, on its own thread, and returns when all have done it.
    pub async fn each(&self, act: impl Fn(&Rc<W>) + Clone + Send + 'static) -> Result<()> {
        let mut acting = Vec::with_capacity(self.threads.len());
        for index in 0..self.threads.len() {
            let act = act.clone();
            let (done, is_done) = oneshot::channel();
            let command: Command<W> = Box::new(move |local| {
                act(&local.state);
                // Whoever asked may have given up.
                let _ = done.send(());
            });
            self.command(index, command).await?;
            acting.push(is_done);
        }
        for is_done in acting {
            is_done.await.map_err(|error| broken("a worker ended meanwhile").because(error))?;
        }
        Ok(())
    }

    /// Where a listener listens, with the real port; `None` if there is none of that name.
    pub fn address(&self, name: &Name) -> Option<Address> {
        Some(self.listeners().get(name)?.sockets.first()?.address().clone())
    }

    /// Stops: accepts no more, waits for all work, and cuts at `deadline` what is left.
    ///
    /// How many tasks were cut since the start.
    pub async fn drain(&self, deadline: Tick) -> u64 {
        self.stop.drain(deadline);
        self.listeners().clear();
        let ended: Vec<_> = self
            .threads
            .iter()
            .filter_map(|thread| thread.ended.lock().unwrap_or_else(PoisonError::into_inner).take())
            .collect();
        let left = deadline.since(clock::now()).saturating_add(CUT_TIME);
        let all = futures_util::future::join_all(ended);
        if tokio::time::timeout(left, all).await.is_err() {
            tracing::error!("a worker did not end: one of its tasks holds its thread");
            self.stop.close();
        }
        self.threads.iter().map(|thread| thread.tasks.cut()).sum()
    }
}

impl<W> Workers<W> {
    /// How many connections each worker has.
    pub fn connections(&self) -> Vec<usize> {
        self.loads.all()
    }

    /// How many tasks have panicked.
    pub fn panics(&self) -> u64 {
        self.threads.iter().map(|thread| thread.tasks.panics()).sum()
    }

    fn listeners(&self) -> MutexGuard<'_, HashMap<Name, Listed>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn command(&self, index: usize, command: Command<W>) -> Result<()> {
        let thread = &self.threads[index % self.threads.len()];
        thread.commands.send(command).await.map_err(|_ended| broken("the workers have ended"))
    }
}

impl<W> Drop for Workers<W> {
    fn drop(&mut self) {
        self.stop.close();
    }
}

fn broken(say: &'static str) -> Error {
    Error::new(Reason::Internal, say)
}
