//! A queue that another engine keeps is refused by name, whatever is asked of it, and never taken for one that
//! is not there.

use std::sync::Arc;

use weft_amqp::Options;
use weft_broker::{
    Declarations, Key, QueueOptions,
    conformance::remote::Remote,
    engine::{Capabilities, Engine, Support},
};
use weft_ledger::disk::SimulatedDisk;
use weft_wire::amqp::{Method, Table};

use crate::{
    client::{Client, PERSISTENT, declare_queue},
    node::{Node, run},
};

/// A node that remembers a queue of the engine `away`, which cannot be reached.
async fn node() -> Node {
    let behind = Node::new().await;
    let capabilities = Capabilities::new(|_| Support::Native);
    let engine: Arc<dyn Engine> = Arc::new(behind.broker.clone());
    let (away, _, _) = Remote::new("away", capabilities, engine);
    let node = Node::beside(SimulatedDisk::new(), Options::default(), vec![Arc::new(away)]).await;
    let options = QueueOptions { engine: Some("away".into()), ..QueueOptions::default() };
    let queues = vec![(Key::plain("far").unwrap(), options)];
    let all = Declarations { queues, ..Declarations::default() };
    let missing = node.engines.prepare(all).await.unwrap().commit().await.unwrap();
    assert_eq!(missing.len(), 1, "it is made once the engine is there");
    node
}

/// A channel that was refused what it asked, and told why.
async fn refused(client: &mut Client) {
    let taken = client.next().await;
    let Method::ChannelClose { reply_code: 406, reply_text: told, .. } = taken.method() else {
        panic!("{:?}", taken.method())
    };
    for part in ["queue 'far' in vhost '/'", "engine 'away'", "'amqp'"] {
        assert!(told.contains(part), "{part} is missing in: {told}");
    }
}

#[test]
fn a_queue_of_another_engine_is_refused_by_name() {
    run(|| async {
        let node = node().await;
        let empty = Table::EMPTY;
        let bind = Method::QueueBind {
            ticket: 0,
            queue: "far",
            exchange: "amq.direct",
            routing_key: "k",
            no_wait: false,
            arguments: empty,
        };
        let delete = Method::QueueDelete {
            ticket: 0,
            queue: "far",
            if_unused: false,
            if_empty: false,
            no_wait: false,
        };
        let get = Method::BasicGet { ticket: 0, queue: "far", no_ack: true };
        let asked = [
            declare_queue("far", false, empty),
            declare_queue("far", true, empty),
            bind,
            delete,
            get,
        ];
        for method in asked {
            let mut client = node.connect().await;
            client.send(1, method).await;
            refused(&mut client).await;
        }
        let mut client = node.connect().await;
        client.publish("", "far", &PERSISTENT, b"lost?").await;
        refused(&mut client).await;
        // The embedded engine is none the worse.
        let mut client = node.connect().await;
        assert_eq!(client.queue("near", true, b"").await, 0);
        client.publish("", "near", &PERSISTENT, b"kept").await;
        assert_eq!(client.get("near").await.body, b"kept");
    });
}
