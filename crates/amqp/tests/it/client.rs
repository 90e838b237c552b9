//! A client that speaks in frames, by the codec.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use weft_wire::amqp::{
    ContentHeader, FrameKind, Method, PROTOCOL_HEADER, Properties, Table, frame, write_content,
};

pub(crate) struct Client {
    io: DuplexStream,
    kept: Vec<u8>,
}

/// A frame that owns its bytes.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) kind: FrameKind,
    pub(crate) payload: Vec<u8>,
}

impl Taken {
    pub(crate) fn method(&self) -> Method<'_> {
        assert_eq!(self.kind, FrameKind::Method, "{self:?}");
        Method::parse(&self.payload).unwrap()
    }
}

/// A message as it came.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) properties: Vec<u8>,
    pub(crate) body: Vec<u8>,
}

pub(crate) const PERSISTENT: [u8; 3] = [0x10, 0, 2];

/// Declares a durable queue.
pub(crate) fn declare_queue<'a>(queue: &'a str, passive: bool, arguments: Table<'a>) -> Method<'a> {
    Method::QueueDeclare {
        ticket: 0,
        queue,
        passive,
        durable: true,
        exclusive: false,
        auto_delete: false,
        no_wait: false,
        arguments,
    }
}

impl Client {
    pub(crate) fn new(io: DuplexStream) -> Self {
        Self { io, kept: Vec::new() }
    }

    pub(crate) async fn raw(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.io.write_all(bytes).await
    }

    pub(crate) async fn send(&mut self, channel: u16, method: Method<'_>) {
        let mut out = Vec::new();
        method.write(channel, &mut out);
        self.raw(&out).await.unwrap();
    }

