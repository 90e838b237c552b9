//! Which operation needs which permission, and what a client is told that lacks it: RabbitMQ's table.

use weft_amqp::{Grant, Options, Password, PermissionPattern, User};
use weft_ledger::disk::SimulatedDisk;
use weft_wire::amqp::{Method, Table, TableWriter};

use crate::{
    client::{Client, PERSISTENT, declare_queue, write_publish},
    node::{Node, near, run},
};

fn user(name: &str, grants: Vec<Grant>) -> User {
    User { name: name.into(), password: Password::Plain("pw".into()), grants, remote: true }
}

/// A node on which `admin` may do everything and `app` what the patterns say.
async fn node(configure: &str, write: &str, read: &str) -> Node {
    let pattern = |text: &str| PermissionPattern::new(text).unwrap();
    let grant = Grant {
        vhost: "/".into(),
        configure: pattern(configure),
        write: pattern(write),
        read: pattern(read),
    };
    let users = vec![user("app", vec![grant]), user("admin", vec![])];
    let node = Node::with(SimulatedDisk::new(), Options { users, ..Options::default() }).await;
    let mut admin = node.dial(near());
    admin.open("admin", "pw", "/").await;
    for queue in ["c.q", "w.q", "r.q", "wr.q", "n.q"] {
        admin.queue(queue, true, b"").await;
    }
    for exchange in ["c.x", "w.x", "r.x", "n.x"] {
        admin.call(1, declare_exchange(exchange, false, Table::EMPTY)).await;
    }
    node
}

fn declare_exchange<'a>(exchange: &'a str, passive: bool, arguments: Table<'a>) -> Method<'a> {
    Method::ExchangeDeclare {
        ticket: 0,
        exchange,
        kind: "topic",
        passive,
        durable: false,
        auto_delete: false,
        internal: false,
        no_wait: false,
        arguments,
    }
}

fn bind_queue<'a>(queue: &'a str, exchange: &'a str) -> Method<'a> {
    let arguments = Table::EMPTY;
    Method::QueueBind { ticket: 0, queue, exchange, routing_key: "k", no_wait: false, arguments }
}

fn unbind_queue<'a>(queue: &'a str, exchange: &'a str) -> Method<'a> {
    Method::QueueUnbind { ticket: 0, queue, exchange, routing_key: "k", arguments: Table::EMPTY }
}

fn bind_exchange<'a>(destination: &'a str, source: &'a str) -> Method<'a> {
    Method::ExchangeBind {
        ticket: 0,
        destination,
        source,
        routing_key: "k",
        no_wait: false,
        arguments: Table::EMPTY,
    }
}

fn unbind_exchange<'a>(destination: &'a str, source: &'a str) -> Method<'a> {
    Method::ExchangeUnbind {
        ticket: 0,
        destination,
        source,
        routing_key: "k",
        no_wait: false,
        arguments: Table::EMPTY,
    }
}

fn consume(queue: &str) -> Method<'_> {
    Method::BasicConsume {
        ticket: 0,
        queue,
        consumer_tag: "",
        no_local: false,
        no_ack: false,
        exclusive: false,
        no_wait: false,
        arguments: Table::EMPTY,
    }
}

/// What a method is answered with: `None` if it is followed.
async fn refusal(client: &mut Client, method: Method<'_>) -> Option<String> {
    refused(client.call(1, method).await.method(), client).await
}

async fn refused(method: Method<'_>, client: &mut Client) -> Option<String> {
    let Method::ChannelClose { reply_code, reply_text, .. } = method else { return None };
    assert_eq!(reply_code, 403, "{reply_text}");
    let text = reply_text.to_owned();
    client.send(1, Method::ChannelCloseOk {}).await;
    client.channel(1).await;
    Some(text)
}

fn words(what: &str) -> String {
    format!("ACCESS_REFUSED - access to {what} in vhost '/' refused for user 'app'")
}

