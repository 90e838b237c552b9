//! Several consumers: who is given what, and how much of it.

use std::collections::HashMap;

use weft_wire::amqp::{Array, Method, Table, TableWriter, Value};

use crate::{
    client::{Client, PERSISTENT},
    node::{Node, run},
};

async fn qos(client: &mut Client, prefetch_count: u16, global: bool) {
    let qos = Method::BasicQos { prefetch_size: 0, prefetch_count, global };
    assert_eq!(client.call(1, qos).await.method(), Method::BasicQosOk {});
}

async fn consume(client: &mut Client, queue: &str, consumer_tag: &str, no_ack: bool) {
    let consume = Method::BasicConsume {
        ticket: 0,
        queue,
        consumer_tag,
        no_local: false,
        no_ack,
        exclusive: false,
        no_wait: false,
        arguments: Table::EMPTY,
    };
    assert_eq!(client.call(1, consume).await.method(), Method::BasicConsumeOk { consumer_tag });
}

/// The next delivery: whose it is and its tag.
async fn delivered(client: &mut Client) -> (String, u64) {
    let taken = client.next().await;
    let Method::BasicDeliver { consumer_tag, delivery_tag, .. } = taken.method() else {
        panic!("{:?}", taken.method())
    };
    let tag = consumer_tag.to_owned();
    client.content().await;
    (tag, delivery_tag)
}

/// Asks something that is answered once what came before is done.
async fn settled(client: &mut Client) {
    qos(client, 0, false).await;
}

#[test]
fn what_comes_at_once_is_dealt_out_to_all_who_wait() {
    run(|| async {
        let node = Node::new().await;
        for (number, (own, prefetch, messages)) in
            [(true, 0, 10), (true, 100, 10), (true, 0, 300), (false, 0, 10), (false, 0, 300)]
                .into_iter()
                .enumerate()
        {
            let queue = format!("q{number}");
            let mut client = node.connect().await;
            client.queue(&queue, false, b"").await;
            let mut others = [node.connect().await, node.connect().await];
            for (at, tag) in ["x", "y"].into_iter().enumerate() {
                let consumer = if own { &mut others[0] } else { &mut others[at] };
                qos(consumer, prefetch, false).await;
                consume(consumer, &queue, tag, false).await;
            }
            let mut out = Vec::new();
            for _ in 0..messages {
                crate::client::write_publish("", &queue, &PERSISTENT, b"m", &mut out);
            }
            client.raw(&out).await.unwrap();
            // Looking lets all who wait have theirs.
            client.queue(&queue, false, b"").await;
            let mut counts: HashMap<String, u32> = HashMap::new();
            for consumer in &mut others {
                while !consumer.is_quiet().await {
                    *counts.entry(delivered(consumer).await.0).or_default() += 1;
                }
            }
            assert_eq!(counts.values().sum::<u32>(), messages, "{counts:?}");
            let least = messages / 2 - messages / 20;
            for tag in ["x", "y"] {
                assert!(counts.get(tag).is_some_and(|count| *count >= least), "{own} {counts:?}");
            }
        }
    });
}

#[test]
fn under_a_prefetch_of_the_channel_all_of_its_consumers_have_their_turn() {
    run(|| async {
        let node = Node::new().await;
        for queues in [["a", "a", "a"], ["b", "c", "d"]] {
            let mut client = node.connect().await;
            for queue in queues {
                client.queue(queue, true, b"").await;
                for _ in 0..12 {
                    client.publish("", queue, &PERSISTENT, b"m").await;
                }
            }
            qos(&mut client, 1, true).await;
            for (queue, tag) in queues.iter().zip(["x", "y", "z"]) {
                client
                    .send(
                        1,
                        Method::BasicConsume {
                            ticket: 0,
                            queue,
                            consumer_tag: tag,
                            no_local: false,
                            no_ack: false,
                            exclusive: false,
                            no_wait: true,
                            arguments: Table::EMPTY,
                        },
                    )
                    .await;
            }
            let mut counts: HashMap<String, u32> = HashMap::new();
            for _ in 0..12 {
                let (tag, delivery_tag) = delivered(&mut client).await;
                assert!(client.is_quiet().await, "more than one at a time");
                *counts.entry(tag).or_default() += 1;
                client.send(1, Method::BasicAck { delivery_tag, multiple: false }).await;
            }
            let even = counts.len() == 3 && counts.values().all(|count| (3..=5).contains(count));
            assert!(even, "{queues:?}: {counts:?}");
        }
    });
}

#[test]
fn who_needs_no_ack_waits_while_the_channel_is_full_and_does_not_fill_it() {
    run(|| async {
        let node = Node::new().await;
        let mut client = node.connect().await;
        for queue in ["a", "b"] {
            client.queue(queue, true, b"").await;
        }
        qos(&mut client, 1, true).await;
        consume(&mut client, "a", "acks", false).await;
        consume(&mut client, "b", "none", true).await;
        // As many as there are while nothing is unsettled.
        for _ in 0..3 {
            client.publish("", "b", &PERSISTENT, b"m").await;
            assert_eq!(delivered(&mut client).await.0, "none");
        }
        client.publish("", "a", &PERSISTENT, b"m").await;
        let (tag, delivery_tag) = delivered(&mut client).await;
        assert_eq!(tag, "acks");
        for _ in 0..3 {
            client.publish("", "b", &PERSISTENT, b"m").await;
        }
        settled(&mut client).await;
        assert!(client.is_quiet().await, "it was not to go on while the channel is full");
        client.send(1, Method::BasicAck { delivery_tag, multiple: false }).await;
        for _ in 0..3 {
            assert_eq!(delivered(&mut client).await.0, "none");
        }
    });
}

#[test]
fn arguments_of_a_consumer_are_checked() {
    run(|| async {
        let node = Node::new().await;
        let mut client = node.connect().await;
        client.queue("q", true, b"").await;
        for (name, value, word) in [
            ("x-priority", Value::Long(b"banana"), Some("longstr")),
            ("x-priority", Value::Void, Some("void")),
            ("x-priority", Value::Array(Array::default()), Some("array")),
            ("x-priority", Value::Bool(true), Some("bool")),
            ("x-priority", Value::F64(1.0), Some("double")),
            ("x-cancel-on-ha-failover", Value::I32(1), Some("signedint")),
            ("x-cancel-on-ha-failover", Value::Bool(true), None),
            ("x-priority", Value::I8(-1), None),
            ("x-priority", Value::I64(10), None),
            ("x-else", Value::Void, None),
        ] {
            let mut table = Vec::new();
            TableWriter::new(&mut table).entry(name, value);
            let consume = Method::BasicConsume {
                ticket: 0,
                queue: "q",
                consumer_tag: "",
                no_local: false,
                no_ack: false,
                exclusive: false,
                no_wait: false,
                arguments: Table::parse(&table[4..]).unwrap(),
            };
            let answer = client.call(1, consume).await;
            match (answer.method(), word) {
                (Method::BasicConsumeOk { .. }, None) => {}
                (Method::ChannelClose { reply_code: 406, reply_text, .. }, Some(word)) => {
                    let told = format!(
                        "invalid arg '{name}' for queue 'q' in vhost '/': \
                         {{unacceptable_type,{word}}}"
                    );
                    assert!(reply_text.ends_with(&told), "{reply_text}");
                    client.send(1, Method::ChannelCloseOk {}).await;
                    client.channel(1).await;
                }
                (other, _) => panic!("{name} {value:?}: {other:?}"),
            }
        }
    });
}
