//! Frames and methods where they do not belong, in the words of RabbitMQ 3.10; tables everywhere they may
//! stand; the end of a connection with frames behind it.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use weft_amqp::Options;
use weft_ledger::disk::SimulatedDisk;
use weft_wire::amqp::{FrameKind, Method, Properties, Table, frame, write_content};

use crate::{
    client::{Client, PERSISTENT, write_publish},
    node::{Node, near, run},
};

const PUBLISH: Method<'static> = Method::BasicPublish {
    ticket: 0,
    exchange: "",
    routing_key: "q",
    mandatory: false,
    immediate: false,
};

const CLOSE: Method<'static> =
    Method::ConnectionClose { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 };

/// Bytes, and the code, the text and the method that the connection is closed with.
type Case<'a> = (Vec<u8>, u16, &'a str, (u16, u16));

/// What a connection is closed with that sends `bytes` once it is open.
async fn answer(node: &Node, bytes: &[u8]) -> (u16, String, (u16, u16)) {
    let mut client = node.connect().await;
    client.raw(bytes).await.unwrap();
    let taken = client.next().await;
    match taken.method() {
        Method::ConnectionClose { reply_code, reply_text, class_id, method_id } => {
            (reply_code, reply_text.to_owned(), (class_id, method_id))
        }
        other => panic!("{other:?}"),
    }
}

fn frame(kind: FrameKind, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::write(kind, channel, &mut out, |out| out.extend_from_slice(payload));
    out
}

fn method(channel: u16, method: Method<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    method.write(channel, &mut out);
    out
}

/// A content header of a class for a body of five bytes.
fn header(class: u8) -> Vec<u8> {
    frame(FrameKind::Header, 1, &[0, class, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0])
}

#[test]
fn what_is_out_of_place_is_answered_as_rabbitmq_answers_it() {
    run(|| async {
        let node = Node::new().await;
        let publish = method(1, PUBLISH);
        let body = frame(FrameKind::Body, 1, b"12345");
        let awaited_header = "UNEXPECTED_FRAME - expected content header for class 60, got non content header frame \
             instead";
        let awaited_body =
            "UNEXPECTED_FRAME - expected content body, got non content body frame instead";
        let awaited_method =
            "UNEXPECTED_FRAME - expected method frame, got non method frame instead";
        let running = "CHANNEL_ERROR - unexpected method in connection state running";
        let open = Method::ConnectionOpen { virtual_host: "/", capabilities: "", insist: false };
        let tune = Method::ConnectionTuneOk { channel_max: 1, frame_max: 4096, heartbeat: 0 };
        let secret = Method::ConnectionUpdateSecret { new_secret: b"x", reason: "" };
        let cases: &[Case] = &[
            ([&publish[..], &body].concat(), 505, awaited_header, (60, 40)),
            ([&publish[..], &publish].concat(), 505, awaited_header, (60, 40)),
            ([&publish[..], &header(60), &publish].concat(), 505, awaited_body, (60, 40)),
            ([&publish[..], &header(60), &header(60)].concat(), 505, awaited_body, (60, 40)),
            (
                [&publish[..], &header(50)].concat(),
                505,
                "UNEXPECTED_FRAME - expected content header for class 60, got one for class 50 \
                 instead",
                (60, 40),
            ),
            (frame(FrameKind::Body, 3, b"x"), 505, awaited_method, (0, 0)),
            // Whatever it holds.
            (frame(FrameKind::Header, 3, &publish[7..]), 505, awaited_method, (0, 0)),
            (
                frame(FrameKind::Heartbeat, 1, b""),
                505,
                "UNEXPECTED_FRAME - type 8, all octets = <<>>",
                (0, 0),
            ),
            (
                frame(FrameKind::Heartbeat, 0, b"xx"),
                501,
                "FRAME_ERROR - type 8, all octets = <<\"xx\">>: unknown_frame",
                (0, 0),
            ),
            (
                frame(FrameKind::Body, 0, b"12"),
                505,
                "UNEXPECTED_FRAME - type 3, all octets = <<\"12\">>",
                (0, 0),
            ),
            (method(0, Method::ChannelOpen { reserved: "" }), 504, running, (20, 10)),
            (method(0, open), 504, running, (10, 40)),
            (method(0, tune), 504, running, (10, 31)),
            (method(0, Method::ConnectionCloseOk {}), 504, running, (10, 51)),
            (method(1, secret), 503, "COMMAND_INVALID - unimplemented method", (10, 70)),
            (
                method(1, Method::ChannelOpen { reserved: "" }),
                504,
                "CHANNEL_ERROR - second 'channel.open' seen",
                (20, 10),
            ),
            (
                frame(FrameKind::Method, 1, &[0, 50, 0, 10, 0]),
                501,
                "FRAME_ERROR - cannot decode <<0>>",
                (50, 10),
            ),
            (
                frame(FrameKind::Method, 1, b"\0\x32\0\x0a\0\0\x01\xe9\0\0\0\0\0"),
                501,
                "FRAME_ERROR - Malformed UTF-8 in shortstr",
                (50, 10),
            ),
        ];
        for (bytes, code, text, at) in cases {
            let found = answer(&node, bytes).await;
            assert_eq!((found.0, found.1.as_str(), found.2), (*code, *text, *at), "{bytes:?}");
        }
        // A channel that the server closed is not opened again before that was acknowledged.
        let mut client = node.connect().await;
        let none = Method::QueueDelete {
            ticket: 0,
            queue: "",
            if_unused: false,
            if_empty: false,
            no_wait: false,
        };
        assert!(matches!(client.call(1, none).await.method(), Method::ChannelClose { .. }));
        client.send(1, Method::ChannelOpen { reserved: "" }).await;
        client.closed_with(504).await;
    });
}