    /// The next frame that is no heartbeat; `None` at the end.
    pub(crate) async fn take(&mut self) -> Option<Taken> {
        loop {
            if let Some((found, used)) = frame::parse(&self.kept, 0).unwrap() {
                let kind = found.kind;
                let payload = found.payload.to_vec();
                self.kept.drain(..used);
                if kind == FrameKind::Heartbeat {
                    continue;
                }
                return Some(Taken { kind, payload });
            }
            if self.io.read_buf(&mut self.kept).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    pub(crate) async fn next(&mut self) -> Taken {
        self.take().await.expect("the server has more to say")
    }

    /// Sends and takes the answer.
    pub(crate) async fn call(&mut self, channel: u16, method: Method<'_>) -> Taken {
        self.send(channel, method).await;
        self.next().await
    }

    /// Whether the server says nothing for a while of its own turns.
    pub(crate) async fn is_quiet(&mut self) -> bool {
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
        let taken = std::future::poll_fn(|context| {
            let mut space = [0; 4096];
            let mut buffer = tokio::io::ReadBuf::new(&mut space);
            let polled = tokio::io::AsyncRead::poll_read(
                std::pin::Pin::new(&mut self.io),
                context,
                &mut buffer,
            );
            self.kept.extend_from_slice(buffer.filled());
            std::task::Poll::Ready(polled.is_ready())
        })
        .await;
        !taken && self.kept.is_empty()
    }

    pub(crate) async fn open(&mut self, user: &str, password: &str, vhost: &str) {
        self.open_beating(user, password, vhost, 0).await;
    }

    /// The same with heartbeats, in seconds.
    pub(crate) async fn open_beating(
        &mut self,
        user: &str,
        password: &str,
        vhost: &str,
        heartbeat: u16,
    ) {
        self.log_in("PLAIN", format!("\0{user}\0{password}").as_bytes()).await;
        let tune = self.next().await;
        let Method::ConnectionTune { channel_max, frame_max, .. } = tune.method() else {
            panic!("{:?}", tune.method())
        };
        self.send(0, Method::ConnectionTuneOk { channel_max, frame_max, heartbeat }).await;
        let open = Method::ConnectionOpen { virtual_host: vhost, capabilities: "", insist: false };
        let answer = self.call(0, open).await;
        assert_eq!(answer.method(), Method::ConnectionOpenOk { known_hosts: "" });
        self.channel(1).await;
    }

    pub(crate) async fn log_in(&mut self, mechanism: &str, response: &[u8]) {
        self.raw(PROTOCOL_HEADER).await.unwrap();
        let start = self.next().await;
        assert!(matches!(start.method(), Method::ConnectionStart { .. }));
        // capabilities: cancel notify, blocked, failure close
        let mut properties = Vec::new();
        weft_wire::amqp::TableWriter::new(&mut properties).table("capabilities", |table| {
            for name in
                ["consumer_cancel_notify", "connection.blocked", "authentication_failure_close"]
            {
                table.entry(name, weft_wire::amqp::Value::Bool(true));
            }
        });
        self.send(
            0,
            Method::ConnectionStartOk {
                client_properties: Table::parse(&properties[4..]).unwrap(),
                mechanism,
                response,
                locale: "en_US",
            },
        )
        .await;
    }

    pub(crate) async fn channel(&mut self, number: u16) {
        let answer = self.call(number, Method::ChannelOpen { reserved: "" }).await;
        assert_eq!(answer.method(), Method::ChannelOpenOk { reserved: b"" });
    }

    pub(crate) async fn queue(&mut self, queue: &str, durable: bool, arguments: &[u8]) -> u32 {
        let declare = Method::QueueDeclare {
            ticket: 0,
            queue,
            passive: false,
            durable,
            exclusive: false,
            auto_delete: false,
            no_wait: false,
            arguments: Table::parse(arguments).unwrap(),
        };
        let answer = self.call(1, declare).await;
        match answer.method() {
            Method::QueueDeclareOk { message_count, .. } => message_count,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn confirms(&mut self) {
        let answer = self.call(1, Method::ConfirmSelect { no_wait: false }).await;
        assert_eq!(answer.method(), Method::ConfirmSelectOk {});
    }

    pub(crate) async fn publish(&mut self, exchange: &str, key: &str, raw: &[u8], body: &[u8]) {
        let mut out = Vec::new();
        write_publish(exchange, key, raw, body, &mut out);
        self.raw(&out).await.unwrap();
    }

    /// The header and body that follow a method.
    pub(crate) async fn content(&mut self) -> Content {
        let head = self.next().await;
        assert_eq!(head.kind, FrameKind::Header);
        let header = ContentHeader::parse(&head.payload).unwrap();
        let mut body = Vec::new();
        while (body.len() as u64) < header.body_bytes {
            let part = self.next().await;
            assert_eq!(part.kind, FrameKind::Body);
            body.extend(part.payload);
        }
        Content { properties: header.raw.to_vec(), body }
    }

    /// Fetches a message, taken as settled; asks until one is there.
    pub(crate) async fn get(&mut self, queue: &str) -> Content {
        for _ in 0..1000 {
            if let Some(found) = self.look(queue).await {
                return found;
            }
            tokio::task::yield_now().await;
        }
        panic!("nothing in {queue}");
    }

    /// Fetches a message if there is one.
    pub(crate) async fn look(&mut self, queue: &str) -> Option<Content> {
        let answer = self.call(1, Method::BasicGet { ticket: 0, queue, no_ack: true }).await;
        match answer.method() {
            Method::BasicGetEmpty { .. } => None,
            Method::BasicGetOk { .. } => Some(self.content().await),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn consume(&mut self, queue: &str, tag: &str) {
        let consume = Method::BasicConsume {
            ticket: 0,
            queue,
            consumer_tag: tag,
            no_local: false,
            no_ack: false,
            exclusive: false,
            no_wait: false,
            arguments: Table::EMPTY,
        };
        let answer = self.call(1, consume).await;
        assert_eq!(answer.method(), Method::BasicConsumeOk { consumer_tag: tag });
    }

    /// Takes what must be the end of the connection, by this code.
    pub(crate) async fn closed_with(&mut self, code: u16) -> String {
        loop {
            let taken = self.next().await;
            if taken.kind == FrameKind::Method
                && let Method::ConnectionClose { reply_code, reply_text, .. } = taken.method()
            {
                assert_eq!(reply_code, code, "{reply_text}");
                let text = reply_text.to_owned();
                self.send(0, Method::ConnectionCloseOk {}).await;
                assert!(self.take().await.is_none(), "it goes on talking");
                return text;
            }
        }
    }
}

/// Writes the frames of a publish on the first channel.
pub(crate) fn write_publish(exchange: &str, key: &str, raw: &[u8], body: &[u8], out: &mut Vec<u8>) {
    let method = Method::BasicPublish {
        ticket: 0,
        exchange,
        routing_key: key,
        mandatory: false,
        immediate: false,
    };
    write_content(1, &method, raw, body, 131_072, out);
}

/// The text headers of a message.
pub(crate) fn header(content: &Content, name: &str) -> Option<String> {
    let properties = Properties::parse(&content.properties).unwrap();
    properties.headers?.get(name)?.text().map(str::to_owned)
}
