//! What does not fit one transaction, and events that are not there any more.

use std::collections::BTreeMap;

use serde_json::json;
use weft_events::projection::{Definition, Rule};
use weft_kernel::Rng;
use weft_ledger::{
    EmbeddedStore, MapOptions, Transaction, disk::SimulatedDisk, transaction::ExpectValue,
};

use super::{append, documents, fields, with};
use crate::streams::{Opened, block};

const DOCUMENTS: usize = 48;

fn many() -> Definition {
    let rule = Rule {
        set: fields(&[("text", "data.text")]),
        add: fields(&[("count", "1")]),
        ..Rule::default()
    };
    Definition {
        from: Vec::new(),
        key: "data.keys".into(),
        on: BTreeMap::from([("told".to_owned(), rule)]),
    }
}

#[test]
fn an_event_of_more_than_a_transaction_is_applied_to_each_document_once() {
    let keys: Vec<String> = (0..DOCUMENTS).map(|number| format!("k{number}")).collect();
    for seed in 0..3 {
        let (disk, mut rng) = (SimulatedDisk::new(), Rng::seeded(seed));
        block(async {
            let opened = Opened::on(&disk).await;
            for id in 0..3 {
                let text = "x".repeat((60 << 10) + id);
                let data = json!({ "keys": keys, "text": text });
                append(&opened.events, "s-1", &id.to_string(), "told", data).await;
            }
        });
        disk.reopen();
        for _ in 0..6 {
            block(async {
                let opened = Opened::on(&disk).await;
                with(&opened.events, many(), async |projection| {
                    let end = opened.events.next_position();
                    for _ in 0..rng.below(200) {
                        tokio::task::yield_now().await;
                    }
                    let _ = tokio::time::timeout(
                        std::time::Duration::from_millis(rng.below(20)),
                        projection.reached(end),
                    )
                    .await;
                })
                .await;
                disk.halt();
            });
            disk.restart(&mut rng);
        }
        block(async {
            let opened = Opened::on(&disk).await;
            with(&opened.events, many(), async |projection| {
                projection.reached(opened.events.next_position()).await;
                let found = documents(&projection).await;
                assert_eq!(found.len(), DOCUMENTS);
                for (key, document) in found {
                    assert_eq!(document["count"], 3, "{key}");
                    assert_eq!(document["text"].as_str().unwrap().len(), (60 << 10) + 2, "{key}");
                }
                assert_eq!(projection.status().applied, 3 * DOCUMENTS as u64);
                assert!(projection.parked().is_empty());
            })
            .await;
        });
    }
}

/// A ledger that was repaired without what was damaged has fewer events than were folded.
#[test]
fn what_has_folded_events_that_were_lost_is_built_anew() {
    block(async {
        let disk = SimulatedDisk::new();
        let opened = Opened::on(&disk).await;
        let told = |keys: &[&str]| json!({ "keys": keys, "text": "" });
        append(&opened.events, "s-1", "a", "told", told(&["one"])).await;
        with(&opened.events, many(), async |projection| {
            projection.reached(1).await;
            assert_eq!(documents(&projection).await["one"]["count"], 1);
        })
        .await;
        let epoch = opened.events.epoch();
        drop(opened);
        disk.reopen();
        let opened = Opened::on(&disk).await;
        assert_eq!(opened.events.epoch(), epoch, "the same for as long as nothing is lost");
        // As if there had been more.
        let store = opened.ledger.embedded_namespace("events").unwrap();
        let index = store.create_map("index", MapOptions::default()).await.unwrap();
        let beyond = postcard::to_allocvec(&9_999_u64).unwrap();
        let ahead = Transaction::default().put(index, &[0][..], beyond, ExpectValue::Any);
        store.commit(ahead).await.unwrap();
        drop((store, opened));
        disk.reopen();
        let opened = Opened::on(&disk).await;
        assert_ne!(opened.events.epoch(), epoch);
        with(&opened.events, many(), async |projection| {
            while projection.status().build != 2 {
                tokio::task::yield_now().await;
            }
            assert_eq!(documents(&projection).await["one"]["count"], 1);
        })
        .await;
    });
}
