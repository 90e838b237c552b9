//! Workers: spread, isolation, listeners that come and go, and drain.

use std::{
    cell::Cell,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_kernel::{Error, Name, Reason, SystemClock};
use weft_net::{
    AcceptedConnection, Address, ConnectTarget, Io, Stop, Worker, Workers, connect,
    listen::{self, Options},
};

use crate::stage::{LONG, bound, far, soon, until};

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

async fn workers(count: usize) -> Workers<Worker> {
    Workers::start(count, Stop::new(), async |worker| Ok(Rc::new(worker))).await.unwrap()
}

/// Answers each byte with the worker's index, until the caller ends or a drain asks for the end.
async fn echo(worker: Rc<Worker>, connection: AcceptedConnection) {
    let mut draining = connection.stop.draining();
    let mut socket = connection.socket;
    loop {
        tokio::select! {
            () = &mut draining => return,
            byte = socket.read_u8() => if byte.is_err() { return },
        }
        if socket.write_u8(worker.index() as u8).await.is_err() {
            return;
        }
    }
}

async fn open(address: &Address) -> Io {
    soon(connect(&ConnectTarget::plain(address.clone()), LONG)).await.unwrap().io
}

async fn ask(io: &mut Io) -> std::io::Result<u8> {
    io.write_u8(b'?').await?;
    soon(io.read_u8()).await
}

#[tokio::test]
async fn few_long_lived_connections_are_spread_evenly() {
    let workers = workers(3).await;
    let name = name("edge");
    workers.listen(&name, bound(3), echo).await.unwrap();
    let address = workers.address(&name).unwrap();
    let mut open_ones = Vec::new();
    for _ in 0..12 {
        let mut io = open(&address).await;
        ask(&mut io).await.unwrap();
        open_ones.push(io);
    }
    assert_eq!(workers.connections(), [4, 4, 4]);
    let mut by_worker = [0; 3];
    for io in &mut open_ones {
        by_worker[usize::from(ask(io).await.unwrap())] += 1;
    }
    assert_eq!(by_worker, [4, 4, 4], "each is served where it is counted");
    drop(open_ones);
    until(|| workers.connections() == [0, 0, 0]).await;
    assert_eq!(workers.drain(far()).await, 0);
}

#[tokio::test]
async fn each_worker_has_a_state_that_never_leaves_it() {
    // `Rc<Cell<_>>` would not compile if it were shared.
    let workers = Workers::start(2, Stop::new(), async |_| Ok(Rc::new(Rc::new(Cell::new(0u8)))))
        .await
        .unwrap();
    let name = name("edge");
    workers
        .listen(
            &name,
            bound(2),
            async |count: Rc<Rc<Cell<u8>>>, mut connection: AcceptedConnection| {
                count.set(count.get() + 1);
                let _ = connection.socket.write_u8(count.get()).await;
            },
        )
        .await
        .unwrap();
    let address = workers.address(&name).unwrap();
    let mut most = 0;
    for _ in 0..8 {
        most = most.max(soon(open(&address).await.read_u8()).await.unwrap());
    }
    assert!((4..=8).contains(&most), "{most}");
}

#[tokio::test]
async fn a_worker_that_cannot_start_says_which_and_why() {
    let failing = async |worker: Worker| match worker.index() {
        1 => Err(Error::new(Reason::Misconfigured, "no such device")),
        _ => Ok(Rc::new(())),
    };
    let error = Workers::start(2, Stop::new(), failing).await.unwrap_err();
    assert_eq!(error.to_string(), "worker 1: no such device");

    let panicking = async |_| -> weft_kernel::Result<Rc<()>> { panic!("on purpose") };
    let error = Workers::start(1, Stop::new(), panicking).await.unwrap_err();
    assert!(error.to_string().contains("panicked"), "{error}");
}

#[tokio::test]
async fn a_panic_ends_its_connection_alone() {
    let workers = workers(1).await;
    let name = name("edge");
    workers
        .listen(&name, bound(1), async |worker, mut connection: AcceptedConnection| {
            let first = connection.socket.read_u8().await;
            assert!(!matches!(first, Ok(b'!')), "on purpose");
            echo(worker, connection).await;
        })
        .await
        .unwrap();
    let address = workers.address(&name).unwrap();
    let mut steady = open(&address).await;
    steady.write_u8(b'.').await.unwrap();
    ask(&mut steady).await.unwrap();
    let mut doomed = open(&address).await;
    doomed.write_u8(b'!').await.unwrap();
    assert!(soon(doomed.read_u8()).await.is_err());
    until(|| workers.panics() == 1).await;
    ask(&mut steady).await.unwrap();
    assert_eq!(workers.connections(), [1]);
}

#[tokio::test]
async fn listeners_come_and_go_without_touching_others() {
    let workers = workers(2).await;
    let (kept, gone) = (name("kept"), name("gone"));
    workers.listen(&kept, bound(2), echo).await.unwrap();
    workers.listen(&gone, bound(2), echo).await.unwrap();
    let error = workers.listen(&gone, bound(1), echo).await.unwrap_err();
    assert!(error.to_string().contains("listener gone"), "{error}");
    let (kept_at, gone_at) = (workers.address(&kept).unwrap(), workers.address(&gone).unwrap());
    let mut held = open(&kept_at).await;
    let mut drained = open(&gone_at).await;
    ask(&mut held).await.unwrap();
    ask(&mut drained).await.unwrap();

    assert!(workers.unlisten(&gone, far()).await);
    assert!(!workers.unlisten(&gone, far()).await);
    assert!(soon(drained.read_u8()).await.is_err(), "its connections are asked to end");
    let refused = connect(&ConnectTarget::plain(gone_at.clone()), LONG).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::ConnectRefused);
    ask(&mut held).await.unwrap();

    // The address is free at once, for a listener of the same name.
    let again = listen::bind(&Options::new(gone_at.clone()), 2).unwrap();
    workers.listen(&gone, again, echo).await.unwrap();
    ask(&mut open(&gone_at).await).await.unwrap();
    ask(&mut held).await.unwrap();
}

