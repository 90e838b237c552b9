//! What a channel says happens in the order in which it was said, at every level of durability: what was
//! published is there for the get, the count, the purge and the deletion behind it.

use weft_wire::amqp::{Method, Properties, Table, TableWriter};

use crate::{
    client::{Client, PERSISTENT, Taken},
    node::{Node, run},
};

const TRANSIENT: [u8; 2] = [0, 0];

/// The count that a passive declaration tells.
async fn depth(client: &mut Client, queue: &str) -> u32 {
    let declare = Method::QueueDeclare {
        ticket: 0,
        queue,
        passive: true,
        durable: false,
        exclusive: false,
        auto_delete: false,
        no_wait: false,
        arguments: Table::EMPTY,
    };
    let answer = client.call(1, declare).await;
    let Method::QueueDeclareOk { message_count, .. } = answer.method() else {
        panic!("{:?}", answer.method())
    };
    message_count
}

async fn purge(client: &mut Client, queue: &str) -> u32 {
    let answer = client.call(1, Method::QueuePurge { ticket: 0, queue, no_wait: false }).await;
    let Method::QueuePurgeOk { message_count } = answer.method() else {
        panic!("{:?}", answer.method())
    };
    message_count
}

async fn acked(client: &mut Client, tag: u64) {
    loop {
        let taken = client.next().await;
        let Method::BasicAck { delivery_tag, .. } = taken.method() else {
            panic!("{:?}", taken.method())
        };
        if delivery_tag == tag {
            return;
        }
    }
}

#[test]
fn what_was_published_is_there_for_what_looks_behind_it() {
    run(|| async {
        let node = Node::new().await;
        // Levels in which the messages take turns, so that weaker ones stand behind stronger ones too.
        let mixes: [&[&[u8]]; 4] = [
            &[&PERSISTENT],
            &[&TRANSIENT],
            &[&PERSISTENT, &TRANSIENT],
            &[&TRANSIENT, &TRANSIENT, &PERSISTENT, &TRANSIENT],
        ];
        for durable in [true, false] {
            for (at, mix) in mixes.iter().enumerate() {
                let mut client = node.connect().await;
                let queue = format!("q-{durable}-{at}");
                client.queue(&queue, durable, b"").await;
                for round in 1..20 {
                    for number in 0..round {
                        client.publish("", &queue, mix[number % mix.len()], b"m").await;
                    }
                    assert_eq!(depth(&mut client, &queue).await, round as u32, "{queue}");
                    client.publish("", &queue, mix[0], b"m").await;
                    assert!(client.look(&queue).await.is_some(), "{queue}: nothing to get");
                    assert_eq!(purge(&mut client, &queue).await, round as u32, "{queue}");
                    assert_eq!(depth(&mut client, &queue).await, 0, "{queue}");
                }
                for raw in *mix {
                    client.publish("", &queue, raw, b"m").await;
                }
                // Somebody else finds them too once the end of the connection is acknowledged.
                let close = Method::ConnectionClose {
                    reply_code: 200,
                    reply_text: "",
                    class_id: 0,
                    method_id: 0,
                };
                assert_eq!(client.call(0, close).await.method(), Method::ConnectionCloseOk {});
                let mut client = node.connect().await;
                assert_eq!(depth(&mut client, &queue).await, mix.len() as u32, "{queue}");
                client.publish("", &queue, mix[0], b"m").await;
                let delete = Method::QueueDelete {
                    ticket: 0,
                    queue: &queue,
                    if_unused: false,
                    if_empty: false,
                    no_wait: false,
                };
                let answer = client.call(1, delete).await;
                let message_count = mix.len() as u32 + 1;
                assert_eq!(answer.method(), Method::QueueDeleteOk { message_count }, "{queue}");
            }
        }
    });
}

#[test]
fn what_is_confirmed_is_seen_by_others_whatever_its_level() {
    run(|| async {
        let node = Node::new().await;
        let (mut client, mut other) = (node.connect().await, node.connect().await);
        for (queue, durable) in [("durable", true), ("transient", false)] {
            client.queue(queue, durable, b"").await;
        }
        client.confirms().await;
        let mut tag = 0;
        for round in 0..40 {
            for queue in ["durable", "transient"] {
                let raw: &[u8] = if round % 3 == 0 { &PERSISTENT } else { &TRANSIENT };
                client.publish("", queue, raw, b"m").await;
                tag += 1;
                acked(&mut client, tag).await;
                assert!(other.look(queue).await.is_some(), "{round}: nothing in {queue}");
            }
        }
    });
}

