//! Bytes both ways: none lost, none invented, and every way to end.

use std::{
    io::{self, ErrorKind},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::BytesMut;
use proptest::prelude::*;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf},
    net::TcpStream,
};
use weft_kernel::{Rng, Tick};
use weft_net::{
    ConnectTarget, Io, Rewound, Socket, Stop, connect,
    relay::{Bare, End, relay},
};

use crate::stage::{LONG, far, listener, soon};

/// A connected TCP pair.
async fn pair() -> (Io, Socket) {
    let listener = listener();
    let target = ConnectTarget::plain(listener.address().clone());
    let (client, accepted) = tokio::join!(connect(&target, LONG), listener.accept());
    (client.unwrap().io, accepted.unwrap().0)
}

async fn say_and_hear(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), bytes: &[u8]) -> Vec<u8> {
    let (mut read, mut write) = tokio::io::split(stream);
    let say = async {
        write.write_all(bytes).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let mut heard = Vec::new();
    let hear = async { read.read_to_end(&mut heard).await.unwrap() };
    tokio::join!(say, hear);
    heard
}

#[tokio::test]
async fn large_bodies_pass_both_ways_over_tcp() {
    let (mut caller, near) = pair().await;
    let (away, mut upstream) = pair().await;
    let up: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let down: Vec<u8> = (0..2_000_000u32).map(|n| (n % 241) as u8).collect();
    let (mut near, mut away) = (Io::from(near), away);
    let stop = Stop::new();
    let (relayed, at_caller, at_upstream) = soon(async {
        tokio::join!(
            relay(&mut near, &mut away, LONG, &stop),
            say_and_hear(&mut caller, &up),
            say_and_hear(&mut upstream, &down),
        )
    })
    .await;
    assert!(matches!(relayed.end, End::Closed), "{relayed:?}");
    assert_eq!((relayed.up_bytes, relayed.down_bytes), (3_000_000, 2_000_000));
    assert!(at_caller == down && at_upstream == up);
}

/// Copying and splicing take turns, and what is on its way in a buffer or a pipe keeps its order.
#[tokio::test]
async fn small_and_large_pieces_alternate_over_tcp() {
    for seed in 0..6 {
        let mut rng = Rng::seeded(seed);
        let mut pieces = || -> Vec<Vec<u8>> {
            (0..24)
                .map(|_| {
                    let most = [3, 2_000, 70_000, 600_000][rng.below(4) as usize];
                    let (first, length) = (rng.next_u64() as u8, 1 + rng.below(most));
                    (0..length).map(|n| first.wrapping_add((n % 253) as u8)).collect()
                })
                .collect()
        };
        let (up, down) = (pieces(), pieces());
        let (caller, near) = pair().await;
        let (mut away, upstream) = pair().await;
        let mut ahead = BytesMut::new();
        ahead.extend_from_slice(b"read ahead");
        let mut near = Rewound::with(ahead, near);
        let stop = Stop::new();
        let (relayed, at_caller, at_upstream) = soon(async {
            tokio::join!(
                relay(&mut near, &mut away, LONG, &stop),
                chunks(caller, up.clone()),
                chunks(upstream, down.clone()),
            )
        })
        .await;
        assert!(matches!(relayed.end, End::Closed), "seed {seed}: {relayed:?}");
        assert!(at_caller == down.concat(), "seed {seed}");
        assert!(at_upstream == [b"read ahead", &up.concat()[..]].concat(), "seed {seed}");
        assert_eq!(relayed.up_bytes as usize, at_upstream.len());
        assert_eq!(relayed.down_bytes as usize, at_caller.len());
    }
}

#[tokio::test]
async fn a_half_close_is_passed_on_and_the_other_direction_goes_on() {
    let (mut caller, mut near) = tokio::io::duplex(16);
    let (mut away, mut upstream) = tokio::io::duplex(16);
    let stop = Stop::new();
    let talk = async {
        caller.write_all(b"question").await.unwrap();
        caller.shutdown().await.unwrap();
        let mut heard = String::new();
        upstream.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "question");
        // Only now, after the end of the other direction.
        upstream.write_all(b"a rather longer answer").await.unwrap();
        upstream.shutdown().await.unwrap();
        heard.clear();
        caller.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "a rather longer answer");
    };
    let (relayed, ()) =
        soon(async { tokio::join!(relay(&mut near, &mut away, LONG, &stop), talk) }).await;
    assert!(matches!(relayed.end, End::Closed), "{relayed:?}");
    assert_eq!((relayed.up_bytes, relayed.down_bytes), (8, 22));
}