#[test]
fn channels_are_counted_and_their_numbers_are_free() {
    run(|| async {
        let node = Node::new().await;
        let mut client = node.dial(near());
        client.log_in("PLAIN", b"\0guest\0guest").await;
        let _tune = client.next().await;
        let tune = Method::ConnectionTuneOk { channel_max: 2, frame_max: 131_072, heartbeat: 0 };
        client.send(0, tune).await;
        let open = Method::ConnectionOpen { virtual_host: "/", capabilities: "", insist: false };
        client.call(0, open).await;
        client.channel(7).await;
        client.channel(65_535).await;
        let close =
            Method::ChannelClose { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 };
        assert_eq!(client.call(7, close).await.method(), Method::ChannelCloseOk {});
        client.channel(3).await;
        // One more, whatever it begins with.
        client.send(4, PUBLISH).await;
        let text = client.closed_with(530).await;
        assert_eq!(
            text,
            "NOT_ALLOWED - number of channels opened (2) has reached the negotiated channel_max (2)"
        );
        for (channel_max, said) in [(0, "0 (no limit)"), (3000, "3000")] {
            let mut client = node.dial(near());
            client.log_in("PLAIN", b"\0guest\0guest").await;
            let _tune = client.next().await;
            let tune = Method::ConnectionTuneOk { channel_max, frame_max: 131_072, heartbeat: 0 };
            client.send(0, tune).await;
            let text = client.closed_with(530).await;
            assert_eq!(
                text,
                format!(
                    "NOT_ALLOWED - negotiated channel_max = {said} is higher than the maximum \
                     allowed value (2047)"
                )
            );
        }
    });
}

#[test]
fn eight_bytes_beyond_the_largest_frame_are_tolerated() {
    run(|| async {
        let node = Node::new().await;
        for (beyond, taken) in [(0, true), (1, true), (8, true), (9, false)] {
            let mut client = node.dial(near());
            client.log_in("PLAIN", b"\0guest\0guest").await;
            let _tune = client.next().await;
            let tune = Method::ConnectionTuneOk { channel_max: 9, frame_max: 4096, heartbeat: 0 };
            client.send(0, tune).await;
            let open =
                Method::ConnectionOpen { virtual_host: "/", capabilities: "", insist: false };
            client.call(0, open).await;
            client.channel(1).await;
            client.queue("q", true, b"").await;
            let body = vec![7; 4088 + beyond];
            // At once, and in pieces.
            for whole in [true, false] {
                let mut out = Vec::new();
                write_content(1, &PUBLISH, &PERSISTENT, &body, 0, &mut out);
                if whole {
                    client.raw(&out).await.unwrap();
                } else {
                    for piece in out.chunks(1000) {
                        client.raw(piece).await.unwrap();
                        client.is_quiet().await;
                    }
                }
                if taken {
                    assert_eq!(client.get("q").await.body, body);
                } else {
                    let text = client.closed_with(501).await;
                    let said =
                        "FRAME_ERROR - type 3, all octets = <<>>: {frame_too_large,4097,4088}";
                    assert_eq!(text, said);
                    break;
                }
            }
        }
    });
}

