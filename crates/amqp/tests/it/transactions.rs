//! Transactions of a channel: publishes and settlements happen at the commit, together or not at all.

use weft_wire::amqp::{Method, Table, TableWriter, write_content};

use crate::{
    client::{Client, PERSISTENT},
    node::{Node, run},
};

async fn select(client: &mut Client) {
    assert_eq!(client.call(1, Method::TxSelect {}).await.method(), Method::TxSelectOk {});
}

async fn commit(client: &mut Client) {
    assert_eq!(client.call(1, Method::TxCommit {}).await.method(), Method::TxCommitOk {});
}

async fn rollback(client: &mut Client) {
    assert_eq!(client.call(1, Method::TxRollback {}).await.method(), Method::TxRollbackOk {});
}

/// Takes what must be the end of the first channel, with 406, and opens it again; the text.
async fn refused(client: &mut Client) -> String {
    let taken = client.next().await;
    let Method::ChannelClose { reply_code: 406, reply_text, .. } = taken.method() else {
        panic!("{:?}", taken.method())
    };
    let text = reply_text.to_owned();
    client.send(1, Method::ChannelCloseOk {}).await;
    client.channel(1).await;
    text
}

/// The bodies that are in a queue now, fetched on a connection of its own and settled.
async fn bodies(node: &Node, queue: &str) -> Vec<String> {
    let mut client = node.connect().await;
    let mut found = Vec::new();
    while let Some(content) = client.look(queue).await {
        found.push(String::from_utf8(content.body).unwrap());
    }
    found
}

/// Fetches a message that is to be settled: its tag and whether it was handed out before.
async fn fetch(client: &mut Client, queue: &str) -> Option<(u64, bool)> {
    let answer = client.call(1, Method::BasicGet { ticket: 0, queue, no_ack: false }).await;
    match answer.method() {
        Method::BasicGetOk { delivery_tag, redelivered, .. } => {
            client.content().await;
            Some((delivery_tag, redelivered))
        }
        Method::BasicGetEmpty { .. } => None,
        other => panic!("{other:?}"),
    }
}

fn limited(most: i64, overflow: &str) -> Vec<u8> {
    let mut arguments = Vec::new();
    let mut table = TableWriter::new(&mut arguments);
    table.entry("x-max-length", weft_wire::amqp::Value::I64(most));
    table.text("x-overflow", overflow);
    drop(table);
    arguments[4..].to_vec()
}

#[test]
fn publishes_and_acks_happen_at_the_commit() {
    run(|| async {
        let node = Node::new().await;
        let mut client = node.connect().await;
        for (queue, durable) in [("in", true), ("out", true), ("memory", false)] {
            client.queue(queue, durable, b"").await;
        }
        for body in [b"1", b"2", b"3"] {
            client.publish("", "in", &PERSISTENT, body).await;
        }
        select(&mut client).await;
        let tags = [
            fetch(&mut client, "in").await.unwrap().0,
            fetch(&mut client, "in").await.unwrap().0,
            fetch(&mut client, "in").await.unwrap().0,
        ];
        for (queue, raw) in [("out", &PERSISTENT[..]), ("memory", &PERSISTENT), ("out", &[0, 0])] {
            client.publish("", queue, raw, b"answer").await;
        }
        client.send(1, Method::BasicAck { delivery_tag: tags[0], multiple: false }).await;
        let nack = Method::BasicNack { delivery_tag: tags[1], multiple: false, requeue: true };
        client.send(1, nack).await;
        client.send(1, Method::BasicReject { delivery_tag: tags[2], requeue: false }).await;
        for queue in ["in", "out", "memory"] {
            assert!(
                bodies(&node, queue).await.is_empty(),
                "{queue} has something before the commit"
            );
        }
        commit(&mut client).await;
        assert_eq!(bodies(&node, "in").await, ["2"]);
        assert_eq!(bodies(&node, "out").await, ["answer", "answer"]);
        assert_eq!(bodies(&node, "memory").await, ["answer"]);
        // An empty one is answered too.
        commit(&mut client).await;
    });
}

