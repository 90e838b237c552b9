//! One worker, on its own thread.

use std::{future::Future, rc::Rc, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::{
    runtime::{Builder, LocalOptions},
    sync::{mpsc, oneshot},
    time::sleep_until,
};
use weft_kernel::{Error, Name, Reason, Result, Tick};

use super::{
    AcceptedConnection, Command, Worker,
    load::{Counted, Loads},
    rest::watch_rest,
};
use crate::{
    Address, Phase, Socket, Stop, clock,
    io::Detached,
    listen::{Bound, Listener},
};

/// The pause after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

type Serve<W> = Box<dyn Fn(&Local<W>, AcceptedConnection, Counted) + Send + Sync>;

/// A listener as its workers share it.
pub(super) struct Listening<W> {
    name: Name,
    stop: Stop,
    serve: Serve<W>,
}

impl<W: 'static> Listening<W> {
    pub(super) fn new<F, Fut>(name: Name, stop: Stop, serve: F) -> Self
    where
        F: Fn(Rc<W>, AcceptedConnection) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        let serve: Serve<W> = Box::new(move |local, connection, counted| {
            let stop = connection.stop.clone();
            let work = serve(Rc::clone(&local.state), connection);
            local.worker.tasks.spawn_local_until(&stop, work.map(move |()| drop(counted)));
        });
        Self { name, stop, serve }
    }
}

/// A connection on its way from the worker that accepted it to the one that will serve it.
pub(super) struct Handed<W> {
    socket: Detached,
    peer: Address,
    counted: Counted,
    listening: Arc<Listening<W>>,
}

/// A worker, as its own tasks see it.
pub(super) struct Local<W> {
    worker: Worker,
    pub(super) state: Rc<W>,
    loads: Loads,
    others: Arc<[mpsc::Sender<Handed<W>>]>,
}

/// Runs a worker until its stop signal has been given and its work is done or cut.
pub(super) fn thread<W, F, Fut>(
    worker: Worker,
    commands: mpsc::Receiver<Command<W>>,
    handed: mpsc::Receiver<Handed<W>>,
    others: Arc<[mpsc::Sender<Handed<W>>]>,
    loads: Loads,
    init: &F,
    up: oneshot::Sender<Result<()>>,
) where
    W: 'static,
    F: Fn(Worker) -> Fut,
    Fut: Future<Output = Result<Rc<W>>> + 'static,
{
    let runtime =
        match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
            Ok(runtime) => runtime,
            Err(error) => {
                let error =
                    Error::new(Reason::Internal, "its runtime could not be made").because(error);
                // Whoever started it may have given up.
                let _ = up.send(Err(error));
                return;
            }
        };
    runtime.block_on(async {
        let state = match init(worker.clone()).await {
            Ok(state) => state,
            Err(error) => {
                let _ = up.send(Err(error));
                return;
            }
        };
        let _ = up.send(Ok(()));
        let local = Rc::new(Local { worker, state, loads, others });
        tokio::select! {
            () = serve(local, commands, handed) => {}
            never = watch_rest() => match never {},
        }
    });
}

async fn serve<W: 'static>(
    local: Rc<Local<W>>,
    mut commands: mpsc::Receiver<Command<W>>,
    mut handed: mpsc::Receiver<Handed<W>>,
) {
    let stop = local.worker.stop();
    let draining = stop.draining();
    tokio::pin!(draining);
    loop {
        tokio::select! {
            biased;
            () = &mut draining => break,
            Some(connection) = handed.recv() => local.take(connection),
            Some(command) = commands.recv() => command(&local),
        }
    }
    // A deadline that is brought forward later comes as the closing of the signal.
    let deadline = match stop.phase() {
        Phase::Draining { deadline } => deadline,
        Phase::Running | Phase::Closed => clock::now(),
    };
    let over = close_at(stop.clone(), deadline);
    tokio::pin!(over);
    loop {
        tokio::select! {
            biased;
            () = &mut over => break,
            Some(connection) = handed.recv() => local.take(connection),
            () = local.worker.tasks.idle() => {
                // The accept loops have ended, so at most a few are on their way from another worker.
                handed.close();
                let Ok(connection) = handed.try_recv() else { return };
                local.take(connection);
            }
        }
    }
    // Each task drops what it holds when it sees the signal.
    local.worker.tasks.idle().await;
}

/// Closes a signal at the deadline, unless somebody does so before.
pub(super) async fn close_at(stop: Stop, deadline: Tick) {
    match clock::instant(deadline) {
        Some(instant) => {
            tokio::select! {
                () = stop.closed() => {}
                () = sleep_until(instant) => stop.close(),
            }
        }
        None => stop.closed().await,
    }
}

impl<W: 'static> Local<W> {
    /// Begins to accept; the task lives until the listener's signal is given.
    pub(super) fn accept_from(
        self: &Rc<Self>,
        bound: Bound,
        listening: Arc<Listening<W>>,
        open: mpsc::Sender<()>,
    ) -> Result<()> {
        let listener = bound.into_listener()?;
        let accepting = accept(Rc::clone(self), listener, listening);
        self.worker.tasks.spawn_local(async move {
            // Dropped when the listener is, however this ends.
            let _open = open;
            accepting.await;
        });
        Ok(())
    }

    fn take(&self, handed: Handed<W>) {
        let Handed { socket, peer, counted, listening } = handed;
        match socket.attach() {
            Ok(socket) => self.begin(socket, peer, counted, &listening),
            Err(error) => tracing::warn!(%error, %peer, "a connection was lost between workers"),
        }
    }

    fn begin(
        &self,
        socket: Socket,
        peer: Address,
        counted: Counted,
        listening: &Arc<Listening<W>>,
    ) {
        let connection = AcceptedConnection { socket, peer, stop: listening.stop.clone() };
        (listening.serve)(self, connection, counted);
    }

    /// Serves a connection here, or hands it to a worker that has clearly fewer.
    fn place(&self, socket: Socket, peer: Address, listening: &Arc<Listening<W>>) {
        let me = self.worker.index;
        let permit = self
            .loads
            .better_than(me)
            .and_then(|index| Some((index, self.others[index].try_reserve().ok()?)));
        let Some((index, permit)) = permit else {
            return self.begin(socket, peer, self.loads.count(me), listening);
        };
        match Detached::new(socket) {
            Ok(socket) => {
                let counted = self.loads.count(index);
                permit.send(Handed { socket, peer, counted, listening: Arc::clone(listening) });
            }
            Err(error) => tracing::warn!(%error, %peer, "a connection was lost between workers"),
        }
    }
}

async fn accept<W: 'static>(local: Rc<Local<W>>, listener: Listener, listening: Arc<Listening<W>>) {
    let draining = listening.stop.draining();
    tokio::pin!(draining);
    let mut failing = false;
    loop {
        tokio::select! {
            biased;
            () = &mut draining => break,
            accepted = listener.accept() => match accepted {
                Ok((socket, peer)) => {
                    failing = false;
                    local.place(socket, peer, &listening);
                }
                Err(error) => {
                    if !failing {
                        failing = true;
                        let name = listening.name.as_str();
                        tracing::warn!(listener = name, %error, "connections cannot be accepted");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    // For these the handshake is done: closing the socket would reset them.
    while let Some((socket, peer)) = listener.accept_waiting() {
        local.begin(socket, peer, local.loads.count(local.worker.index), &listening);
    }
}
