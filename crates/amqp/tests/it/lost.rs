//! What was out when a client or the node went away comes back, marked, and not for ever.

use weft_wire::amqp::{Method, Properties, TableWriter, Value};

use crate::{
    client::{Client, PERSISTENT},
    node::{Node, run},
};

fn arguments(of: &[(&str, Value<'_>)]) -> Vec<u8> {
    let mut arguments = Vec::new();
    {
        let mut table = TableWriter::new(&mut arguments);
        for (name, value) in of {
            table.entry(name, *value);
        }
    }
    arguments[4..].to_vec()
}

/// Fetches a message that is to be settled: its body, whether it was out before, and how often a quorum
/// queue says so.
async fn fetch(client: &mut Client, queue: &str) -> Option<(Vec<u8>, bool, Option<i64>)> {
    let answer = client.call(1, Method::BasicGet { ticket: 0, queue, no_ack: false }).await;
    let again = match answer.method() {
        Method::BasicGetOk { redelivered, .. } => redelivered,
        Method::BasicGetEmpty { .. } => return None,
        other => panic!("{other:?}"),
    };
    let content = client.content().await;
    let headers = Properties::parse(&content.properties).unwrap().headers;
    let count = headers.and_then(|headers| headers.get("x-delivery-count")?.integer());
    Some((content.body, again, count))
}

/// The client is gone without a word, and the server has noticed.
async fn gone(client: Client) {
    drop(client);
    for _ in 0..500 {
        tokio::task::yield_now().await;
    }
}

#[test]
fn what_may_have_been_out_before_a_crash_comes_back_marked() {
    run(|| async {
        let mut node = Node::new().await;
        for seed in 0..3 {
            let mut client = node.connect().await;
            let idle = format!("idle-{seed}");
            for (queue, kind) in [("classic", "classic"), ("quorum", "quorum"), (&idle, "classic")]
            {
                let of = arguments(&[("x-queue-type", Value::Long(kind.as_bytes()))]);
                client.queue(queue, true, &of).await;
                client.confirms().await;
                client.publish("", queue, &PERSISTENT, b"out").await;
                assert!(matches!(client.next().await.method(), Method::BasicAck { .. }));
            }
            for queue in ["classic", "quorum"] {
                assert_eq!(fetch(&mut client, queue).await, Some((b"out".to_vec(), false, None)));
            }
            node = node.crash(seed).await;
            let mut client = node.connect().await;
            for (queue, count) in [("classic", None), ("quorum", Some(1))] {
                let back = fetch(&mut client, queue).await;
                assert_eq!(back, Some((b"out".to_vec(), true, count)), "{queue}");
                // What is published later was never out.
                client.publish("", queue, &PERSISTENT, b"new").await;
                let new = fetch(&mut client, queue).await;
                assert_eq!(new, Some((b"new".to_vec(), false, None)), "{queue}");
                let all = Method::BasicAck { delivery_tag: 0, multiple: true };
                client.send(1, all).await;
            }
            // Nobody has consumed from it.
            assert_eq!(fetch(&mut client, &idle).await, Some((b"out".to_vec(), false, None)));
        }
    });
}

#[test]
fn a_node_that_is_closed_in_order_remembers_what_was_out_and_nothing_else() {
    run(|| async {
        let node = Node::new().await;
        let mut client = node.connect().await;
        client.queue("q", true, b"").await;
        client.confirms().await;
        for body in [b"out", b"not"] {
            client.publish("", "q", &PERSISTENT, body).await;
            assert!(matches!(client.next().await.method(), Method::BasicAck { .. }));
        }
        assert_eq!(fetch(&mut client, "q").await, Some((b"out".to_vec(), false, None)));
        let node = node.restart().await;
        let mut client = node.connect().await;
        assert_eq!(fetch(&mut client, "q").await, Some((b"out".to_vec(), true, None)));
        assert_eq!(fetch(&mut client, "q").await, Some((b"not".to_vec(), false, None)));
    });
}

#[test]
fn a_message_that_ends_its_connection_dies_at_the_limit() {
    run(|| async {
        let node = Node::new().await;
        let quorum = ("x-queue-type", Value::Long(b"quorum"));
        let dead = [
            ("x-dead-letter-exchange", Value::Long(b"")),
            ("x-dead-letter-routing-key", Value::Long(b"dead")),
        ];
        let of = |more: &[(&'static str, Value<'static>)]| arguments(&[&dead[..], more].concat());
        // How often each is handed out before it is a dead letter; `None` for ever.
        let queues = [
            ("quorum", of(&[quorum]), Some(21)),
            ("told", of(&[quorum, ("x-delivery-limit", Value::I32(3))]), Some(4)),
            ("classic-told", of(&[("x-delivery-limit", Value::I32(3))]), Some(4)),
            ("unlimited", of(&[quorum, ("x-delivery-limit", Value::I32(-1))]), None),
            ("classic", of(&[]), None),
        ];
        let mut client = node.connect().await;
        client.queue("dead", true, b"").await;
        for (queue, arguments, limit) in queues {
            client.queue(queue, true, &arguments).await;
            client.publish("", queue, &PERSISTENT, queue.as_bytes()).await;
            let mut times = 0;
            while times < 40 {
                let mut killed = node.connect().await;
                let Some((_, again, _)) = fetch(&mut killed, queue).await else { break };
                assert_eq!(again, times > 0, "{queue}");
                times += 1;
                gone(killed).await;
            }
            assert_eq!(times, limit.unwrap_or(40), "{queue}");
            let dead_lettered = client.look("dead").await;
            assert_eq!(dead_lettered.is_some(), limit.is_some(), "{queue}");
            if let Some(dead_lettered) = dead_lettered {
                let headers =
                    Properties::parse(&dead_lettered.properties).unwrap().headers.unwrap();
                let reason = headers.get("x-first-death-reason").unwrap();
                assert_eq!(reason.text(), Some("delivery_limit"));
            }
        }
    });
}