#[test]
fn a_rollback_forgets_publishes_and_holds_again_what_was_settled() {
    run(|| async {
        let node = Node::new().await;
        let mut client = node.connect().await;
        client.queue("q", true, b"").await;
        for body in [b"1", b"2", b"3"] {
            client.publish("", "q", &PERSISTENT, body).await;
        }
        select(&mut client).await;
        for _ in 0..3 {
            fetch(&mut client, "q").await.unwrap();
        }
        client.publish("", "q", &PERSISTENT, b"never").await;
        client.send(1, Method::BasicAck { delivery_tag: 2, multiple: false }).await;
        client.send(1, Method::BasicAck { delivery_tag: 0, multiple: true }).await;
        rollback(&mut client).await;
        assert!(bodies(&node, "q").await.is_empty(), "what was acknowledged is unsettled still");
        // They can be settled as if nothing had been said.
        client.send(1, Method::BasicAck { delivery_tag: 2, multiple: true }).await;
        client.send(1, Method::BasicReject { delivery_tag: 3, requeue: true }).await;
        commit(&mut client).await;
        assert_eq!(bodies(&node, "q").await, ["3"]);
    });
}

#[test]
fn the_end_of_the_channel_rolls_back() {
    run(|| async {
        let node = Node::new().await;
        let mut client = node.connect().await;
        client.queue("q", true, b"").await;
        client.publish("", "q", &PERSISTENT, b"1").await;
        select(&mut client).await;
        let (tag, again) = fetch(&mut client, "q").await.unwrap();
        assert!(!again);
        client.send(1, Method::BasicAck { delivery_tag: tag, multiple: false }).await;
        client.publish("", "q", &PERSISTENT, b"never").await;
        let close =
            Method::ChannelClose { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 };
        assert_eq!(client.call(1, close).await.method(), Method::ChannelCloseOk {});
        client.channel(1).await;
        let (_, again) = fetch(&mut client, "q").await.expect("it was given back");
        assert!(again);
        assert_eq!(fetch(&mut client, "q").await, None);
        // A channel of the same number is another channel.
        client.send(1, Method::TxCommit {}).await;
        assert_eq!(
            refused(&mut client).await,
            "PRECONDITION_FAILED - channel is not transactional"
        );
        client.send(1, Method::TxRollback {}).await;
        assert_eq!(
            refused(&mut client).await,
            "PRECONDITION_FAILED - channel is not transactional"
        );
    });
}

#[test]
fn confirms_and_transactions_exclude_each_other() {
    run(|| async {
        let node = Node::new().await;
        let mut client = node.connect().await;
        client.confirms().await;
        client.send(1, Method::TxSelect {}).await;
        let text = refused(&mut client).await;
        assert_eq!(text, "PRECONDITION_FAILED - cannot switch from confirm to tx mode");
        select(&mut client).await;
        select(&mut client).await;
        client.send(1, Method::ConfirmSelect { no_wait: false }).await;
        let text = refused(&mut client).await;
        assert_eq!(text, "PRECONDITION_FAILED - cannot switch from tx to confirm mode");
    });
}

#[test]
fn a_delivery_is_settled_once_in_a_transaction() {
    run(|| async {
        let node = Node::new().await;
        let mut client = node.connect().await;
        client.queue("q", true, b"").await;
        client.publish("", "q", &PERSISTENT, b"1").await;
        select(&mut client).await;
        let (tag, _) = fetch(&mut client, "q").await.unwrap();
        for _ in 0..2 {
            client.send(1, Method::BasicAck { delivery_tag: tag, multiple: false }).await;
        }
        let text = refused(&mut client).await;
        assert_eq!(text, "PRECONDITION_FAILED - unknown delivery tag 1");
        assert_eq!(bodies(&node, "q").await, ["1"]);
    });
}