#[tokio::test(start_paused = true)]
async fn silence_ends_it_and_any_byte_puts_that_off() {
    let (mut caller, mut near) = tokio::io::duplex(64);
    let (mut away, upstream) = tokio::io::duplex(64);
    let stop = Stop::new();
    let idle = Duration::from_secs(300);
    let began = tokio::time::Instant::now();
    let talk = async {
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_secs(200)).await;
            caller.write_all(b"still here").await.unwrap();
        }
    };
    let (relayed, ()) = tokio::join!(relay(&mut near, &mut away, idle, &stop), talk);
    assert!(matches!(relayed.end, End::Idle), "{relayed:?}");
    assert_eq!(relayed.up_bytes, 30);
    assert_eq!(began.elapsed().as_secs(), 900);
    drop(upstream);
}

#[tokio::test]
async fn a_drain_lets_it_go_on_and_a_close_cuts_it() {
    let (mut caller, mut near) = tokio::io::duplex(64);
    let (mut away, mut upstream) = tokio::io::duplex(64);
    let stop = Stop::new();
    let talk = async {
        stop.drain(far());
        caller.write_all(b"x").await.unwrap();
        assert_eq!(upstream.read_u8().await.unwrap(), b'x');
        stop.close();
    };
    let (relayed, ()) =
        soon(async { tokio::join!(relay(&mut near, &mut away, LONG, &stop), talk) }).await;
    assert!(matches!(relayed.end, End::Cut), "{relayed:?}");
    assert_eq!(relayed.up_bytes, 1);
    assert_ne!(far(), Tick::NEVER);
}

#[tokio::test]
async fn a_failure_names_its_side() {
    let (caller, near) = pair().await;
    let (away, upstream) = pair().await;
    let (mut near, mut away) = (Io::from(near), away);
    // Closing with a linger of zero sends a reset.
    let Socket::Tcp(tcp) = &upstream else { panic!("{upstream:?}") };
    socket2::SockRef::from(tcp).set_linger(Some(Duration::ZERO)).unwrap();
    drop(upstream);
    let relayed = soon(relay(&mut near, &mut away, LONG, &Stop::new())).await;
    assert!(matches!(relayed.end, End::UpstreamFailed(_)), "{relayed:?}");

    let (away, _upstream) = pair().await;
    let mut away = away;
    let Io::Tcp(tcp) = &caller else { panic!("{caller:?}") };
    socket2::SockRef::from(tcp).set_linger(Some(Duration::ZERO)).unwrap();
    drop(caller);
    let relayed = soon(relay(&mut near, &mut away, LONG, &Stop::new())).await;
    assert!(matches!(relayed.end, End::CallerFailed(_)), "{relayed:?}");
}

/// A side that takes nothing more, and has spoken before.
struct Deaf {
    said: Vec<u8>,
    then: Then,
}

#[derive(Clone, Copy)]
enum Then {
    Ends,
    Fails,
    Rests,
}

