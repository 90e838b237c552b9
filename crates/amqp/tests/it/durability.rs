//! What is confirmed is on disk, what is declared comes back, and what a disk cannot take is told.

use weft_ledger::disk::simulated::Faults;
use weft_wire::amqp::{Method, Table, TableWriter};

use crate::{
    client::{Client, PERSISTENT, write_publish},
    node::{Node, near, run},
};

fn to_all(queue: &str) -> Method<'_> {
    Method::QueueBind {
        ticket: 0,
        queue,
        exchange: "amq.fanout",
        routing_key: "",
        no_wait: false,
        arguments: Table::EMPTY,
    }
}

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
fn a_confirm_waits_for_its_own_write_and_not_for_an_earlier_one() {
    run(|| async {
        let node = Node::new().await;
        let mut client = node.connect().await;
        client.queue("q", true, b"").await;
        client.queue("empty", true, b"").await;
        client.confirms().await;
        node.turn(false);
        client.publish("", "q", &PERSISTENT, b"first").await;
        assert!(client.is_quiet().await);
        // The question waits for the first; the second goes out behind it.
        let mut out = Vec::new();
        Method::BasicGet { ticket: 0, queue: "empty", no_ack: true }.write(1, &mut out);
        write_publish("", "q", &PERSISTENT, b"second", &mut out);
        client.raw(&out).await.unwrap();
        assert!(client.is_quiet().await);
        node.turn_once();
        let first = Method::BasicAck { delivery_tag: 1, multiple: false };
        assert_eq!(client.next().await.method(), first);
        assert!(matches!(client.next().await.method(), Method::BasicGetEmpty { .. }));
        assert!(client.is_quiet().await, "the second was confirmed before it was on disk");
        node.turn(true);
        let second = Method::BasicAck { delivery_tag: 2, multiple: false };
        assert_eq!(client.next().await.method(), second);
    });
}