#[test]
fn what_goes_nowhere_comes_back_at_the_commit() {
    run(|| async {
        let node = Node::new().await;
        let mut client = node.connect().await;
        select(&mut client).await;
        for mandatory in [true, false] {
            let method = Method::BasicPublish {
                ticket: 0,
                exchange: "",
                routing_key: "nowhere",
                mandatory,
                immediate: false,
            };
            let mut out = Vec::new();
            write_content(1, &method, &PERSISTENT, b"m", 131_072, &mut out);
            client.raw(&out).await.unwrap();
        }
        assert!(client.is_quiet().await, "it came back before the commit");
        let answer = client.call(1, Method::TxCommit {}).await;
        assert!(matches!(answer.method(), Method::BasicReturn { reply_code: 312, .. }));
        assert_eq!(client.content().await.body, b"m");
        assert_eq!(client.next().await.method(), Method::TxCommitOk {});
        // What is to go to an exchange that is not there closes the channel at once.
        client.publish("missing", "", &PERSISTENT, b"m").await;
        let taken = client.next().await;
        assert!(matches!(taken.method(), Method::ChannelClose { reply_code: 404, .. }));
    });
}

#[test]
fn a_publish_goes_to_the_queues_that_have_its_names_at_the_commit() {
    run(|| async {
        let node = Node::new().await;
        let (mut client, mut other) = (node.connect().await, node.connect().await);
        let delete = |queue| Method::QueueDelete {
            ticket: 0,
            queue,
            if_unused: false,
            if_empty: false,
            no_wait: false,
        };
        select(&mut client).await;
        for (mandatory, again) in [(true, false), (false, false), (true, true), (false, true)] {
            client.queue("q", true, b"").await;
            let method = Method::BasicPublish {
                ticket: 0,
                exchange: "",
                routing_key: "q",
                mandatory,
                immediate: false,
            };
            let mut out = Vec::new();
            write_content(1, &method, &PERSISTENT, b"m", 131_072, &mut out);
            client.raw(&out).await.unwrap();
            assert!(client.is_quiet().await);
            assert!(matches!(
                other.call(1, delete("q")).await.method(),
                Method::QueueDeleteOk { .. }
            ));
            if again {
                other.queue("q", true, b"").await;
            }
            let mut answer = client.call(1, Method::TxCommit {}).await;
            if mandatory && !again {
                assert!(
                    matches!(answer.method(), Method::BasicReturn { reply_code: 312, .. }),
                    "{answer:?}"
                );
                assert_eq!(client.content().await.body, b"m");
                answer = client.next().await;
            }
            assert_eq!(answer.method(), Method::TxCommitOk {});
            if again {
                assert_eq!(bodies(&node, "q").await, ["m"]);
            }
        }
    });
}

#[test]
fn a_commit_that_is_refused_changes_nothing() {
    run(|| async {
        let node = Node::new().await;
        for durable in [true, false] {
            let mut client = node.connect().await;
            let names =
                [format!("in-{durable}"), format!("out-{durable}"), format!("full-{durable}")];
            let [incoming, out, full] = &names;
            client.queue(incoming, durable, b"").await;
            client.queue(out, durable, b"").await;
            client.queue(full, durable, &limited(2, "reject-publish")).await;
            client.publish("", incoming, &PERSISTENT, b"1").await;
            client.publish("", full, &PERSISTENT, b"there").await;
            select(&mut client).await;
            let (tag, _) = fetch(&mut client, incoming).await.unwrap();
            client.send(1, Method::BasicAck { delivery_tag: tag, multiple: false }).await;
            client.publish("", out, &PERSISTENT, b"a").await;
            for _ in 0..2 {
                client.publish("", full, &PERSISTENT, b"b").await;
            }
            client.send(1, Method::TxCommit {}).await;
            let text = refused(&mut client).await;
            assert!(
                text.starts_with("PRECONDITION_FAILED - the transaction was refused"),
                "{text}"
            );
            assert_eq!(bodies(&node, incoming).await, ["1"]);
            assert!(bodies(&node, out).await.is_empty());
            assert_eq!(bodies(&node, full).await, ["there"]);
        }
    });
}

