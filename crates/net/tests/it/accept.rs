//! What a client may do before it is known to be one.

use std::{sync::Arc, time::Duration};

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use weft_kernel::{HandshakeFault, Reason};
use weft_net::{Io, Rewound, Socket, accept, connect};
use weft_wire::client_hello::Hello;

use crate::stage::{LONG, listener, over_tls, soon, tls};

const HEADER: &[u8] = b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n";

fn pipe() -> (DuplexStream, Rewound<Socket>) {
    let (far, near) = tokio::io::duplex(64 * 1024);
    (far, Rewound::new(Socket::Memory(near)))
}

#[tokio::test]
async fn a_header_in_pieces_is_read_and_what_follows_is_kept() {
    for piece in [1, 7, HEADER.len(), 1000] {
        let (mut far, mut near) = pipe();
        let bytes = [HEADER, b"GET / HTTP/1.1\r\n\r\n"].concat();
        let write = async {
            for part in bytes.chunks(piece) {
                far.write_all(part).await.unwrap();
                tokio::task::yield_now().await;
            }
            far.shutdown().await.unwrap();
        };
        let read = async {
            let header = accept::proxy_header(&mut near, LONG).await.unwrap();
            let mut rest = String::new();
            Io::from(near).read_to_string(&mut rest).await.unwrap();
            (header, rest)
        };
        let ((), (header, rest)) = soon(async { tokio::join!(write, read) }).await;
        assert_eq!(header.ends.unwrap().source.to_string(), "192.0.2.1:56324");
        assert_eq!(rest, "GET / HTTP/1.1\r\n\r\n");
    }
}

#[tokio::test]
async fn a_missing_broken_cut_or_slow_header_is_refused() {
    for (bytes, reason) in [
        (&b"GET / HTTP/1.1\r\n"[..], Reason::MalformedRequest),
        (b"PROXY TCP9 x\r\n", Reason::MalformedRequest),
        (b"PROXY TCP4", Reason::CallerGone),
        (b"", Reason::CallerGone),
    ] {
        let (mut far, mut near) = pipe();
        far.write_all(bytes).await.unwrap();
        far.shutdown().await.unwrap();
        let error = soon(accept::proxy_header(&mut near, LONG)).await.unwrap_err();
        assert_eq!(error.reason(), reason, "{bytes:?}");
    }
    let (mut far, mut near) = pipe();
    far.write_all(b"PROXY TCP4").await.unwrap();
    let error = accept::proxy_header(&mut near, Duration::from_millis(5)).await.unwrap_err();
    assert_eq!(error.reason(), Reason::HeadersTimeout);
    assert!(error.to_string().contains("within 5ms"), "{error}");
}

#[tokio::test]
async fn the_configuration_is_chosen_by_the_server_name() {
    let (orders, to_orders) = tls("orders.test", &[]);
    let (users, to_users) = tls("users.test", &[]);
    for (client, expect) in [(&to_orders, "orders.test"), (&to_users, "users.test")] {
        let listener = listener();
        let target = over_tls(listener.address(), client);
        let serve = async {
            let (socket, _) = listener.accept().await.unwrap();
            accept::tls(Rewound::new(socket), LONG, |hello| match hello.server_name() {
                Some("orders.test") => Some(Arc::clone(&orders)),
                Some("users.test") => Some(Arc::clone(&users)),
                _ => None,
            })
            .await
            .unwrap()
        };
        let (inside, outside) = soon(async { tokio::join!(serve, connect(&target, LONG)) }).await;
        // The client trusts one certificate alone, so it was the right one.
        outside.unwrap();
        assert_eq!(inside.tls_info().unwrap().sni.as_deref(), Some(expect));
    }
}

#[tokio::test]
async fn an_unknown_name_plain_text_silence_and_an_end_are_refused_by_reason() {
    let (_, client) = tls("orders.test", &[]);
    let listener = listener();
    let target = over_tls(listener.address(), &client);
    let serve = async {
        let (socket, _) = listener.accept().await.unwrap();
        accept::tls(Rewound::new(socket), LONG, |_| None).await
    };
    let (inside, outside) = soon(async { tokio::join!(serve, connect(&target, LONG)) }).await;
    let (fault, error) = inside.unwrap_err();
    assert_eq!((fault, error.reason()), (HandshakeFault::ServerName, Reason::MalformedRequest));
    assert!(error.detail().contains("orders.test"), "{}", error.detail());
    assert_eq!(outside.unwrap_err().reason(), Reason::UpstreamTls);

    let short = Duration::from_millis(5);
    for (bytes, end, time, fault, reason) in [
        (
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            false,
            LONG,
            HandshakeFault::NotTls,
            Reason::MalformedRequest,
        ),
        (b"\x16\x03\x01", true, LONG, HandshakeFault::Closed, Reason::CallerGone),
        (b"\x16\x03\x01", false, short, HandshakeFault::Timeout, Reason::HeadersTimeout),
    ] {
        let (mut far, near) = pipe();
        far.write_all(bytes).await.unwrap();
        if end {
            far.shutdown().await.unwrap();
        }
        let (why, error) = soon(accept::tls(near, time, |_| None)).await.unwrap_err();
        assert_eq!((why, error.reason()), (fault, reason), "{bytes:?}");
    }
}

#[tokio::test]
async fn the_server_name_is_seen_without_taking_a_byte() {
    let (server, client) = tls("orders.test", &[]);
    let listener = listener();
    let target = over_tls(listener.address(), &client);
    let serve = async {
        let (socket, _) = listener.accept().await.unwrap();
        let mut socket = Rewound::new(socket);
        let seen = accept::server_name(&mut socket, LONG).await.unwrap();
        // The handshake needs every byte of the hello, so none was lost.
        (seen, accept::tls(socket, LONG, |_| Some(server)).await.unwrap())
    };
    let ((seen, _inside), outside) =
        soon(async { tokio::join!(serve, connect(&target, LONG)) }).await;
    assert_eq!(seen, Hello::Sni(Some("orders.test".into())));
    outside.unwrap();

    let (mut far, mut near) = pipe();
    far.write_all(b"SSH-2.0-x\r\n").await.unwrap();
    assert_eq!(soon(accept::server_name(&mut near, LONG)).await.unwrap(), Hello::NotTls);
    assert_eq!(near.ahead(), b"SSH-2.0-x\r\n");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn peeking_is_bounded_and_loses_nothing(
        bytes in prop::collection::vec(any::<u8>(), 0..4000),
        wanted in 0usize..4000,
        bytes_max in 1usize..3000,
        piece in 1usize..900,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (mut far, near) = tokio::io::duplex(64);
            let mut near = Rewound::new(near);
            let sent = bytes.clone();
            let write = async move {
                for part in sent.chunks(piece) {
                    far.write_all(part).await.unwrap();
                }
            };
            let read = async {
                let found = accept::peek(&mut near, bytes_max, |ahead| {
                    assert!(ahead.len() <= bytes_max);
                    (ahead.len() >= wanted).then_some(())
                });
                let found = found.await.unwrap().is_some();
                assert_eq!(found, wanted <= bytes_max.min(bytes.len()));
                let mut all = Vec::new();
                near.read_to_end(&mut all).await.unwrap();
                assert_eq!(all, bytes);
            };
            tokio::join!(write, read);
        });
    }
}