impl AsyncRead for Deaf {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.said.is_empty() {
            return match self.then {
                Then::Ends => Poll::Ready(Ok(())),
                Then::Fails => Poll::Ready(Err(ErrorKind::ConnectionReset.into())),
                Then::Rests => Poll::Pending,
            };
        }
        // One at a time: what is still unread when a write fails is most of it.
        buf.put_slice(&[self.said.remove(0)]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Deaf {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(ErrorKind::BrokenPipe.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Bare for Deaf {
    fn bare(&self) -> Option<&TcpStream> {
        None
    }
}

/// Reads so many bytes, and ends its own direction then.
async fn hears(side: &mut DuplexStream, count: usize) -> Vec<u8> {
    let mut heard = vec![0; count];
    side.read_exact(&mut heard).await.unwrap();
    side.shutdown().await.unwrap();
    heard
}

/// One that has reset its connection has often answered first; a write that fails does not overtake that.
#[tokio::test]
async fn what_a_side_said_before_it_left_arrives() {
    for then in [Then::Ends, Then::Fails] {
        let (mut caller, mut near) = tokio::io::duplex(4_096);
        let mut away = Deaf { said: b"an answer".to_vec(), then };
        caller.write_all(b"more than it wanted").await.unwrap();
        let stop = Stop::new();
        let hear = hears(&mut caller, 9);
        let (relayed, heard) =
            soon(async { tokio::join!(relay(&mut near, &mut away, LONG, &stop), hear) }).await;
        assert_eq!(heard, b"an answer");
        assert!(matches!(relayed.end, End::UpstreamFailed(_)), "{relayed:?}");

        // And the other way round.
        let mut near = Deaf { said: b"a last word".to_vec(), then };
        let (mut away, mut upstream) = tokio::io::duplex(4_096);
        upstream.write_all(b"nobody reads this").await.unwrap();
        let hear = hears(&mut upstream, 11);
        let (relayed, heard) =
            soon(async { tokio::join!(relay(&mut near, &mut away, LONG, &stop), hear) }).await;
        assert_eq!(heard, b"a last word");
        assert!(matches!(relayed.end, End::CallerFailed(_)), "{relayed:?}");
    }
}

/// One that takes nothing and says nothing is not waited for as long as one that is idle.
#[tokio::test(start_paused = true)]
async fn a_side_that_takes_nothing_more_is_given_up_soon() {
    let (mut caller, mut near) = tokio::io::duplex(4_096);
    let mut away = Deaf { said: Vec::new(), then: Then::Rests };
    let began = tokio::time::Instant::now();
    caller.write_all(b"hello").await.unwrap();
    let relayed = relay(&mut near, &mut away, Duration::from_secs(3_600), &Stop::new()).await;
    assert!(matches!(relayed.end, End::UpstreamFailed(_)), "{relayed:?}");
    assert_eq!(began.elapsed().as_secs(), 5);
    drop(caller);
}

async fn chunks(stream: impl AsyncRead + AsyncWrite, chunks: Vec<Vec<u8>>) -> Vec<u8> {
    let (mut read, mut write) = tokio::io::split(stream);
    let say = async {
        for chunk in chunks {
            write.write_all(&chunk).await.unwrap();
            tokio::task::yield_now().await;
        }
        write.shutdown().await.unwrap();
    };
    let mut heard = Vec::new();
    let hear = async { read.read_to_end(&mut heard).await.unwrap() };
    tokio::join!(say, hear);
    heard
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_the_pieces_every_byte_arrives_in_order(
        up in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20),
        down in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20),
        near_bytes in 1usize..200,
        away_bytes in 1usize..200,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (caller, mut near) = tokio::io::duplex(near_bytes);
            let (mut away, upstream) = tokio::io::duplex(away_bytes);
            let stop = Stop::new();
            let (relayed, at_caller, at_upstream) = tokio::join!(
                relay(&mut near, &mut away, LONG, &stop),
                chunks(caller, up.clone()),
                chunks(upstream, down.clone()),
            );
            assert!(matches!(relayed.end, End::Closed), "{relayed:?}");
            assert_eq!(at_caller, down.concat());
            assert_eq!(at_upstream, up.concat());
            assert_eq!(relayed.up_bytes as usize, at_upstream.len());
            assert_eq!(relayed.down_bytes as usize, at_caller.len());
        });
    }
}
