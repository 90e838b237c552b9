//! Binding, accepting, and being told why not.

use std::{
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::PermissionsExt,
    },
    time::Duration,
};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_kernel::Reason;
use weft_net::{
    Address, ConnectTarget, Listener, Socket, connect,
    listen::{self, Options},
};

use crate::stage::{LONG, bound, listener, local, soon};

/// Sends a byte through a new connection to `address` and sees it come out of `listener`.
async fn passes(listener: &Listener, address: &Address) -> (Socket, Address) {
    soon(async {
        let mut client = connect(&ConnectTarget::plain(address.clone()), LONG).await.unwrap().io;
        let (mut socket, peer) = listener.accept().await.unwrap();
        client.write_all(b"x").await.unwrap();
        assert_eq!(socket.read_u8().await.unwrap(), b'x');
        (socket, peer)
    })
    .await
}

#[tokio::test]
async fn what_is_accepted_has_the_options_of_the_listener() {
    let listener = listener();
    let (socket, peer) = passes(&listener, listener.address()).await;
    assert_eq!(Some(peer), socket.peer());
    assert_eq!(socket.local().as_ref(), Some(listener.address()));
    let Socket::Tcp(tcp) = &socket else { panic!("{socket:?}") };
    let tcp = socket2::SockRef::from(tcp);
    assert!(tcp.tcp_nodelay().unwrap());
    assert!(tcp.keepalive().unwrap());
    assert_eq!(tcp.tcp_keepalive_time().unwrap(), Duration::from_secs(60));

    let mut plain = Options::new(local());
    (plain.nodelay, plain.keepalive) = (false, None);
    let listener = listen::bind(&plain, 1).unwrap().remove(0).into_listener().unwrap();
    let (socket, _) = passes(&listener, listener.address()).await;
    let Socket::Tcp(tcp) = &socket else { panic!("{socket:?}") };
    let tcp = socket2::SockRef::from(tcp);
    assert!(!tcp.tcp_nodelay().unwrap());
    assert!(!tcp.keepalive().unwrap());
}

#[tokio::test]
async fn each_worker_gets_a_socket_of_the_same_port() {
    let bound = bound(4);
    let address = bound[0].address().clone();
    assert_ne!(address.tcp().unwrap().port(), 0);
    assert!(bound.iter().all(|bound| *bound.address() == address));
    let listeners: Vec<_> = bound.into_iter().map(|b| b.into_listener().unwrap()).collect();
    let mut clients = Vec::new();
    let mut accepted = 0;
    for _ in 0..16 {
        clients.push(connect(&ConnectTarget::plain(address.clone()), LONG).await.unwrap());
        let any = listeners.iter().map(|listener| Box::pin(listener.accept()));
        soon(futures_util::future::select_all(any)).await.0.unwrap();
        accepted += 1;
    }
    assert_eq!(accepted, clients.len());
}

#[tokio::test]
async fn a_taken_port_is_refused_with_advice_even_with_reuse_port() {
    for count in [1, 3] {
        let held = bound(count);
        let address = held[0].address().clone();
        for count in [1, 2] {
            let error = listen::bind(&Options::new(address.clone()), count).unwrap_err();
            assert_eq!(error.reason(), Reason::Misconfigured);
            let port = address.tcp().unwrap().port();
            assert!(error.to_string().contains(&format!("ss -ltnp sport = :{port}")), "{error}");
        }
        drop(held);
        listen::bind(&Options::new(address), 2).unwrap();
    }
}

#[test]
fn an_address_of_another_machine_is_refused_with_advice() {
    // 192.0.2.0/24 is for documentation (RFC 5737): no interface has it.
    let options = Options::new("192.0.2.1:0".parse().unwrap());
    let error = listen::bind(&options, 1).unwrap_err().to_string();
    assert!(error.contains("cannot listen on 192.0.2.1:0: no interface"), "{error}");
}

#[tokio::test]
async fn dual_stack_takes_ipv4_and_shows_it_as_ipv4() {
    let options = Options::new("[::]:0".parse().unwrap());
    let listener = listen::bind(&options, 1).unwrap().remove(0).into_listener().unwrap();
    let port = listener.address().tcp().unwrap().port();
    for (address, peer) in [("127.0.0.1", "127.0.0.1"), ("[::1]", "::1")] {
        let address = format!("{address}:{port}").parse().unwrap();
        let (socket, from) = passes(&listener, &address).await;
        assert_eq!(from.tcp().unwrap().ip().to_string(), peer);
        assert_eq!(socket.local(), Some(address));
    }
}

#[tokio::test]
async fn a_unix_socket_has_its_mode_and_replaces_a_stale_file_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.sock");
    let address = Address::Unix(path.clone());
    let mut options = Options::new(address.clone());
    for mode in [0o600, 0o666] {
        options.unix_mode = mode;
        // The second round finds the file that the first has left.
        let bound = listen::bind(&options, 2).unwrap();
        assert_eq!(bound.len(), 2);
        let found = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode);
        let error = listen::bind(&options, 1).unwrap_err().to_string();
        assert!(error.contains("another process listens"), "{error}");
        let mut listeners = bound.into_iter().map(|bound| bound.into_listener().unwrap());
        let listener = listeners.next().unwrap();
        drop(listeners);
        assert!(listener.accept_waiting().is_some(), "the refused bind has knocked");
        let (socket, _) = passes(&listener, &address).await;
        assert_eq!(socket.local(), Some(address.clone()));
    }
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "precious").unwrap();
    let error = listen::bind(&options, 1).unwrap_err().to_string();
    assert!(error.contains("not a socket"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");

    options.address = Address::Unix(folder.path().join("none/x.sock"));
    let error = listen::bind(&options, 1).unwrap_err().to_string();
    assert!(error.contains("does not exist"), "{error}");
}

#[tokio::test]
async fn inherited_sockets_are_spread_over_the_workers_and_checked() {
    let given = bound(2);
    let address = given[0].address().clone();
    let fds = |bound: &[listen::Bound]| -> Vec<OwnedFd> {
        bound.iter().map(|bound| bound.as_fd().try_clone_to_owned().unwrap()).collect()
    };
    let options = Options::new(address.clone());
    assert_eq!(listen::adopt(fds(&given), &options, 3).unwrap().len(), 3);
    let fewer = listen::adopt(fds(&given), &options, 1).unwrap();
    assert_eq!(fewer.len(), 2, "each queue needs somebody who accepts from it");
    drop(given);
    let listeners: Vec<_> = fewer.into_iter().map(|b| b.into_listener().unwrap()).collect();
    let target = ConnectTarget::plain(address);
    let client = connect(&target, LONG);
    let any = listeners.iter().map(|listener| Box::pin(listener.accept()));
    let (accepted, connected) =
        soon(async { tokio::join!(futures_util::future::select_all(any), client) }).await;
    accepted.0.unwrap();
    connected.unwrap();

    let other = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let error = listen::adopt(vec![other.into()], &options, 1).unwrap_err().to_string();
    assert!(error.contains("cannot take over"), "{error}");
}

#[tokio::test]
async fn what_waits_at_the_close_is_still_accepted() {
    let listener = listener();
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients
            .push(connect(&ConnectTarget::plain(listener.address().clone()), LONG).await.unwrap());
    }
    let mut accepted = 0;
    while let Some((socket, peer)) = listener.accept_waiting() {
        assert_eq!(socket.peer(), Some(peer));
        accepted += 1;
    }
    assert_eq!(accepted, clients.len());
}
