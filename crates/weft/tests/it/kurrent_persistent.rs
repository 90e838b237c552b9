//! Persistent subscriptions of KurrentDB's protocol through the real binary: consumers on connections of their own, of
//! which the node is killed in the middle.

use std::collections::BTreeSet;

use tokio::time::timeout;
use weft_testkit::{
    PATIENCE, Weft,
    grpc::{self, Inbox, message},
    http2::{self, Client, Reply},
};

use crate::kurrent::{ANY, BIN, append, call, config, field, has, number, read};

const PERSISTENT: &str = "/event_store.client.persistent_subscriptions.PersistentSubscriptions";

async fn ask(client: &Client, method: &str, body: Vec<u8>) -> Reply {
    let path = format!("{PERSISTENT}/{method}");
    client.ask(grpc::call(&path).body(message(body).to_vec()).unwrap()).await.unwrap()
}

/// A subscription to a stream from its start, each event in turn.
fn create(name: &str) -> Vec<u8> {
    let of = field(4, [field(1, field(3, name)), field(3, b"")].concat());
    let settings = [number(5, 10), number(10, 100), number(13, 1)].concat();
    field(1, [of, field(2, "group"), field(3, settings)].concat())
}

fn id(number: usize) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
}

/// A consumer: what comes, and where its acknowledgements go.
struct Consumer {
    inbox: Inbox,
    out: h2::SendStream<bytes::Bytes>,
    _client: Client,
}

impl Consumer {
    async fn of(node: &Weft, name: &str, room: u8) -> Self {
        let client = Client::to(node.address("web")).await;
        let request = grpc::call(&format!("{PERSISTENT}/Read")).body(()).unwrap();
        let (response, mut out) = client.begin(request).await.unwrap();
        let of = [field(1, field(3, name)), field(2, "group"), number(3, room)].concat();
        let options = field(1, [of, field(4, field(2, b""))].concat());
        http2::send(&mut out, message(options)).await.unwrap();
        let mut inbox = Inbox::of(response.await.unwrap().into_body());
        let confirmed = timeout(PATIENCE, inbox.next()).await.expect("at once").unwrap();
        assert!(has(&confirmed, &format!("{name}::group")));
        Self { inbox, out, _client: client }
    }

    /// The numbers of the next events.
    async fn next(&mut self, count: usize) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        while found.len() < count {
            let event = timeout(PATIENCE, self.inbox.next()).await.expect("in time").unwrap();
            let number = (0..100).find(|number| has(&event, &id(*number)));
            found.insert(number.expect("an event"));
        }
        found
    }

    async fn acknowledge(&mut self, numbers: &[usize]) {
        let ids: Vec<u8> = numbers.iter().flat_map(|one| field(2, field(2, id(*one)))).collect();
        http2::send(&mut self.out, message(field(2, ids))).await.unwrap();
    }
}

/// How far the subscription has got.
async fn checkpoint(client: &Client, name: &str) -> Vec<u8> {
    let of = field(1, [field(1, field(3, name)), field(3, "group")].concat());
    ask(client, "GetInfo", of).await.body
}

#[test]
fn what_was_not_acknowledged_comes_again_after_a_crash_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = config(folder.path());
    let mut node = Weft::start(BIN, &yaml);
    http2::run(async {
        let client = Client::to(node.address("web")).await;
        call(&client, "Append", append("task-1", ANY, &["t"; 20])).await;
        let said = ask(&client, "Create", create("task-1")).await;
        assert_eq!(said.trailer("grpc-status"), "0", "{said:?}");
        let again = ask(&client, "Create", create("task-1")).await;
        assert_eq!(again.get("exception"), "persistent-subscription-exists", "{again:?}");
        let mut one = Consumer::of(&node, "task-1", 10).await;
        let first = one.next(10).await;
        assert!(first.iter().copied().eq(0..10), "{first:?}");
        let mut two = Consumer::of(&node, "task-1", 10).await;
        let second = two.next(10).await;
        assert!(second.iter().copied().eq(10..20), "{second:?}");
        one.acknowledge(&[0, 1, 2, 5]).await;
        two.acknowledge(&[10, 19]).await;
        let deadline = std::time::Instant::now() + PATIENCE;
        // Six of twenty are done: fourteen are held (field 24 of what is told).
        while !checkpoint(&client, "task-1").await.windows(3).any(|bytes| bytes == [0xc0, 0x01, 14])
        {
            assert!(std::time::Instant::now() < deadline, "acknowledged in time");
        }
        node.kill();
        node.wait();
    });
    node = node.again(&yaml);
    http2::run(async {
        let client = Client::to(node.address("web")).await;
        let mut one = Consumer::of(&node, "task-1", 100).await;
        let found = one.next(14).await;
        let rest: BTreeSet<usize> =
            (0..20).filter(|one| ![0, 1, 2, 5, 10, 19].contains(one)).collect();
        assert_eq!(found, rest);
        // Who goes gives back at once.
        drop(one);
        let mut two = Consumer::of(&node, "task-1", 100).await;
        assert_eq!(two.next(14).await, rest);
        two.acknowledge(&rest.into_iter().collect::<Vec<_>>()).await;
        call(&client, "Append", append("task-2", ANY, &["x"])).await;
        node.terminate();
        while timeout(PATIENCE, two.inbox.next()).await.expect("in time").is_some() {}
        assert_eq!(two.inbox.trailers().await.unwrap()["grpc-status"], "14");
    });
    assert!(node.wait().success());
}

#[test]
fn categories_and_types_are_read_by_links() {
    let folder = tempfile::tempdir().unwrap();
    let node = Weft::start(BIN, &config(folder.path()));
    http2::run(async {
        let client = Client::to(node.address("web")).await;
        for name in ["bill-1", "bill-2", "bill", "other-1"] {
            call(&client, "Append", append(name, ANY, &["sent"])).await;
        }
        let links = |name: &str| read(name, &number(5, 9));
        let found = grpc::messages(&call(&client, "Read", links("$ce-bill")).await.body);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(has(&found[0], "0@bill-1") && has(&found[1], "0@bill-2") && has(&found[0], "$>"));
        // With their events.
        let found = call(&client, "Read", read("$et-sent", &[number(5, 9), number(4, 1)].concat()));
        let found = grpc::messages(&found.await.body);
        assert_eq!(found.len(), 4, "{found:?}");
        assert!(has(&found[3], "other-1") && has(&found[3], r#"{"n":1}"#));
    });
}
