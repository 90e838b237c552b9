//! What registering waits for, and what it looks at.

use std::time::Duration;

use weft_kernel::{ByteSize, SystemClock};
use weft_ledger::{Ledger, Options, disk::SimulatedDisk};

use super::*;
use crate::schema::Format;

async fn opened() -> (Ledger, Registry) {
    let options = Options { wal_file_bytes: ByteSize(1 << 22), ..Options::default() };
    let disk = Arc::new(SimulatedDisk::default());
    let (ledger, _) = Ledger::open(disk, options, Arc::new(SystemClock)).unwrap();
    ledger.start().unwrap();
    let registry = Registry::open(Arc::new(ledger.namespace("schemas").unwrap())).await.unwrap();
    (ledger, registry)
}

fn avro(text: &str) -> Draft {
    Draft { format: Format::Avro, text: text.to_owned(), ..Draft::default() }
}

/// A comparison that takes long kept all others from registering.
#[tokio::test]
async fn a_schema_is_compared_before_it_has_its_turn() {
    let (ledger, registry) = opened().await;
    registry.register("s", &avro("\"int\"")).await.unwrap();
    let turn = registry.0.changes.lock().await;
    let other = avro("\"string\"");
    let refused = registry.register("s", &other);
    let refused = tokio::time::timeout(Duration::from_secs(10), refused).await;
    assert_eq!(refused.unwrap().unwrap_err().code(), 409);
    drop(turn);
    ledger.close().unwrap();
}

/// Of two that fit what there is and not each other one is refused, whoever comes first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_registered_meanwhile_counts() {
    let (ledger, registry) = opened().await;
    let enums = ["A", "B"]
        .map(|symbol| avro(&format!(r#"{{"type":"enum","name":"E","symbols":["{symbol}"]}}"#)));
    for at in 0..20 {
        let subject = format!("s{at}");
        let mut set = tokio::task::JoinSet::new();
        for draft in enums.clone() {
            let (registry, subject) = (registry.clone(), subject.clone());
            set.spawn(async move { registry.register(&subject, &draft).await.is_ok() });
        }
        let done = set.join_all().await;
        assert_eq!(done.iter().filter(|ok| **ok).count(), 1, "{subject}");
        assert_eq!(registry.versions(&subject, Deleted::Hidden).await.unwrap(), [1]);
    }
    ledger.close().unwrap();
}

/// Many who change one subject at once all come to their turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_register_under_one_subject() {
    let (ledger, registry) = opened().await;
    let mut set = tokio::task::JoinSet::new();
    for at in 0..40 {
        let registry = registry.clone();
        let text = format!(
            r#"{{"type":"record","name":"R","fields":[{{"name":"f{at}","type":"int","default":0}}]}}"#
        );
        set.spawn(async move { registry.register("s", &avro(&text)).await.unwrap().version });
    }
    let mut versions = set.join_all().await;
    versions.sort_unstable();
    assert_eq!(versions, (1..=40).collect::<Vec<_>>());
    ledger.close().unwrap();
}