#[tokio::test]
async fn settings_of_a_listener_change_without_a_refusal() {
    let workers = Arc::new(workers(2).await);
    let edge = name("edge");
    workers.listen(&edge, bound(2), echo).await.unwrap();
    let address = workers.address(&edge).unwrap();
    let connects = async {
        for _ in 0..150 {
            let io = connect(&ConnectTarget::plain(address.clone()), LONG).await;
            drop(io.expect("no connection is refused"));
        }
    };
    let changes = async {
        for _ in 0..15 {
            let sockets = workers.bound(&edge).unwrap().unwrap();
            assert!(workers.unlisten(&edge, far()).await);
            tokio::task::yield_now().await;
            workers.listen(&edge, sockets, echo).await.unwrap();
        }
    };
    soon(async { tokio::join!(connects, changes) }).await;
    ask(&mut open(&address).await).await.unwrap();
}

#[tokio::test]
async fn connections_of_a_removed_listener_are_cut_at_its_deadline() {
    let workers = workers(2).await;
    let name = name("edge");
    let stubborn = async |_: Rc<Worker>, mut connection: AcceptedConnection| {
        // Deaf to the drain: reads on until it is cut.
        while connection.socket.read_u8().await.is_ok() {}
    };
    workers.listen(&name, bound(2), stubborn).await.unwrap();
    let mut io = open(&workers.address(&name).unwrap()).await;
    until(|| workers.connections().iter().sum::<usize>() == 1).await;
    let deadline = SystemClock::tick().plus(Duration::from_millis(30));
    assert!(workers.unlisten(&name, deadline).await);
    assert!(soon(io.read_u8()).await.is_err());
    assert!(SystemClock::tick() >= deadline, "not before");
}

#[tokio::test]
async fn a_drain_waits_for_work_and_cuts_what_is_left() {
    let finished = Arc::new(AtomicUsize::new(0));
    let workers = workers(2).await;
    let (polite, stubborn) = (name("polite"), name("stubborn"));
    let count = Arc::clone(&finished);
    workers
        .listen(&polite, bound(2), move |_, mut connection| {
            let count = Arc::clone(&count);
            async move {
                connection.stop.draining().await;
                // The work in hand is finished first.
                let _ = connection.socket.write_all(b"done").await;
                count.fetch_add(1, Ordering::Relaxed);
            }
        })
        .await
        .unwrap();
    workers
        .listen(
            &stubborn,
            bound(2),
            async |_, mut connection: AcceptedConnection| {
                while connection.socket.read_u8().await.is_ok() {}
            },
        )
        .await
        .unwrap();
    let mut served = Vec::new();
    for _ in 0..4 {
        served.push(open(&workers.address(&polite).unwrap()).await);
    }
    let mut cut = open(&workers.address(&stubborn).unwrap()).await;
    until(|| workers.connections().iter().sum::<usize>() == 5).await;
    let deadline = SystemClock::tick().plus(Duration::from_millis(100));
    assert_eq!(soon(workers.drain(deadline)).await, 1);
    assert!(SystemClock::tick() >= deadline);
    assert_eq!(finished.load(Ordering::Relaxed), 4);
    for mut io in served {
        let mut text = String::new();
        soon(io.read_to_string(&mut text)).await.unwrap();
        assert_eq!(text, "done");
    }
    assert!(soon(cut.read_u8()).await.is_err());
    assert_eq!(workers.connections(), [0, 0]);
}

#[tokio::test]
async fn what_was_queued_when_the_drain_began_is_served() {
    let workers = workers(1).await;
    let name = name("edge");
    let sockets = bound(1);
    let address = sockets[0].address().clone();
    // Connected before anybody accepts, and drained before anything is read.
    let mut waiting = Vec::new();
    for _ in 0..8 {
        waiting.push(open(&address).await);
    }
    workers
        .listen(&name, sockets, async |_, mut connection: AcceptedConnection| {
            let _ = connection.socket.write_all(b"served").await;
        })
        .await
        .unwrap();
    soon(workers.drain(far())).await;
    for mut io in waiting {
        let mut text = String::new();
        soon(io.read_to_string(&mut text)).await.unwrap();
        assert_eq!(text, "served");
    }
}
