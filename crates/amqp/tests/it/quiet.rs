//! What is ordinary is no warning: what clients can bring about by themselves leaves the log alone.

use std::{
    fmt::{Debug, Write as _},
    sync::{Arc, Mutex},
};

use tracing::{Event, Level, Metadata, Subscriber, field::Field, span};
use weft_wire::amqp::{FrameKind, Method, Table, TableWriter, frame};

use crate::{
    client::PERSISTENT,
    node::{Node, near, run},
};

/// Every warning and error that was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

struct Text(String);

impl tracing::field::Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, " {field}={value:?}");
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn new_span(&self, _span: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _span: &span::Id, _values: &span::Record<'_>) {}

    fn record_follows_from(&self, _span: &span::Id, _follows: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(event.metadata().target().to_owned());
        event.record(&mut text);
        self.0.lock().unwrap().push(text.0);
    }

    fn enter(&self, _span: &span::Id) {}

    fn exit(&self, _span: &span::Id) {}
}

#[test]
fn what_clients_bring_about_is_no_warning() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    run(|| async {
        let node = Node::new().await;
        let mut admin = node.connect().await;
        let mut dead = Vec::new();
        TableWriter::new(&mut dead).text("x-dead-letter-exchange", "nowhere");
        let delete = Method::QueueDelete {
            ticket: 0,
            queue: "q",
            if_unused: false,
            if_empty: false,
            no_wait: false,
        };
        // Every way to settle, in a queue that was deleted meanwhile.
        for way in 0..6 {
            admin.queue("q", way % 2 == 0, &dead[4..]).await;
            let mut client = node.connect().await;
            for _ in 0..3 {
                client.publish("", "q", &PERSISTENT, b"x").await;
            }
            client.consume("q", "t").await;
            for _ in 0..3 {
                assert!(matches!(client.next().await.method(), Method::BasicDeliver { .. }));
                client.content().await;
            }
            admin.call(1, delete).await;
            let cancel = client.next().await;
            assert!(matches!(cancel.method(), Method::BasicCancel { .. }), "{cancel:?}");
            match way {
                0 => client.send(1, Method::BasicAck { delivery_tag: 3, multiple: true }).await,
                1 => client.send(1, Method::BasicReject { delivery_tag: 1, requeue: true }).await,
                2 => client.send(1, Method::BasicReject { delivery_tag: 1, requeue: false }).await,
                3 => client.send(1, Method::BasicRecover { requeue: true }).await,
                4 => {
                    let close = Method::ChannelClose {
                        reply_code: 200,
                        reply_text: "",
                        class_id: 0,
                        method_id: 0,
                    };
                    client.send(1, close).await;
                }
                _ => {}
            }
            client.is_quiet().await;
            drop(client);
        }
        // Clients that leave in the middle of things, with queues of their own.
        for (exclusive, auto_delete) in [(true, false), (false, true), (true, true)] {
            let mut client = node.connect().await;
            let declare = Method::QueueDeclare {
                ticket: 0,
                queue: "own",
                passive: false,
                durable: false,
                exclusive,
                auto_delete,
                no_wait: false,
                arguments: Table::EMPTY,
            };
            client.call(1, declare).await;
            client.consume("own", "t").await;
            client.publish("", "own", &PERSISTENT, b"x").await;
            assert!(matches!(client.next().await.method(), Method::BasicDeliver { .. }));
            drop(client);
            admin.is_quiet().await;
        }
        // Clients that break the protocol, or stop in the middle of it.
        let mut client = node.connect().await;
        let mut out = Vec::new();
        frame::write(FrameKind::Body, 1, &mut out, |out| out.push(1));
        client.raw(&out).await.unwrap();
        client.closed_with(505).await;
        let mut client = node.dial(near());
        client.raw(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let mut client = node.dial(near());
        client.raw(b"AMQ").await.unwrap();
        for _ in 0..6 {
            tokio::time::advance(std::time::Duration::from_secs(3)).await;
            admin.is_quiet().await;
        }
    });
    let log = log.0.lock().unwrap();
    assert!(log.is_empty(), "{log:#?}");
}
