//! What is confirmed is on disk, what is declared comes back, and what a disk cannot take is told.

use weft_wire::amqp::{Method, Table, TableWriter};

use crate::{
    client::PERSISTENT,
    node::{Node, run},
};

#[test]
fn a_confirm_waits_for_the_disk() {
    run(|| async {
        let node = Node::new().await;
        let mut client = node.connect().await;
        client.queue("q", true, b"").await;
        client.confirms().await;
        node.turn(false);
        for _ in 0..3 {
            client.publish("", "q", &PERSISTENT, b"m").await;
        }
        assert!(client.is_quiet().await, "confirmed before it was on disk");
        node.turn(true);
        let mut told = 0;
        while told < 3 {
            match client.next().await.method() {
                Method::BasicAck { delivery_tag, .. } => told = delivery_tag,
                other => panic!("{other:?}"),
            }
        }
    });
}

#[test]
fn what_was_confirmed_and_declared_is_there_after_a_crash() {
    run(|| async {
        let mut node = Node::new().await;
        for seed in 0..6 {
            let mut client = node.connect().await;
            if seed == 0 {
                let declare = Method::ExchangeDeclare {
                    ticket: 0,
                    exchange: "orders",
                    kind: "topic",
                    passive: false,
                    durable: true,
                    auto_delete: false,
                    internal: false,
                    no_wait: false,
                    arguments: Table::EMPTY,
                };
                let answer = client.call(1, declare).await;
                assert_eq!(answer.method(), Method::ExchangeDeclareOk {});
                client.queue("placed", true, b"").await;
                let bind = Method::QueueBind {
                    ticket: 0,
                    queue: "placed",
                    exchange: "orders",
                    routing_key: "*.placed",
                    no_wait: false,
                    arguments: Table::EMPTY,
                };
                assert_eq!(client.call(1, bind).await.method(), Method::QueueBindOk {});
            }
            client.confirms().await;
            let body = format!("order {seed}");
            client.publish("orders", "eu.placed", &PERSISTENT, body.as_bytes()).await;
            let answer = client.next().await;
            assert_eq!(answer.method(), Method::BasicAck { delivery_tag: 1, multiple: false });
            // One more whose confirm nobody waits for: it may be there or not, once.
            client.publish("orders", "eu.placed", &PERSISTENT, b"perhaps").await;
            node = node.crash(seed).await;
        }
        let mut client = node.connect().await;
        let mut found = Vec::new();
        while let Some(content) = client.look("placed").await {
            found.push(String::from_utf8(content.body).unwrap());
        }
        found.retain(|body| body != "perhaps");
        let expect: Vec<_> = (0..6).map(|seed| format!("order {seed}")).collect();
        assert_eq!(found, expect);
    });
}

#[test]
fn a_full_queue_that_refuses_nacks_only_its_own() {
    run(|| async {
        let node = Node::new().await;
        let mut client = node.connect().await;
        let mut arguments = Vec::new();
        TableWriter::new(&mut arguments)
            .entry("x-max-length", weft_wire::amqp::Value::I32(1))
            .text("x-overflow", "reject-publish");
        client.queue("small", true, &arguments[4..]).await;
        client.queue("large", true, b"").await;
        client.confirms().await;
        for queue in ["small", "large", "small", "large"] {
            client.publish("", queue, &PERSISTENT, queue.as_bytes()).await;
        }
        let (mut acked, mut nacked) = (0, Vec::new());
        while acked < 4 {
            match client.next().await.method() {
                Method::BasicAck { delivery_tag, .. } => acked = delivery_tag,
                Method::BasicNack { delivery_tag, .. } => nacked.push(delivery_tag),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(nacked, [3]);
        for queue in ["small", "large", "large"] {
            assert_eq!(client.get(queue).await.body, queue.as_bytes());
        }
        assert!(client.look("large").await.is_none());
        assert!(client.look("small").await.is_none());
    });
}

#[test]
fn a_message_that_the_ledger_cannot_take_closes_its_channel_aloud() {
    run(|| async {
        let node = Node::new().await;
        let mut client = node.connect().await;
        client.queue("q", true, b"").await;
        client.publish("", "q", &PERSISTENT, &vec![7; 3 << 20]).await;
        let answer = client.next().await;
        let Method::ChannelClose { reply_code, reply_text, .. } = answer.method() else {
            panic!("{answer:?}")
        };
        assert_eq!(reply_code, 406, "{reply_text}");
    });
}
