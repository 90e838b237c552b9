//! Servers that are others than they were, that lie, and topics and queues that take nothing.

use weft_broker::{ConsumerOptions, Key, Verdict};
use weft_outbox::{Lsn, service::From, state::State};

use super::server::{Node, Server, Story, stopped, until};

fn row(id: &str, topic: &'static str) -> (String, &'static str) {
    (id.to_owned(), topic)
}

async fn read() -> (Server, Node) {
    let server = Server::start(vec![Story(1, vec![row("a", "orders")])]).await;
    let node = Node::start().await;
    let outbox = node.outbox(&server, None);
    let confirmed = || server.confirmed.load(std::sync::atomic::Ordering::SeqCst);
    until(&outbox, "one", async || confirmed() == 1_000).await;
    drop(outbox);
    (server, node)
}

#[tokio::test]
async fn a_log_that_is_another_one_is_not_read() {
    let (server, node) = read().await;
    let outbox = node.outbox(&server, None);
    server.script.lock().log.push(Story(2, vec![row("b", "orders")]));
    server.script.lock().epoch = 1;
    assert_eq!(stopped(&outbox).await, "other_history");
    let outbox = node.outbox(&server, None);
    server.script.lock().system = "2";
    assert_eq!(stopped(&outbox).await, "other_server");
    server.script.lock().system = "1";
    let outbox = node.outbox(&server, None);
    server.script.lock().slot = None;
    assert_eq!(stopped(&outbox).await, "slot_missing");
    let outbox = node.outbox(&server, None);
    server.script.lock().slot = Some(Lsn(1_500));
    assert_eq!(stopped(&outbox).await, "slot_moved");
    let outbox = node.outbox(&server, None);
    server.script.lock().log.clear();
    assert_eq!(stopped(&outbox).await, "log_went_back");
    assert_eq!(node.ids("orders").await, ["a"]);
}

#[tokio::test]
async fn who_decides_has_it_go_on() {
    let (server, node) = read().await;
    server.script.lock().slot = Some(Lsn(1_500));
    server.script.lock().log.push(Story(2, vec![row("b", "orders")]));
    let outbox = node.outbox(&server, None);
    assert_eq!(stopped(&outbox).await, "slot_moved");
    let reset = async {
        let at = outbox.reset(From::Slot).await.unwrap();
        assert_eq!(at, Lsn(1_500));
        while node.ids("orders").await != ["a", "b"] {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = outbox.run() => panic!("it has ended"),
        () = reset => {}
    }
}

#[tokio::test]
async fn a_server_that_lies_is_left() {
    let endless: &[u8] = &[b'd', 0x7f, 0xff, 0xff, 0xff];
    let negative: &[u8] = &[b'd', 0xff, 0xff, 0xff, 0xff];
    let nonsense: &[u8] = &[b'd', 0, 0, 0, 5, b'?'];
    let unordered: Vec<u8> = [&[b'd', 0, 0, 0, 55, b'w'][..], &[0; 24], b"C\0", &[0; 24]].concat();
    for lie in [endless, negative, nonsense, &unordered] {
        let server = Server::start(Vec::new()).await;
        let node = Node::start().await;
        let outbox = node.outbox(&server, None);
        server.script.lock().lie = Some(lie.to_vec());
        until(&outbox, "it leaves", async || matches!(outbox.state(), State::Away(_))).await;
        server.script.lock().lie = None;
        server.script.lock().log.push(Story(1, vec![row("a", "orders")]));
        until(&outbox, "one", async || node.ids("orders").await == ["a"]).await;
    }
}

#[tokio::test]
async fn what_a_topic_refuses_stops_it_or_goes_to_a_queue_that_may_be_full() {
    let rows = vec![row("a", "orders"), row("b", "nowhere"), row("c", "users")];
    let more = vec![row("d", "nowhere"), row("e", "orders")];
    let server = Server::start(vec![Story(1, rows), Story(2, more)]).await;
    let node = Node::start().await;
    let outbox = node.outbox(&server, None);
    assert_eq!(stopped(&outbox).await, "refused");
    assert_eq!(node.ids("orders").await, ["a"]);
    assert_eq!(node.ids("users").await, [""; 0]);
    drop(outbox);
    // The queue has room for one: the outbox waits with the next, and nothing is lost.
    let outbox = node.outbox(&server, Some("refused"));
    until(&outbox, "it waits", async || matches!(outbox.state(), State::Waiting(_))).await;
    let queue = node.broker.queue(&Key::plain("refused").unwrap()).unwrap();
    let mut consumer = node.broker.consume(queue, ConsumerOptions::default()).unwrap();
    let taken = async {
        let mut ids = Vec::new();
        while ids.len() < 2 {
            for delivery in consumer.next_batch(1).await.unwrap() {
                ids.push(delivery.message.event().unwrap().id().to_owned());
                consumer.settle(&[(delivery.lease, Verdict::Accept)]).await.unwrap();
            }
        }
        ids
    };
    let ids = tokio::select! {
        () = outbox.run() => panic!("it has ended"),
        ids = taken => ids,
    };
    assert_eq!(ids, ["b", "d"]);
    until(&outbox, "the rest", async || node.ids("orders").await == ["a", "e"]).await;
    assert_eq!(node.ids("users").await, ["c"]);
}
