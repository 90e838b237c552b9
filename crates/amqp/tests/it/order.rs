//! What a channel says happens in the order in which it was said, at every level of durability: what was
//! published is there for the get, the count, the purge and the deletion behind it.

use weft_wire::amqp::{Method, Properties, Table, TableWriter};

use crate::{
    client::{Client, PERSISTENT},
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
