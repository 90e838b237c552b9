//! One process takes over from another while clients never stop connecting.

use std::{
    os::{fd::OwnedFd, unix::fs::PermissionsExt},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    task::JoinSet,
};
use weft_kernel::{Name, Result};
use weft_net::{
    AcceptedConnection, ConnectTarget, Stop, Workers, connect,
    handover::{self, Offer},
    listen::{self, Options},
};

use crate::stage::{LONG, bound, far, soon, until};

async fn generation(number: u8, count: usize) -> Workers<u8> {
    Workers::start(count, Stop::new(), move |_| async move { Ok(Rc::new(number)) }).await.unwrap()
}

/// Says which generation serves.
async fn sign(number: Rc<u8>, mut connection: AcceptedConnection) {
    let _ = connection.socket.write_u8(*number).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_connection_is_refused_while_generations_change() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("handover.sock");
    let edge = Name::new("edge").unwrap();
    let first = generation(0, 2).await;
    first.listen(&edge, bound(2), sign).await.unwrap();
    let address = first.address(&edge).unwrap();
    let offer = Offer::bind(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

    let over = Arc::new(AtomicBool::new(false));
    let served = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for _ in 0..4 {
        let (over, served) = (Arc::clone(&over), Arc::clone(&served));
        let target = ConnectTarget::plain(address.clone());
        clients.spawn(async move {
            let mut seen = Vec::new();
            let mut is_last = false;
            while !is_last {
                // One more once it is over: a client may have stood still meanwhile.
                is_last = over.load(Ordering::Relaxed);
                let mut io = connect(&target, LONG).await.expect("refused").io;
                seen.push(soon(io.read_u8()).await.expect("accepted, but not served"));
                served.fetch_add(1, Ordering::Relaxed);
            }
            seen
        });
    }

    let mut running = (first, offer);
    for number in 1..=3u8 {
        let before = served.load(Ordering::Relaxed);
        until(|| served.load(Ordering::Relaxed) > before + 50).await;
        let (old, old_offer) = running;
        let hand_over = async {
            old_offer.taken(|| old.sockets(), LONG).await.unwrap();
            assert_eq!(old.drain(far()).await, 0);
        };
        let take_over = async {
            let taken = handover::take(&path).await.unwrap().expect("somebody offers");
            assert!(taken.sockets.iter().all(|(name, _)| *name == "edge"));
            // Another number of workers than before, to spread the sockets anew.
            let count = usize::from(1 + number % 3);
            let new = generation(number, count).await;
            let mut taken = taken;
            let fds = std::mem::take(&mut taken.sockets).into_iter().map(|(_, fd)| fd).collect();
            let sockets = listen::adopt(fds, &Options::new(address.clone()), count).unwrap();
            new.listen(&edge, sockets, sign).await.unwrap();
            let offer = Offer::bind(&path).unwrap();
            taken.ready().await.unwrap();
            (new, offer)
        };
        let ((), next) = soon(async { tokio::join!(hand_over, take_over) }).await;
        running = next;
    }
    let before = served.load(Ordering::Relaxed);
    until(|| served.load(Ordering::Relaxed) > before + 50).await;
    over.store(true, Ordering::Relaxed);
    while let Some(seen) = soon(clients.join_next()).await {
        let seen = seen.unwrap();
        assert_eq!(seen.first(), Some(&0));
        assert_eq!(seen.last(), Some(&3));
    }
}

fn some_sockets() -> Result<Vec<(String, OwnedFd)>> {
    let fds = bound(300).into_iter().map(|bound| {
        let fd = std::os::fd::AsFd::as_fd(&bound).try_clone_to_owned().unwrap();
        (format!("listener-{}", bound.address()), fd)
    });
    Ok(fds.collect())
}

#[tokio::test]
async fn many_sockets_keep_their_names_and_a_failed_successor_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("handover.sock");
    assert!(handover::take(&path).await.unwrap().is_none());
    let offer = Offer::bind(&path).unwrap();
    let successors = async {
        // One dies with the sockets in hand, one never becomes ready, one is not Weft.
        drop(handover::take(&path).await.unwrap().unwrap());
        let slow = handover::take(&path).await.unwrap().unwrap();
        let mut other = UnixStream::connect(&path).await.unwrap();
        other.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        let taken = handover::take(&path).await.unwrap().unwrap();
        assert_eq!(taken.sockets.len(), 300);
        let port = taken.sockets[0].0.clone();
        assert!(taken.sockets.iter().all(|(name, _)| *name == port));
        taken.ready().await.unwrap();
        assert!(slow.ready().await.is_err());
    };
    let offered = offer.taken(some_sockets, Duration::from_millis(200));
    let (taken, ()) = soon(async { tokio::join!(offered, successors) }).await;
    taken.unwrap();
}

#[tokio::test]
async fn another_version_or_a_hostile_count_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (answer, what) in [
        (&b"weft\0\x02"[..], "another version"),
        (b"HTTP/1", "not Weft"),
        (b"weft\0\x01\xff\xff", "broke the protocol"),
        (b"weft\0\x01\0\x01\0\x04edge", "a socket is missing"),
        (b"weft\0\x01\0\x01\xff\xff", "too long"),
        (b"weft\0", "broke off"),
    ] {
        let path = folder.path().join("old.sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let old = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(answer).await.unwrap();
            stream.shutdown().await.unwrap();
            // The hello is read, so that the close is no reset.
            let _ = stream.read_to_end(&mut Vec::new()).await;
        };
        let (error, ()) = soon(async { tokio::join!(handover::take(&path), old) }).await;
        let error = error.unwrap_err();
        assert!(error.detail().contains(what), "{answer:?}: {}", error.detail());
        std::fs::remove_file(&path).unwrap();
    }
}
