//! Connecting, and each reason for which it fails.

use std::{sync::Arc, time::Duration};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_kernel::{Reason, Retry, Side};
use weft_net::{Address, Alpn, ConnectTarget, Io, Rewound, accept, connect};
use weft_wire::proxy_protocol::{Ends, Header, ProxyVersion};

use crate::stage::{LONG, bound, listener, over_tls, soon, tls};

#[tokio::test]
async fn a_closed_port_refuses() {
    let address = bound(1)[0].address().clone();
    let error = connect(&ConnectTarget::plain(address), LONG).await.unwrap_err();
    assert_eq!(error.reason(), Reason::ConnectRefused);
    assert_eq!(error.to_string(), "connection refused");
    assert_eq!((error.side(), error.retryable()), (Side::Upstream, Retry::Safe));
}

#[tokio::test]
async fn a_missing_unix_socket_and_an_unroutable_address_fail() {
    let folder = tempfile::tempdir().unwrap();
    let missing = Address::Unix(folder.path().join("x.sock"));
    let error = connect(&ConnectTarget::plain(missing), LONG).await.unwrap_err();
    assert_eq!(error.reason(), Reason::ConnectFailed);
    assert!(error.to_string().contains("does not exist"), "{error}");
    // The broadcast address takes no TCP.
    let broadcast = "255.255.255.255:9".parse().unwrap();
    let error = connect(&ConnectTarget::plain(broadcast), LONG).await.unwrap_err();
    assert_eq!(error.reason(), Reason::ConnectFailed, "{}", error.detail());
}

#[tokio::test]
async fn a_silent_host_times_out_in_its_phase() {
    // Connected by the kernel's queue, but nobody ever answers the TLS hello.
    let listener = listener();
    let (_, client) = tls("orders.test", &[]);
    let target = over_tls(listener.address(), &client);
    let error = connect(&target, Duration::from_millis(30)).await.unwrap_err();
    assert_eq!(error.reason(), Reason::ConnectTimeout);
    assert_eq!(error.to_string(), "TLS handshake timed out after 30ms");
}

#[tokio::test]
async fn a_full_queue_times_out_while_connecting() {
    let mut options = weft_net::listen::Options::new(crate::stage::local());
    options.backlog = 1;
    let bound = weft_net::listen::bind(&options, 1).unwrap();
    let target = ConnectTarget::plain(bound[0].address().clone());
    let mut held = Vec::new();
    // Linux queues one or two more than asked for, then leaves SYNs unanswered.
    let error = loop {
        match connect(&target, Duration::from_millis(200)).await {
            Ok(connected) => held.push(connected),
            Err(error) => break error,
        }
        assert!(held.len() < 10, "the queue should be full");
    };
    assert_eq!(error.reason(), Reason::ConnectTimeout);
    assert_eq!(error.to_string(), "connect timed out after 200ms");
}

#[tokio::test]
async fn tls_settles_on_a_protocol_and_tells_both_sides() {
    for (alpn, settled) in [(Alpn::H2, Some(Alpn::H2)), (Alpn::H1, Some(Alpn::H1))] {
        let (server, client) = tls("orders.test", &[alpn.id()]);
        let listener = listener();
        let target = over_tls(listener.address(), &client);
        let serve = async {
            let (socket, _) = listener.accept().await.unwrap();
            accept::tls(Rewound::new(socket), LONG, |_| Some(Arc::clone(&server))).await.unwrap()
        };
        let (mut inside, outside) =
            soon(async { tokio::join!(serve, connect(&target, LONG)) }).await;
        let outside = outside.unwrap();
        assert_eq!(outside.alpn, settled);
        let seen = outside.io.tls_info().unwrap();
        assert_eq!(
            (seen.version, seen.alpn, seen.peer_certificates.len()),
            ("TLSv1.3", settled, 1)
        );
        let seen = inside.tls_info().unwrap();
        assert_eq!(seen.sni.as_deref(), Some("orders.test"));
        assert_eq!((seen.alpn, seen.peer_certificates.len()), (settled, 0));
        assert_eq!(inside.peer(), outside.io.local());
        let mut outside = outside.io;
        outside.write_all(b"hello").await.unwrap();
        outside.shutdown().await.unwrap();
        let mut text = String::new();
        soon(inside.read_to_string(&mut text)).await.unwrap();
        assert_eq!(text, "hello");
    }
}

#[tokio::test]
async fn a_wrong_certificate_is_an_upstream_tls_failure() {
    let (server, _) = tls("orders.test", &[]);
    let (_, stranger) = tls("orders.test", &[]);
    let listener = listener();
    let target = over_tls(listener.address(), &stranger);
    let serve = async {
        let (socket, _) = listener.accept().await.unwrap();
        accept::tls(Rewound::new(socket), LONG, |_| Some(server)).await
    };
    let (inside, outside) = soon(async { tokio::join!(serve, connect(&target, LONG)) }).await;
    let error = outside.unwrap_err();
    assert_eq!(error.reason(), Reason::UpstreamTls);
    assert!(error.detail().contains("certificate"), "{}", error.detail());
    assert_eq!(inside.unwrap_err().1.side(), Side::Caller);
}

#[tokio::test]
async fn the_proxy_header_comes_before_tls() {
    let ends = Ends {
        source: "192.0.2.1:5".parse().unwrap(),
        destination: "198.51.100.7:443".parse().unwrap(),
    };
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let (server, client) = tls("orders.test", &[]);
        let listener = listener();
        let mut target = over_tls(listener.address(), &client);
        let header = Header { version, ends: Some(ends) };
        target.proxy_header = Some(header);
        let serve = async {
            let (socket, _) = listener.accept().await.unwrap();
            let mut socket = Rewound::new(socket);
            let found = accept::proxy_header(&mut socket, LONG).await.unwrap();
            assert_eq!(found, header);
            accept::tls(socket, LONG, |_| Some(server)).await.unwrap()
        };
        let (mut inside, outside) =
            soon(async { tokio::join!(serve, connect(&target, LONG)) }).await;
        let mut outside: Io = outside.unwrap().io;
        inside.write_all(b"y").await.unwrap();
        inside.flush().await.unwrap();
        assert_eq!(soon(outside.read_u8()).await.unwrap(), b'y');
    }
}
