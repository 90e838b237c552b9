//! A client that sends without end leaves their turns to others of its thread.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use weft_wire::amqp::{Method, PROTOCOL_HEADER, Table};

use crate::{
    client::declare_queue,
    node::{Node, near, run},
};

/// A client whose every word is there already, and that takes every answer at once.
struct Pipelined {
    says: Vec<u8>,
    said: usize,
    ended: Rc<Cell<bool>>,
}

impl Drop for Pipelined {
    fn drop(&mut self) {
        self.ended.set(true);
    }
}

impl AsyncRead for Pipelined {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let count = buffer.remaining().min(self.says.len() - self.said);
        buffer.put_slice(&self.says[self.said..self.said + count]);
        self.said += count;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipelined {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn methods_without_end_leave_others_their_turns() {
    run(|| async {
        let node = Node::new().await;
        let mut client = node.connect().await;
        client.call(1, declare_queue("q", false, Table::EMPTY)).await;
        let get = Method::BasicGet { ticket: 0, queue: "q", no_ack: true };
        for (what, method) in [("declare", declare_queue("q", true, Table::EMPTY)), ("get", get)] {
            let mut says = PROTOCOL_HEADER.to_vec();
            let start = Method::ConnectionStartOk {
                client_properties: Table::EMPTY,
                mechanism: "PLAIN",
                response: b"\0guest\0guest",
                locale: "en_US",
            };
            start.write(0, &mut says);
            let tune =
                Method::ConnectionTuneOk { channel_max: 9, frame_max: 131_072, heartbeat: 0 };
            tune.write(0, &mut says);
            let open =
                Method::ConnectionOpen { virtual_host: "/", capabilities: "", insist: false };
            open.write(0, &mut says);
            Method::ChannelOpen { reserved: "" }.write(1, &mut says);
            for _ in 0..60_000 {
                method.clone().write(1, &mut says);
            }
            let ended = Rc::<Cell<bool>>::default();
            let pipelined = Pipelined { says, said: 0, ended: ended.clone() };
            drop(node.dial_over(near(), |_| pipelined));
            let mut turns = 0;
            while !ended.get() {
                turns += 1;
                tokio::task::yield_now().await;
            }
            assert!(turns > 5, "{what}: {turns}");
        }
    });
}