#[test]
fn what_was_confirmed_and_declared_is_there_after_a_crash() {
    run(|| async {
        let mut node = Node::new().await;
        for seed in 0..4 {
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
        let expect: Vec<_> = (0..4).map(|seed| format!("order {seed}")).collect();
        assert_eq!(found, expect);
    });
}

#[test]
fn bindings_of_a_queue_that_went_while_nobody_looked_go_at_the_next_start() {
    run(|| async {
        let node = Node::new().await;
        let mut client = node.connect().await;
        for queue in ["gone", "kept"] {
            client.queue(queue, true, b"").await;
            assert_eq!(client.call(1, to_all(queue)).await.method(), Method::QueueBindOk {});
        }
        let key = weft_broker::Key::plain("gone").unwrap();
        node.broker.delete_queue(&key, None).await.unwrap();
        let node = node.crash(1).await;
        // A new queue of the name is bound to nothing.
        let options = weft_broker::QueueOptions::default();
        node.broker.declare_queue(&key, options).await.unwrap();
        let mut client = node.connect().await;
        client.publish("amq.fanout", "", &PERSISTENT, b"m").await;
        assert_eq!(client.get("kept").await.body, b"m");
        assert!(client.look("gone").await.is_none());
    });
}

#[test]
fn bindings_go_with_a_queue_that_another_front_end_deletes() {
    run(|| async {
        let node = Node::new().await;
        let mut client = node.connect().await;
        for queue in ["gone", "kept"] {
            client.queue(queue, true, b"").await;
            assert_eq!(client.call(1, to_all(queue)).await.method(), Method::QueueBindOk {});
        }
        let key = weft_broker::Key::plain("gone").unwrap();
        node.broker.delete_queue(&key, None).await.unwrap();
        // Another of the same name is another queue, also after a crash.
        let options = weft_broker::QueueOptions::default();
        node.broker.declare_queue(&key, options).await.unwrap();
        client.publish("amq.fanout", "", &PERSISTENT, b"m").await;
        assert_eq!(client.get("kept").await.body, b"m");
        assert!(client.look("gone").await.is_none(), "nothing leads to it");
        let node = node.crash(1).await;
        let mut client = node.connect().await;
        client.publish("amq.fanout", "", &PERSISTENT, b"n").await;
        assert_eq!(client.get("kept").await.body, b"n");
        assert!(client.look("gone").await.is_none());
    });
}

#[test]
fn a_disk_that_is_full_blocks_publishers_until_there_is_room() {
    run(|| async {
        let node = Node::new().await;
        let mut client = node.connect().await;
        client.queue("q", true, b"").await;
        client.confirms().await;
        node.fill_disk();
        let body = vec![7; 256 << 10];
        let (mut sent, mut told) = (0, 0);
        // What is allocated is filled first.
        let blocked = loop {
            client.publish("", "q", &PERSISTENT, &body).await;
            sent += 1;
            match client.next().await.method() {
                Method::BasicAck { delivery_tag, .. } => told = delivery_tag,
                Method::ConnectionBlocked { reason } => break reason.to_owned(),
                other => panic!("{other:?}"),
            }
            assert!(sent < 200, "never full");
        };
        assert_eq!(blocked, "low on disk");
        assert_eq!(told, sent - 1);
        node.disk.set_faults(Faults::default());
        let mut unblocked = false;
        while !unblocked || told < sent {
            tokio::time::advance(std::time::Duration::from_millis(300)).await;
            match client.next().await.method() {
                Method::BasicAck { delivery_tag, .. } => told = delivery_tag,
                Method::ConnectionUnblocked {} => unblocked = true,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(told, sent, "what waited is taken");
    });
}

#[test]
fn a_queue_that_goes_keeps_no_message_from_the_others() {
    run(|| async {
        let node = Node::new().await;
        let mut client = node.connect().await;
        for queue in ["gone", "kept"] {
            client.queue(queue, true, b"").await;
            assert_eq!(client.call(1, to_all(queue)).await.method(), Method::QueueBindOk {});
        }
        client.confirms().await;
        node.fill_disk();
        let mut sent = 0;
        loop {
            client.publish("amq.fanout", "", &PERSISTENT, &[7; 128 << 10]).await;
            sent += 1;
            if let Method::ConnectionBlocked { .. } = client.next().await.method() {
                break;
            }
        }
        // The last waits for room, and one of its queues goes meanwhile.
        node.disk.set_faults(Faults::default());
        let key = weft_broker::Key::plain("gone").unwrap();
        node.broker.delete_queue(&key, None).await.unwrap();
        tokio::time::advance(std::time::Duration::from_millis(300)).await;
        assert_eq!(client.next().await.method(), Method::ConnectionUnblocked {});
        let told = Method::BasicAck { delivery_tag: sent, multiple: false };
        assert_eq!(client.next().await.method(), told);
        assert_eq!(client.queue("kept", true, b"").await, sent as u32);
    });
}

/// A queue that refuses a second message and one that takes any, and confirms.
async fn small_and_large(client: &mut Client) {
    let mut arguments = Vec::new();
    TableWriter::new(&mut arguments)
        .entry("x-max-length", weft_wire::amqp::Value::I32(1))
        .text("x-overflow", "reject-publish");
    client.queue("small", true, &arguments[4..]).await;
    client.queue("large", true, b"").await;
    client.confirms().await;
}

#[test]
fn a_full_disk_refuses_nothing_beside_what_a_full_queue_refuses() {
    run(|| async {
        let node = Node::new().await;
        let mut client = node.connect().await;
        small_and_large(&mut client).await;
        client.publish("", "small", &PERSISTENT, b"m").await;
        assert!(matches!(client.next().await.method(), Method::BasicAck { .. }));
        node.fill_disk();
        let mut sent = 1;
        loop {
            let mut out = Vec::new();
            write_publish("", "small", &PERSISTENT, b"m", &mut out);
            write_publish("", "large", &PERSISTENT, &[7; 32 << 10], &mut out);
            client.raw(&out).await.unwrap();
            sent += 2;
            assert!(sent < 2000, "never full");
            match client.next().await.method() {
                Method::BasicNack { delivery_tag, .. } => assert_eq!(delivery_tag, sent - 1),
                Method::ConnectionBlocked { .. } => break,
                other => panic!("{other:?}"),
            }
            let taken = client.next().await;
            assert_eq!(taken.method(), Method::BasicAck { delivery_tag: sent, multiple: false });
        }
        node.disk.set_faults(Faults::default());
        tokio::time::advance(std::time::Duration::from_millis(300)).await;
        assert_eq!(client.next().await.method(), Method::ConnectionUnblocked {});
        let refused = Method::BasicNack { delivery_tag: sent - 1, multiple: false, requeue: false };
        assert_eq!(client.next().await.method(), refused);
        let taken = Method::BasicAck { delivery_tag: sent, multiple: false };
        assert_eq!(client.next().await.method(), taken);
    });
}

#[test]
fn publishes_that_are_too_much_for_one_transaction_become_several() {
    run(|| async {
        let node = Node::new().await;
        let mut client = node.connect().await;
        let queues: Vec<String> = (0..40).map(|number| format!("q{number}")).collect();
        for queue in &queues {
            client.queue(queue, true, b"").await;
            assert_eq!(client.call(1, to_all(queue)).await.method(), Method::QueueBindOk {});
        }
        client.confirms().await;
        let mut out = Vec::new();
        for _ in 0..2 {
            write_publish("amq.fanout", "", &PERSISTENT, &[7; 30_000], &mut out);
        }
        client.raw(&out).await.unwrap();
        let mut told = 0;
        while told < 2 {
            match client.next().await.method() {
                Method::BasicAck { delivery_tag, .. } => told = delivery_tag,
                other => panic!("{other:?}"),
            }
        }
        for queue in &queues {
            assert_eq!(client.queue(queue, true, b"").await, 2);
        }
    });
}

#[test]
fn a_disk_that_fails_ends_the_connection_and_not_the_node() {
    run(|| async {
        let node = Node::new().await;
        let mut client = node.connect().await;
        client.queue("q", true, b"").await;
        client.confirms().await;
        node.turn(false);
        client.publish("", "q", &PERSISTENT, b"m").await;
        assert!(client.is_quiet().await);
        node.disk.set_faults(Faults { fail_sync_from: Some(0), ..Faults::default() });
        node.turn(true);
        client.closed_with(541).await;
        // Others are still listened to.
        node.dial(near()).log_in("PLAIN", b"\0guest\0guest").await;
    });
}

#[test]
fn a_full_queue_that_refuses_nacks_only_its_own() {
    run(|| async {
        let node = Node::new().await;
        let mut client = node.connect().await;
        small_and_large(&mut client).await;
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
fn nothing_joins_a_channel_that_a_publish_before_has_closed() {
    run(|| async {
        let node = Node::new().await;
        let mut client = node.connect().await;
        client.queue("q", true, b"").await;
        for number in 0..40 {
            let queue = format!("q{number}");
            client.queue(&queue, true, b"").await;
            assert_eq!(client.call(1, to_all(&queue)).await.method(), Method::QueueBindOk {});
        }
        let mut out = Vec::new();
        // With all its copies it is too much for one transaction.
        write_publish("amq.fanout", "", &PERSISTENT, &[7; 60_000], &mut out);
        let consume = Method::BasicConsume {
            ticket: 0,
            queue: "q",
            consumer_tag: "late",
            no_local: false,
            no_ack: false,
            exclusive: false,
            no_wait: false,
            arguments: Table::EMPTY,
        };
        consume.write(1, &mut out);
        client.raw(&out).await.unwrap();
        assert!(matches!(client.next().await.method(), Method::ChannelClose { .. }));
        assert!(client.is_quiet().await, "a consumer was let in");
        let queue = node.broker.queue(&weft_broker::Key::plain("q").unwrap()).unwrap();
        assert_eq!(queue.consumers(), 0);
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
