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
