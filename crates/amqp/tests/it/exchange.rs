//! Messages between front-ends: an event is an AMQP message, and an AMQP message is read as it came.

use weft_broker::{Key, MessageBuilder, Publish, message::Value};
use weft_wire::amqp::{Method, Table};

use crate::{
    client::{PERSISTENT, header},
    node::{Node, run},
};

#[test]
fn an_event_of_another_front_end_is_an_amqp_message() {
    run(|| async {
        let node = Node::new().await;
        let mut client = node.connect().await;
        client.queue("q", true, b"").await;
        let queue = node.broker.queue(&Key::plain("q").unwrap()).unwrap();
        let message = MessageBuilder::event(100)
            .attribute("id", Value::Text("A-1"))
            .attribute("source", Value::Text("/orders"))
            .attribute("type", Value::Text("order.placed"))
            .attribute("datacontenttype", Value::Text("application/json"))
            .body(b"{}")
            .finish()
            .unwrap();
        node.broker.publish(&queue.into(), &[Publish::new(message)], None).await.unwrap();
        let content = client.get("q").await;
        assert_eq!(content.body, b"{}");
        assert_eq!(header(&content, "cloudEvents:id").as_deref(), Some("A-1"));
        assert_eq!(header(&content, "cloudEvents:type").as_deref(), Some("order.placed"));
        assert_eq!(header(&content, "cloudEvents:specversion").as_deref(), Some("1.0"));
    });
}

#[test]
fn a_queue_of_the_broker_is_there_by_its_name() {
    run(|| async {
        let node = Node::new().await;
        let options = weft_broker::QueueOptions::default();
        node.broker.declare_queue(&Key::plain("mine").unwrap(), options).await.unwrap();
        let mut client = node.connect().await;
        assert_eq!(client.queue("mine", true, b"").await, 0);
        client.publish("", "mine", &PERSISTENT, b"hello").await;
        let content = client.get("mine").await;
        assert_eq!((&content.body[..], &content.properties[..]), (&b"hello"[..], &PERSISTENT[..]));
    });
}

#[test]
fn names_are_in_one_line_where_things_are_declared_bound_and_deleted() {
    run(|| async {
        let node = Node::new().await;
        let mut client = node.connect().await;
        client.queue("que\nue_\r\ntest\n", true, b"").await;
        assert_eq!(client.queue("queue_test", true, b"").await, 0);
        let declare = |exchange, passive| Method::ExchangeDeclare {
            ticket: 0,
            exchange,
            kind: "direct",
            passive,
            durable: true,
            auto_delete: false,
            internal: false,
            no_wait: false,
            arguments: Table::EMPTY,
        };
        for (exchange, passive) in
            [("ex\nchange\r\n", false), ("exchange", true), ("\nexchange", true)]
        {
            let answer = client.call(1, declare(exchange, passive)).await;
            assert_eq!(answer.method(), Method::ExchangeDeclareOk {}, "{exchange:?}");
        }
        let bind = Method::QueueBind {
            ticket: 0,
            queue: "queue_test\n",
            exchange: "exchange\r",
            routing_key: "k\n",
            no_wait: false,
            arguments: Table::EMPTY,
        };
        assert_eq!(client.call(1, bind).await.method(), Method::QueueBindOk {});
        // A key is taken as it is.
        client.publish("exchange", "k\n", &PERSISTENT, b"m").await;
        client.publish("exchange", "k", &PERSISTENT, b"m").await;
        assert_eq!(client.queue("queue_\ntest", true, b"").await, 1);
        let unbind = Method::QueueUnbind {
            ticket: 0,
            queue: "queue\n_test",
            exchange: "\rexchange",
            routing_key: "k\n",
            arguments: Table::EMPTY,
        };
        assert_eq!(client.call(1, unbind).await.method(), Method::QueueUnbindOk {});
        client.publish("exchange", "k\n", &PERSISTENT, b"m").await;
        let join = |destination, source| Method::ExchangeBind {
            ticket: 0,
            destination,
            source,
            routing_key: "",
            no_wait: false,
            arguments: Table::EMPTY,
        };
        let answer = client.call(1, join("exchange\n", "amq.fan\nout")).await;
        assert_eq!(answer.method(), Method::ExchangeBindOk {});
        let part = Method::ExchangeUnbind {
            ticket: 0,
            destination: "\nexchange",
            source: "amq.fanout\n",
            routing_key: "",
            no_wait: false,
            arguments: Table::EMPTY,
        };
        assert_eq!(client.call(1, part).await.method(), Method::ExchangeUnbindOk {});
        let delete = Method::QueueDelete {
            ticket: 0,
            queue: "queue_test\r\n",
            if_unused: false,
            if_empty: false,
            no_wait: false,
        };
        let answer = client.call(1, delete).await;
        assert_eq!(answer.method(), Method::QueueDeleteOk { message_count: 1 });
        let delete = Method::ExchangeDelete {
            ticket: 0,
            exchange: "exchange\n",
            if_unused: true,
            no_wait: false,
        };
        assert_eq!(client.call(1, delete).await.method(), Method::ExchangeDeleteOk {});
        let answer = client.call(1, declare("exchange", true)).await;
        assert!(matches!(answer.method(), Method::ChannelClose { reply_code: 404, .. }));
    });
}
