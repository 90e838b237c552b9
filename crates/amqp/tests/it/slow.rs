//! Clients that read slowly or not at all, and the heartbeats of those who must wait.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use weft_ledger::disk::simulated::Faults;
use weft_wire::amqp::{Method, frame::HEARTBEAT};

use crate::{
    client::PERSISTENT,
    node::{Node, near, run},
};

/// A stream that counts how often it was tried to write to it.
struct Counted {
    io: DuplexStream,
    tries: Rc<Cell<u32>>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.tries.set(self.tries.get() + 1);
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

const BODY_BYTES: usize = 60_000;

/// Lets time pass, and everybody do what they have to do then.
async fn pass(time: Duration) {
    tokio::time::advance(time).await;
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

/// A node with `count` messages in the queue `q`.
async fn filled(count: u32) -> Node {
    let node = Node::new().await;
    let mut client = node.connect().await;
    client.queue("q", true, b"").await;
    client.confirms().await;
    for _ in 0..count {
        client.publish("", "q", &PERSISTENT, &[7; BODY_BYTES]).await;
        assert!(matches!(client.next().await.method(), Method::BasicAck { .. }));
    }
    node
}

#[test]
fn a_client_that_does_not_read_costs_nothing() {
    run(|| async {
        let node = filled(10).await;
        let tries = Rc::new(Cell::new(0));
        let counted = Rc::clone(&tries);
        let mut idle = node.dial_over(near(), |io| Counted { io, tries: counted });
        idle.open_beating("guest", "guest", "/", 20).await;
        idle.consume("q", "idle").await;
        pass(Duration::ZERO).await;
        pass(Duration::from_secs(11)).await;
        let before = tries.get();
        pass(Duration::from_secs(1)).await;
        let more = tries.get() - before;
        assert!(more < 10, "tried {more} times to write what nobody reads");
    });
}

#[test]
fn a_full_disk_and_a_slow_reader_miss_no_heartbeats() {
    run(|| async {
        let node = filled(40).await;
        let mut slow = node.dial(near());
        slow.open_beating("guest", "guest", "/", 20).await;
        slow.consume("q", "slow").await;
        let mut blocked = node.dial(near());
        blocked.open_beating("guest", "guest", "/", 20).await;
        node.fill_disk();
        blocked.confirms().await;
        let mut sent = 0;
        loop {
            blocked.publish("", "q", &PERSISTENT, &[7; BODY_BYTES]).await;
            sent += 1;
            assert!(sent < 200, "never full");
            match blocked.next().await.method() {
                Method::BasicAck { .. } => {}
                Method::ConnectionBlocked { .. } => break,
                other => panic!("{other:?}"),
            }
        }
        for _ in 0..10 {
            blocked.raw(&HEARTBEAT).await.unwrap();
            slow.raw(&HEARTBEAT).await.unwrap();
            pass(Duration::from_secs(10)).await;
        }
        node.disk.set_faults(Faults::default());
        pass(Duration::from_secs(1)).await;
        assert_eq!(blocked.next().await.method(), Method::ConnectionUnblocked {});
        for _ in 0..40 {
            assert!(matches!(slow.next().await.method(), Method::BasicDeliver { .. }));
            assert_eq!(slow.content().await.body.len(), BODY_BYTES);
        }
    });
}

#[test]
fn a_client_that_never_catches_up_is_given_more_all_the_same() {
    run(|| async {
        let node = filled(60).await;
        let queue = node.broker.queue(&weft_broker::Key::plain("q").unwrap()).unwrap();
        let ready = || node.broker.queue_view(&queue).ready;
        let mut slow = node.connect().await;
        slow.consume("q", "slow").await;
        pass(Duration::ZERO).await;
        let before = ready();
        let handed_out = 60 - before;
        let mut read = 0;
        while ready() == before {
            assert!(matches!(slow.next().await.method(), Method::BasicDeliver { .. }));
            slow.content().await;
            read += 1;
            pass(Duration::ZERO).await;
        }
        assert!(read + 1 < handed_out, "given nothing until {read} of {handed_out} were read");
    });
}

/// Lets time pass in steps, as it does, and says after how many seconds the connection was gone.
async fn gone_after(tries: &Rc<Cell<bool>>, most: u64) -> Option<u64> {
    for second in 1..=most {
        pass(Duration::from_secs(1)).await;
        if tries.get() {
            return Some(second);
        }
    }
    None
}

/// A stream that tells when it is dropped.
struct Told(DuplexStream, Rc<Cell<bool>>);

impl Drop for Told {
    fn drop(&mut self) {
        self.1.set(true);
    }
}

impl AsyncRead for Told {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Told {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[test]
fn who_neither_reads_nor_beats_is_ended_and_what_it_held_goes_to_others() {
    run(|| async {
        let node = filled(40).await;
        let gone = Rc::new(Cell::new(false));
        let told = Rc::clone(&gone);
        let mut idle = node.dial_over(near(), |io| Told(io, told));
        idle.open_beating("guest", "guest", "/", 20).await;
        idle.consume("q", "idle").await;
        let after = gone_after(&gone, 60).await;
        assert!(matches!(after, Some(38..=42)), "{after:?}");
        let mut other = node.connect().await;
        for _ in 0..40 {
            assert_eq!(other.get("q").await.body.len(), BODY_BYTES);
        }
    });
}

#[test]
fn who_beats_and_does_not_read_is_ended_as_late_as_a_delivery_may_be() {
    run(|| async {
        for heartbeat in [0, 20] {
            let node = filled(40).await;
            let gone = Rc::new(Cell::new(false));
            let told = Rc::clone(&gone);
            let mut idle = node.dial_over(near(), |io| Told(io, told));
            idle.open_beating("guest", "guest", "/", heartbeat).await;
            idle.consume("q", "idle").await;
            let mut waited = 0;
            while !gone.get() && waited < 40 * 60 {
                if heartbeat > 0 {
                    let _ = idle.raw(&HEARTBEAT).await;
                }
                pass(Duration::from_secs(10)).await;
                waited += 10;
            }
            let bound = 30 * 60 - 20..=30 * 60 + 20;
            assert!(bound.contains(&waited), "{waited} s with heartbeat {heartbeat}");
            let mut other = node.connect().await;
            for _ in 0..40 {
                assert_eq!(other.get("q").await.body.len(), BODY_BYTES);
            }
        }
    });
}

#[test]
fn who_publishes_and_never_reads_is_ended() {
    run(|| async {
        let node = Node::new().await;
        let gone = Rc::new(Cell::new(false));
        let told = Rc::clone(&gone);
        let mut flood = node.dial_over(near(), |io| Told(io, told));
        flood.open_beating("guest", "guest", "/", 20).await;
        // Every one of them comes back.
        let publish = Method::BasicPublish {
            ticket: 0,
            exchange: "",
            routing_key: "nobody",
            mandatory: true,
            immediate: false,
        };
        let mut out = Vec::new();
        for _ in 0..100 {
            weft_wire::amqp::write_content(
                1,
                &publish,
                &PERSISTENT,
                &[7; BODY_BYTES],
                131_072,
                &mut out,
            );
        }
        let mut sending = Box::pin(flood.raw(&out));
        let mut send = async || {
            std::future::poll_fn(|context| {
                Poll::Ready(std::future::Future::poll(sending.as_mut(), context).is_ready())
            })
            .await
        };
        // Until nothing more fits anywhere.
        for _ in 0..100 {
            assert!(!send().await, "all of it was read");
            pass(Duration::ZERO).await;
        }
        let mut waited = 0;
        while !gone.get() && waited < 100 {
            send().await;
            pass(Duration::from_secs(1)).await;
            waited += 1;
        }
        assert!((38..=45).contains(&waited), "{waited}");
    });
}

#[test]
fn who_stops_in_the_handshake_is_ended_and_so_is_who_does_not_read_it() {
    run(|| async {
        let node = Node::new().await;
        for upto in 0..4 {
            let gone = Rc::new(Cell::new(false));
            let told = Rc::clone(&gone);
            let mut client = node.dial_over(near(), |io| Told(io, told));
            if upto == 1 {
                client.raw(weft_wire::amqp::PROTOCOL_HEADER).await.unwrap();
            }
            if upto >= 2 {
                client.log_in("PLAIN", b"\0guest\0guest").await;
            }
            if upto == 3 {
                let tune =
                    Method::ConnectionTuneOk { channel_max: 9, frame_max: 4096, heartbeat: 0 };
                client.send(0, tune).await;
            }
            let after = gone_after(&gone, 20).await;
            assert!(matches!(after, Some(9..=12)), "{after:?} at {upto}");
        }
    });
}

#[test]
fn others_on_the_queue_go_on_while_one_does_not_read() {
    run(|| async {
        let node = filled(60).await;
        let mut idle = node.connect().await;
        idle.consume("q", "idle").await;
        pass(Duration::ZERO).await;
        let queue = node.broker.queue(&weft_broker::Key::plain("q").unwrap()).unwrap();
        let ready = node.broker.queue_view(&queue).ready;
        assert!(ready > 20, "{ready} left for others");
        let mut other = node.connect().await;
        other.consume("q", "other").await;
        for _ in 0..ready {
            assert!(matches!(other.next().await.method(), Method::BasicDeliver { .. }));
            other.content().await;
        }
        // And what comes later too.
        for tag in 1..=20 {
            other.publish("", "q", &PERSISTENT, b"later").await;
            assert!(matches!(other.next().await.method(), Method::BasicDeliver { .. }), "{tag}");
            assert_eq!(other.content().await.body, b"later");
        }
    });
}