#[test]
fn a_commit_on_a_full_disk_changes_nothing() {
    run(|| async {
        let node = Node::new().await;
        let mut client = node.connect().await;
        client.queue("q", true, b"").await;
        client.publish("", "q", &PERSISTENT, b"1").await;
        select(&mut client).await;
        let (tag, _) = fetch(&mut client, "q").await.unwrap();
        node.fill_disk();
        let mut text = None;
        for _ in 0..200 {
            client.publish("", "q", &PERSISTENT, &[7; 100_000]).await;
            let answer = client.call(1, Method::TxCommit {}).await;
            if answer.method() != (Method::TxCommitOk {}) {
                let Method::ChannelClose { reply_code: 406, reply_text, .. } = answer.method()
                else {
                    panic!("{:?}", answer.method())
                };
                text = Some(reply_text.to_owned());
                break;
            }
        }
        assert!(text.expect("the disk is full at last").contains("nothing of it was done"));
        client.send(1, Method::ChannelCloseOk {}).await;
        client.channel(1).await;
        let (again, redelivered) = fetch(&mut client, "q").await.expect("it was given back");
        assert!(redelivered && again == tag);
    });
}

#[test]
fn prefetch_is_freed_by_the_commit() {
    run(|| async {
        let node = Node::new().await;
        let mut client = node.connect().await;
        client.queue("q", true, b"").await;
        for _ in 0..3 {
            client.publish("", "q", &PERSISTENT, b"m").await;
        }
        let qos = Method::BasicQos { prefetch_size: 0, prefetch_count: 1, global: false };
        assert_eq!(client.call(1, qos).await.method(), Method::BasicQosOk {});
        select(&mut client).await;
        let consume = Method::BasicConsume {
            ticket: 0,
            queue: "q",
            consumer_tag: "t",
            no_local: false,
            no_ack: false,
            exclusive: false,
            no_wait: false,
            arguments: Table::EMPTY,
        };
        client.send(1, consume).await;
        assert!(matches!(client.next().await.method(), Method::BasicConsumeOk { .. }));
        for tag in 1..=3u64 {
            let taken = client.next().await;
            let Method::BasicDeliver { delivery_tag, .. } = taken.method() else {
                panic!("{:?}", taken.method())
            };
            assert_eq!(delivery_tag, tag);
            client.content().await;
            client.send(1, Method::BasicAck { delivery_tag, multiple: false }).await;
            assert!(client.is_quiet().await, "the next came before the commit");
            commit(&mut client).await;
        }
    });
}

#[test]
fn what_a_transaction_holds_is_bounded() {
    run(|| async {
        let node = Node::new().await;
        let mut client = node.connect().await;
        client.queue("q", true, b"").await;
        select(&mut client).await;
        let mut sent = 0;
        let text = loop {
            client.publish("", "q", &PERSISTENT, &[7; 500_000]).await;
            sent += 1;
            assert!(sent < 40, "it grows for ever");
            if !client.is_quiet().await {
                break refused(&mut client).await;
            }
        };
        assert!(text.contains("commit more often"), "{text}");
        assert!(bodies(&node, "q").await.is_empty());
    });
}

#[test]
fn a_committed_transaction_is_there_whole_after_a_crash() {
    run(|| async {
        let mut node = Node::new().await;
        for seed in 0..4 {
            let mut client = node.connect().await;
            for queue in ["in", "one", "two"] {
                client.queue(queue, true, b"").await;
            }
            client.publish("", "in", &PERSISTENT, b"i").await;
            select(&mut client).await;
            let (tag, _) = fetch(&mut client, "in").await.unwrap();
            client.send(1, Method::BasicAck { delivery_tag: tag, multiple: false }).await;
            client.publish("", "one", &PERSISTENT, b"1").await;
            client.publish("", "two", &PERSISTENT, b"2").await;
            commit(&mut client).await;
            drop(client);
            node = node.crash(seed).await;
            assert!(bodies(&node, "in").await.is_empty());
            assert_eq!(bodies(&node, "one").await, ["1"]);
            assert_eq!(bodies(&node, "two").await, ["2"]);
        }
    });
}