#[test]
fn every_operation_needs_what_rabbitmq_asks_for_it() {
    run(|| async {
        let node = node("^c\\.", "^wr?\\.", "^w?r\\.").await;
        let mut client = node.dial(near());
        client.open("app", "pw", "/").await;
        let mut dead = Vec::new();
        TableWriter::new(&mut dead).text("x-dead-letter-exchange", "w.x");
        let mut default = Vec::new();
        TableWriter::new(&mut default).text("x-dead-letter-exchange", "");
        let mut alternate = Vec::new();
        TableWriter::new(&mut alternate).text("alternate-exchange", "w.x");
        let table = |bytes: &'static [u8]| Table::parse(bytes).unwrap();
        let (dead, default, alternate) =
            (table(&dead.leak()[4..]), table(&default.leak()[4..]), table(&alternate.leak()[4..]));
        let none = Table::EMPTY;
        let delete_queue = |queue| Method::QueueDelete {
            ticket: 0,
            queue,
            if_unused: false,
            if_empty: false,
            no_wait: false,
        };
        let delete_exchange = |exchange| Method::ExchangeDelete {
            ticket: 0,
            exchange,
            if_unused: false,
            no_wait: false,
        };
        let get = |queue| Method::BasicGet { ticket: 0, queue, no_ack: true };
        let purge = |queue| Method::QueuePurge { ticket: 0, queue, no_wait: false };
        // What is followed.
        for method in [
            declare_queue("n.q", true, none),
            declare_exchange("n.x", true, none),
            declare_queue("c.new", false, none),
            // There already: what it was declared with is not asked again.
            declare_exchange("c.x", false, none),
            bind_queue("w.q", "r.x"),
            unbind_queue("w.q", "r.x"),
            bind_exchange("w.x", "r.x"),
            unbind_exchange("w.x", "r.x"),
            consume("r.q"),
            get("r.q"),
            purge("r.q"),
            delete_queue("c.new"),
            delete_exchange("c.x"),
        ] {
            assert_eq!(refusal(&mut client, method).await, None, "{method:?}");
        }
        // What is refused, and for the want of what.
        for (method, what) in [
            (declare_queue("n.q", false, none), "queue 'n.q'"),
            (declare_queue("w.new", false, none), "queue 'w.new'"),
            (declare_exchange("r.new", false, none), "exchange 'r.new'"),
            (declare_queue("c.dead", false, dead), "queue 'c.dead'"),
            (declare_queue("c.dead", false, default), "queue 'c.dead'"),
            (declare_exchange("c.alt", false, alternate), "exchange 'c.alt'"),
            (bind_queue("r.q", "r.x"), "queue 'r.q'"),
            (bind_queue("w.q", "w.x"), "exchange 'w.x'"),
            (unbind_queue("r.q", "r.x"), "queue 'r.q'"),
            (unbind_queue("w.q", "w.x"), "exchange 'w.x'"),
            (bind_exchange("r.x", "r.x"), "exchange 'r.x'"),
            (bind_exchange("w.x", "w.x"), "exchange 'w.x'"),
            (unbind_exchange("r.x", "r.x"), "exchange 'r.x'"),
            (unbind_exchange("w.x", "w.x"), "exchange 'w.x'"),
            (consume("w.q"), "queue 'w.q'"),
            (get("w.q"), "queue 'w.q'"),
            (purge("w.q"), "queue 'w.q'"),
            (delete_queue("w.q"), "queue 'w.q'"),
            (delete_queue("n.none"), "queue 'n.none'"),
            (delete_exchange("r.x"), "exchange 'r.x'"),
        ] {
            assert_eq!(refusal(&mut client, method).await, Some(words(what)), "{method:?}");
        }
    });
}

#[test]
fn an_exchange_for_dead_letters_may_be_named_by_who_may_publish_to_it() {
    run(|| async {
        let node = node("^q", "^x$", "^q").await;
        let mut client = node.dial(near());
        client.open("app", "pw", "/").await;
        for (to, refused) in [
            ("x", None),
            ("y", Some(words("exchange 'y'"))),
            // The one without a name, which `^$` would not name either.
            ("", Some(words("exchange 'amq.default'"))),
        ] {
            let mut table = Vec::new();
            TableWriter::new(&mut table).text("x-dead-letter-exchange", to);
            let name = format!("q{to}");
            let declare = declare_queue(&name, false, Table::parse(&table[4..]).unwrap());
            assert_eq!(refusal(&mut client, declare).await, refused, "{to}");
        }
        let mut admin = node.dial(near());
        admin.open("admin", "pw", "/").await;
        let mut table = Vec::new();
        TableWriter::new(&mut table).text("x-dead-letter-exchange", "y");
        admin.queue("qthere", true, &table[4..]).await;
        let again = declare_queue("qthere", false, Table::parse(&table[4..]).unwrap());
        assert_eq!(refusal(&mut client, again).await, None, "it is there as it is declared");
    });
}

#[test]
fn publishing_needs_the_right_to_write_whoever_it_reaches() {
    run(|| async {
        let node = node("", "^w\\.", ".*").await;
        let mut client = node.dial(near());
        client.open("app", "pw", "/").await;
        let reply = "amq.rabbitmq.reply-to.00000000000000000000000000000000";
        for (exchange, key, what) in [
            ("n.x", "k", "exchange 'n.x'"),
            ("", "w.q", "exchange 'amq.default'"),
            ("", reply, "exchange 'amq.default'"),
            ("none", "k", "exchange 'none'"),
        ] {
            let mut out = Vec::new();
            write_publish(exchange, key, &PERSISTENT, b"x", &mut out);
            client.raw(&out).await.unwrap();
            let answer = client.next().await;
            let text = refused(answer.method(), &mut client).await;
            assert_eq!(text, Some(words(what)), "{exchange} {key}");
        }
        client.confirms().await;
        client.publish("w.x", "k", &PERSISTENT, b"x").await;
        assert!(matches!(client.next().await.method(), Method::BasicAck { .. }));
    });
}
