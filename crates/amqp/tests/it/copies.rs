//! Copies by `CC` and `BCC`: further routing keys of a message, wherever keys count.

use weft_wire::amqp::{Method, Properties, Table, TableWriter, Value};

use crate::{
    client::{Client, PERSISTENT, header},
    node::{Node, run},
};

/// Properties with headers that `fill` writes.
fn properties(fill: impl FnOnce(&mut TableWriter<'_>)) -> Vec<u8> {
    let mut table = Vec::new();
    fill(&mut TableWriter::new(&mut table));
    let headers = Some(Table::parse(&table[4..]).unwrap());
    let mut raw = Vec::new();
    Properties { headers, ..Properties::default() }.write(&mut raw);
    raw
}

/// Properties with these further keys.
fn copied(cc: &[&str], bcc: &[&str]) -> Vec<u8> {
    properties(|table| {
        for (name, keys) in [("CC", cc), ("BCC", bcc)] {
            table.array(name, |array| {
                for key in keys {
                    array.value(Value::Long(key.as_bytes()));
                }
            });
        }
    })
}

async fn declare(client: &mut Client, exchange: &str, kind: &str, alternate: Option<&str>) {
    let mut table = Vec::new();
    {
        let mut writer = TableWriter::new(&mut table);
        if let Some(alternate) = alternate {
            writer.text("alternate-exchange", alternate);
        }
    }
    let method = Method::ExchangeDeclare {
        ticket: 0,
        exchange,
        kind,
        passive: false,
        durable: false,
        auto_delete: false,
        internal: false,
        no_wait: false,
        arguments: Table::parse(&table[4..]).unwrap(),
    };
    assert_eq!(client.call(1, method).await.method(), Method::ExchangeDeclareOk {});
}

async fn bind(client: &mut Client, queue: &str, exchange: &str, routing_key: &str) {
    let method = Method::QueueBind {
        ticket: 0,
        queue,
        exchange,
        routing_key,
        no_wait: false,
        arguments: Table::EMPTY,
    };
    assert_eq!(client.call(1, method).await.method(), Method::QueueBindOk {});
}

#[test]
fn every_key_counts_at_every_exchange_on_the_way() {
    run(|| async {
        let node = Node::new().await;
        let mut client = node.connect().await;
        for queue in ["one", "two", "three"] {
            client.queue(queue, true, b"").await;
        }
        declare(&mut client, "first", "direct", Some("amq.fanout")).await;
        declare(&mut client, "second", "topic", None).await;
        let join = Method::ExchangeBind {
            ticket: 0,
            destination: "second",
            source: "first",
            routing_key: "a",
            no_wait: false,
            arguments: Table::EMPTY,
        };
        assert_eq!(client.call(1, join).await.method(), Method::ExchangeBindOk {});
        bind(&mut client, "one", "second", "b").await;
        bind(&mut client, "two", "second", "c").await;
        bind(&mut client, "three", "amq.fanout", "").await;
        let none: &[&str] = &["nowhere"];
        for (key, cc, bcc, found) in [
            ("", &["a"][..], &["b"][..], [1, 0, 0]),
            ("a", &["c", "b", "c"], none, [1, 1, 0]),
            ("nowhere", none, &["a"], [0, 0, 0]),
            // The alternate is for what no key leads anywhere.
            ("a", none, none, [0, 0, 0]),
            ("nowhere", none, &["c", "b"], [0, 0, 1]),
        ] {
            let raw = copied(cc, bcc);
            client.publish("first", key, &raw, b"m").await;
            for (queue, count) in ["one", "two", "three"].into_iter().zip(found) {
                for _ in 0..count {
                    let content = client.look(queue).await.expect(queue);
                    assert!(header(&content, "BCC").is_none());
                }
                assert!(client.look(queue).await.is_none(), "{queue} by {key:?}");
            }
        }
        // The exchange without a name as well, and each queue once.
        let raw = copied(&["two", "one", "two"], &[]);
        client.publish("", "one", &raw, b"m").await;
        for (queue, count) in [("one", 1), ("two", 1), ("three", 0)] {
            for _ in 0..count {
                assert!(client.look(queue).await.is_some(), "{queue}");
            }
            assert!(client.look(queue).await.is_none(), "{queue}");
        }
    });
}

#[test]
fn copies_that_are_no_list_are_refused() {
    run(|| async {
        let node = Node::new().await;
        let mut client = node.connect().await;
        client.queue("q", true, b"").await;
        for name in ["CC", "BCC"] {
            for (value, word) in [
                (Value::I32(0), "signedint"),
                (Value::Long(b"q"), "longstr"),
                (Value::Void, "void"),
                (Value::Bool(true), "bool"),
            ] {
                let raw = properties(|table| _ = table.entry(name, value));
                client.publish("", "q", &raw, b"m").await;
                let taken = client.next().await;
                let Method::ChannelClose { reply_code: 406, reply_text, .. } = taken.method()
                else {
                    panic!("{:?}", taken.method())
                };
                let told = format!("{{unacceptable_type_in_header,<<\"{name}\">>,{word}}}");
                assert!(reply_text.contains(&told), "{reply_text}");
                client.send(1, Method::ChannelCloseOk {}).await;
                client.channel(1).await;
            }
        }
        assert!(client.look("q").await.is_none());
        client.publish("", "q", &PERSISTENT, b"m").await;
        assert!(client.look("q").await.is_some());
    });
}
