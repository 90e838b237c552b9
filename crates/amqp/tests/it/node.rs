//! A node on a disk in memory, with the front-end on it; everything runs on one thread.

use std::{cell::Cell, future::Future, rc::Rc, sync::Arc};

use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream},
    task::LocalSet,
};
use weft_amqp::{ClientPeer, Options, Server};
use weft_broker::{
    Broker,
    engine::{Engine, Engines},
};
use weft_kernel::{ByteSize, Rng, SystemClock};
use weft_ledger::{
    Ledger,
    disk::{SimulatedDisk, simulated::Faults},
};
use weft_net::{Stop, Tasks};

use crate::client::Client;

pub(crate) struct Node {
    pub(crate) engines: Engines,
    pub(crate) broker: Broker,
    pub(crate) disk: SimulatedDisk,
    ledger: Ledger,
    server: Server,
    tasks: Tasks,
    /// Whether the disk goes on.
    turning: Rc<Cell<bool>>,
    alive: Rc<Cell<bool>>,
}

fn ledger_options() -> weft_ledger::Options {
    weft_ledger::Options {
        wal_file_bytes: ByteSize(4 << 20),
        transaction_bytes_max: ByteSize(2 << 20),
        record_bytes_max: ByteSize(1 << 20),
        ..weft_ledger::Options::default()
    }
}

/// Runs a test on one thread; time stands still but for what the test lets pass.
pub(crate) fn run<F: Future<Output = ()>>(test: impl FnOnce() -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, test());
}

pub(crate) fn near() -> ClientPeer {
    ClientPeer { address: "test".into(), loopback: true, certificate: None }
}

impl Node {
    pub(crate) async fn new() -> Self {
        Self::with(SimulatedDisk::new(), Options::default()).await
    }

    pub(crate) async fn with(disk: SimulatedDisk, options: Options) -> Self {
        Self::beside(disk, options, Vec::new()).await
    }

    /// A node with other engines beside the embedded one.
    pub(crate) async fn beside(
        disk: SimulatedDisk,
        options: Options,
        others: Vec<Arc<dyn Engine>>,
    ) -> Self {
        let clock = Arc::new(SystemClock);
        let (ledger, _) =
            Ledger::open(Arc::new(disk.clone()), ledger_options(), clock.clone()).unwrap();
        let tasks = Tasks::new(Stop::new());
        let (turning, alive) = (Rc::new(Cell::new(true)), Rc::new(Cell::new(true)));
        let turn = {
            let (turning, alive, ledger) = (turning.clone(), alive.clone(), ledger.clone());
            async move {
                while alive.get() {
                    if turning.get() {
                        ledger.step();
                    }
                    tokio::task::yield_now().await;
                }
            }
        };
        tasks.spawn_local(turn);
        let broker = Broker::open(Arc::new(ledger.clone()), clock, Rng::seeded(7)).await.unwrap();
        let engines = Engines::open(broker.clone(), others).await.unwrap();
        let server = Server::open(engines.clone(), options, "test").await.unwrap();
        let maintained = broker.clone();
        let keeping = alive.clone();
        tasks.spawn_local(async move {
            while keeping.get() {
                let _ = maintained.maintain_once().await;
                tokio::task::yield_now().await;
            }
        });
        Self { engines, broker, disk, ledger, server, tasks, turning, alive }
    }

    /// Stops or resumes the disk.
    pub(crate) fn turn(&self, on: bool) {
        self.turning.set(on);
    }

    /// Lets a disk that was stopped write once what waits for it.
    pub(crate) fn turn_once(&self) {
        self.ledger.step();
    }

    /// Lets the disk take no more than it has.
    pub(crate) fn fill_disk(&self) {
        let there = self.disk.files().iter().map(|(_, bytes)| bytes).sum();
        self.disk.set_faults(Faults { bytes_max: Some(there), ..Faults::default() });
    }

    /// Asks every connection to end.
    pub(crate) fn drain(&self) {
        self.tasks.stop().drain(weft_kernel::Tick::NEVER);
    }

    /// A connection that was greeted and logged in.
    pub(crate) async fn connect(&self) -> Client {
        let mut client = self.dial(near());
        client.open("guest", "guest", "/").await;
        client
    }

    /// A connection of which nothing was said yet.
    pub(crate) fn dial(&self, peer: ClientPeer) -> Client {
        self.dial_over(peer, |io| io)
    }

    /// The same over what `wrap` makes of the server's end.
    pub(crate) fn dial_over<IO>(
        &self,
        peer: ClientPeer,
        wrap: impl FnOnce(DuplexStream) -> IO,
    ) -> Client
    where
        IO: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let theirs = wrap(theirs);
        let (server, stop) = (self.server.clone(), self.tasks.stop().clone());
        self.tasks.spawn_local(async move { server.serve(theirs, peer, stop).await });
        Client::new(ours)
    }

    /// The power fails, and comes back.
    pub(crate) async fn crash(self, seed: u64) -> Self {
        self.alive.set(false);
        self.disk.halt();
        self.tasks.stop().close();
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let disk = self.disk.clone();
        drop(self);
        disk.restart(&mut Rng::seeded(seed));
        Self::with(disk, Options::default()).await
    }

    /// Stops in order, and starts again.
    pub(crate) async fn restart(self) -> Self {
        self.drain();
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        self.alive.set(false);
        self.broker.close();
        self.ledger.close().unwrap();
        self.tasks.stop().close();
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let disk = self.disk.clone();
        drop(self);
        Self::with(disk, Options::default()).await
    }
}