#[test]
fn a_rejected_message_is_a_dead_letter_for_what_looks_behind_it() {
    run(|| async {
        let node = Node::new().await;
        let mut client = node.connect().await;
        client.queue("dead", true, b"").await;
        let mut arguments = Vec::new();
        TableWriter::new(&mut arguments)
            .text("x-dead-letter-exchange", "")
            .text("x-dead-letter-routing-key", "dead");
        client.queue("q", true, &arguments[4..]).await;
        for round in 1..20 {
            client.publish("", "q", &TRANSIENT, b"m").await;
            let get = Method::BasicGet { ticket: 0, queue: "q", no_ack: false };
            let answer = client.call(1, get).await;
            let Method::BasicGetOk { delivery_tag, .. } = answer.method() else {
                panic!("{:?}", answer.method())
            };
            let content = client.content().await;
            assert!(Properties::parse(&content.properties).is_ok());
            client.send(1, Method::BasicReject { delivery_tag, requeue: false }).await;
            assert_eq!(depth(&mut client, "dead").await, round);
        }
    });
}

/// Deliveries that are there before an answer, and the answer.
async fn delivered_before_answer(client: &mut Client, method: Method<'_>) -> (u32, Taken) {
    client.send(1, method).await;
    let mut count = 0;
    loop {
        let taken = client.next().await;
        if !matches!(taken.method(), Method::BasicDeliver { .. }) {
            return (count, taken);
        }
        client.content().await;
        count += 1;
    }
}

#[test]
fn who_waits_is_given_what_was_published_before_anybody_looks() {
    run(|| async {
        let node = Node::new().await;
        for (durable, raw) in [(true, &PERSISTENT[..]), (true, &TRANSIENT), (false, &TRANSIENT)] {
            let queue = format!("q-{durable}-{}", raw.len());
            let queue = queue.as_str();
            let get = Method::BasicGet { ticket: 0, queue, no_ack: true };
            let look = Method::QueueDeclare {
                ticket: 0,
                queue,
                passive: true,
                durable: false,
                exclusive: false,
                auto_delete: false,
                no_wait: false,
                arguments: Table::EMPTY,
            };
            let purge = Method::QueuePurge { ticket: 0, queue, no_wait: false };
            let delete = Method::QueueDelete {
                ticket: 0,
                queue,
                if_unused: false,
                if_empty: true,
                no_wait: false,
            };
            let cancel = Method::BasicCancel { consumer_tag: "t", no_wait: false };
            let mut client = node.connect().await;
            client.queue(queue, durable, b"").await;
            client.consume(queue, "t").await;
            let mut own = 0;
            for method in [get, look, purge, cancel] {
                client.publish("", queue, raw, b"m").await;
                client.publish("", queue, raw, b"m").await;
                let (count, answer) = delivered_before_answer(&mut client, method).await;
                assert_eq!(count, 2, "{method:?}");
                own += count;
                match answer.method() {
                    Method::BasicGetEmpty { .. }
                    | Method::QueueDeclareOk { message_count: 0, consumer_count: 1, .. }
                    | Method::QueuePurgeOk { message_count: 0 }
                    | Method::BasicCancelOk { .. } => {}
                    other => panic!("{method:?}: {other:?}"),
                }
            }
            // The same for somebody else who waits, and whose turn comes only after this one's.
            let mut other = node.connect().await;
            other.consume(queue, "o").await;
            let mut sent = 0;
            for method in [get, look, purge, delete] {
                for _ in 0..3 {
                    client.publish("", queue, raw, b"m").await;
                    sent += 1;
                }
                let (count, answer) = delivered_before_answer(&mut client, method).await;
                assert_eq!(count, 0, "{method:?}");
                match answer.method() {
                    Method::BasicGetEmpty { .. }
                    | Method::QueueDeclareOk { message_count: 0, consumer_count: 1, .. }
                    | Method::QueuePurgeOk { message_count: 0 }
                    | Method::QueueDeleteOk { message_count: 0 } => {}
                    other => panic!("{method:?}: {other:?}"),
                }
            }
            for _ in 0..sent {
                assert!(matches!(other.next().await.method(), Method::BasicDeliver { .. }));
                other.content().await;
            }
            assert_eq!(own, 8);
        }
    });
}

#[test]
fn who_may_take_nothing_more_keeps_nobody_from_looking() {
    run(|| async {
        let node = Node::new().await;
        let mut client = node.connect().await;
        client.queue("q", true, b"").await;
        let mut other = node.connect().await;
        let qos = Method::BasicQos { prefetch_size: 0, prefetch_count: 1, global: false };
        assert_eq!(other.call(1, qos).await.method(), Method::BasicQosOk {});
        other.consume("q", "o").await;
        for _ in 0..3 {
            client.publish("", "q", &PERSISTENT, b"m").await;
        }
        let before = tokio::time::Instant::now();
        assert_eq!(depth(&mut client, "q").await, 2);
        assert!(client.look("q").await.is_some());
        assert_eq!(purge(&mut client, "q").await, 1);
        assert!(before.elapsed() < std::time::Duration::from_millis(50), "it waited for nobody");
    });
}