#[test]
fn a_new_secret_is_taken_while_the_connection_is_open() {
    run(|| async {
        let node = Node::new().await;
        let mut client = node.connect().await;
        for new_secret in [&b"guest"[..], b"another", b""] {
            let update = Method::ConnectionUpdateSecret { new_secret, reason: "expired" };
            let answer = client.call(0, update).await;
            assert_eq!(answer.method(), Method::ConnectionUpdateSecretOk {});
        }
        client.queue("q", true, b"").await;
        let mut early = node.dial(near());
        early.log_in("PLAIN", b"\0guest\0guest").await;
        let _tune = early.next().await;
        let tune = Method::ConnectionTuneOk { channel_max: 9, frame_max: 131_072, heartbeat: 0 };
        early.send(0, tune).await;
        early.send(0, Method::ConnectionUpdateSecret { new_secret: b"x", reason: "" }).await;
        let text = early.closed_with(504).await;
        assert_eq!(text, "CHANNEL_ERROR - unexpected method in connection state opening");
    });
}

#[test]
fn tables_are_read_wherever_they_stand() {
    run(|| async {
        let node = Node::new().await;
        // A number of 64 bits as some clients write it, also within, and a name that is no text.
        let table =
            b"\x04longL\0\0\x01\0\0\0\0\0\x02\xe9\xfft\x05\x01nF\0\0\0\x0b\x01nL\0\0\0\0\0\0\0\x01\
                      \x01aA\0\0\0\x0aL\xff\xff\xff\xff\xff\xff\xff\xffV";
        let arguments = Table::parse(table).unwrap();
        let mut client = node.dial(near());
        client.raw(weft_wire::amqp::PROTOCOL_HEADER).await.unwrap();
        let _start = client.next().await;
        let start = Method::ConnectionStartOk {
            client_properties: arguments,
            mechanism: "PLAIN",
            response: b"\0guest\0guest",
            locale: "en_US",
        };
        client.call(0, start).await;
        let tune = Method::ConnectionTuneOk { channel_max: 9, frame_max: 131_072, heartbeat: 0 };
        client.send(0, tune).await;
        let open = Method::ConnectionOpen { virtual_host: "/", capabilities: "", insist: false };
        client.call(0, open).await;
        client.channel(1).await;
        // A length by the type that has just been read.
        let limited = [&table[..], b"\x0cx-max-lengthL\0\0\0\0\0\0\0\x09"].concat();
        client.queue("q", true, &limited).await;
        client.queue("q", true, b"\x0cx-max-lengthl\0\0\0\0\0\0\0\x09").await;
        let declare = Method::ExchangeDeclare {
            ticket: 0,
            exchange: "h",
            kind: "headers",
            passive: false,
            durable: true,
            auto_delete: false,
            internal: false,
            no_wait: false,
            arguments,
        };
        assert_eq!(client.call(1, declare).await.method(), Method::ExchangeDeclareOk {});
        let bind = Method::QueueBind {
            ticket: 0,
            queue: "q",
            exchange: "h",
            routing_key: "",
            no_wait: false,
            arguments,
        };
        assert_eq!(client.call(1, bind).await.method(), Method::QueueBindOk {});
        // The headers match those of the binding, and come back as they went.
        let mut raw = Vec::new();
        Properties { headers: Some(arguments), ..Properties::default() }.write(&mut raw);
        client.publish("h", "", &raw, b"by headers").await;
        let found = client.get("q").await;
        assert_eq!((found.properties, &found.body[..]), (raw.clone(), &b"by headers"[..]));
        let consume = Method::BasicConsume {
            ticket: 0,
            queue: "q",
            consumer_tag: "t",
            no_local: false,
            no_ack: true,
            exclusive: false,
            no_wait: false,
            arguments,
        };
        client.call(1, consume).await;
        client.publish("", "q", &raw, b"to a consumer").await;
        assert!(matches!(client.next().await.method(), Method::BasicDeliver { .. }));
        assert_eq!(client.content().await.properties, raw);
    });
}

/// A stream on which a close with unread bytes takes back what was sent, as TCP does.
struct Resetting {
    io: DuplexStream,
    /// Whether everything that the other end has sent was read.
    seen_end: std::rc::Rc<std::cell::Cell<bool>>,
    shut: std::rc::Rc<std::cell::Cell<bool>>,
}

impl AsyncRead for Resetting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(context, buffer);
        if polled.is_ready() && buffer.filled().len() == before {
            self.seen_end.set(true);
        }
        polled
    }
}

impl AsyncWrite for Resetting {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.shut.set(true);
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[test]
fn frames_behind_the_close_do_not_take_its_answer_away() {
    run(|| async {
        let node = Node::new().await;
        node.connect().await.queue("q", true, b"").await;
        let (seen_end, shut) = <(std::rc::Rc<std::cell::Cell<bool>>, std::rc::Rc<_>)>::default();
        let (seen, closed) = (seen_end.clone(), std::rc::Rc::clone(&shut));
        let mut client = node.dial_over(near(), |io| Resetting { io, seen_end, shut });
        client.open("guest", "guest", "/").await;
        let mut out = Vec::new();
        for _ in 0..10 {
            write_publish("", "q", &PERSISTENT, b"before", &mut out);
        }
        CLOSE.write(0, &mut out);
        for _ in 0..100 {
            write_publish("", "q", &PERSISTENT, &[7; 4000], &mut out);
        }
        // More than any buffer between the two holds: all of it has to be read.
        client.raw(&out).await.unwrap();
        assert_eq!(client.next().await.method(), Method::ConnectionCloseOk {});
        assert!(client.is_quiet().await);
        assert!(!closed.get() && !seen.get(), "the socket is the client's to close");
        drop(client);
        while !seen.get() {
            tokio::task::yield_now().await;
        }
        let mut other = node.connect().await;
        assert_eq!(other.queue("q", true, b"").await, 10, "what was published before, and no more");
    });
}

#[test]
fn who_ends_the_connection_closes_the_socket() {
    run(|| async {
        let node = Node::new().await;
        let ending = || std::rc::Rc::new(std::cell::Cell::new(false));
        let (seen_end, shut) = (ending(), ending());
        let (seen, closed) = (seen_end.clone(), shut.clone());
        let mut client = node.dial_over(near(), |io| Resetting { io, seen_end, shut });
        client.open("guest", "guest", "/").await;
        client.send(0, CLOSE).await;
        assert_eq!(client.next().await.method(), Method::ConnectionCloseOk {});
        for _ in 0..4 {
            tokio::time::advance(std::time::Duration::from_secs(1)).await;
            assert!(client.is_quiet().await && !closed.get(), "closed under the client's hands");
        }
        drop(client);
        while !seen.get() {
            tokio::task::yield_now().await;
        }
        // An end that the server begins is one that it completes.
        let mut client = node.connect().await;
        client.send(0, Method::ConnectionOpenOk { known_hosts: "" }).await;
        client.closed_with(504).await;
    });
}

#[test]
fn who_goes_on_sending_behind_the_close_is_cut_off_in_the_end() {
    run(|| async {
        let node = Node::new().await;
        let mut client = node.connect().await;
        client.send(0, CLOSE).await;
        assert_eq!(client.next().await.method(), Method::ConnectionCloseOk {});
        for _ in 0..20 {
            tokio::time::advance(std::time::Duration::from_millis(500)).await;
            let _ = client.raw(&frame::HEARTBEAT).await;
            client.is_quiet().await;
        }
        assert!(client.raw(&frame::HEARTBEAT).await.is_err(), "read for ever");
    });
}

/// A stream whose peer takes nothing more, while what it has sent can still be read.
struct Broken(DuplexStream, std::rc::Rc<std::cell::Cell<bool>>);

impl AsyncRead for Broken {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Broken {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        if self.1.get() {
            return Poll::Ready(Err(std::io::ErrorKind::BrokenPipe.into()));
        }
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[test]
fn what_was_sent_before_the_client_left_is_taken() {
    run(|| async {
        let node = Node::with(SimulatedDisk::new(), Options::default()).await;
        let broken = std::rc::Rc::new(std::cell::Cell::new(false));
        let breaks = broken.clone();
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let mut ours = ours;
        let mut client: Client = node.dial_over(near(), |io| Broken(io, breaks));
        client.open("guest", "guest", "/").await;
        client.queue("q", true, b"").await;
        client.confirms().await;
        drop((theirs, ours.shutdown().await));
        broken.set(true);
        // The confirm of the first breaks the pipe; the rest is on its way.
        for _ in 0..50 {
            client.publish("", "q", &PERSISTENT, &[7; 20_000]).await;
            client.is_quiet().await;
        }
        drop(client);
        let mut other = node.connect().await;
        for _ in 0..1000 {
            if other.queue("q", true, b"").await == 50 {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("{} of 50", other.queue("q", true, b"").await);
    });
}
