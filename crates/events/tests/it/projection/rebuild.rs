//! A changed definition is built beside the one that answers, wherever the power fails.

use std::collections::BTreeMap;

use serde_json::json;
use weft_events::projection::{Definition, Rule};
use weft_kernel::Rng;
use weft_ledger::{EmbeddedStore, MapOptions, disk::SimulatedDisk};

use super::{append, documents, fields, with};
use crate::streams::{Opened, block};

fn counting(by: &str) -> Definition {
    let rule = Rule { add: fields(&[("count", by)]), ..Rule::default() };
    Definition {
        from: Vec::new(),
        key: "stream.name".into(),
        on: BTreeMap::from([("placed".to_owned(), rule)]),
    }
}

/// Rows that a build has; none at all if it goes right now.
async fn rows(opened: &Opened, build: u64) -> usize {
    let store = opened.ledger.embedded_namespace("events").unwrap();
    let name = format!("projection/orders/{build}");
    let map = store.create_map(&name, MapOptions::default()).await.unwrap();
    store.scan(map, b"", None, 100).await.map_or(0, |rows| rows.len())
}

#[test]
fn the_old_one_answers_until_the_new_one_is_as_far_and_then_goes() {
    for seed in 0..30 {
        let (disk, mut rng) = (SimulatedDisk::new(), Rng::seeded(seed));
        block(async {
            let opened = Opened::on(&disk).await;
            let store = &opened.events;
            for id in 0..20 {
                append(store, &format!("s-{}", id % 5), &id.to_string(), "placed", json!({})).await;
            }
            with(store, counting("1"), async |projection| {
                projection.reached(store.next_position()).await;
                assert_eq!(documents(&projection).await["s-1"], json!({ "count": 4 }));
            })
            .await;
        });
        disk.reopen();
        // It is changed, and fails somewhere, some times.
        for _ in 0..3 {
            block(async {
                let opened = Opened::on(&disk).await;
                with(&opened.events, counting("10"), async |projection| {
                    for _ in 0..rng.below(60) {
                        let found = documents(&projection).await["s-1"].clone();
                        assert!(
                            found == json!({ "count": 4 }) || found == json!({ "count": 40 }),
                            "{found}"
                        );
                        tokio::task::yield_now().await;
                    }
                })
                .await;
                disk.halt();
            });
            disk.restart(&mut rng);
        }
        block(async {
            let opened = Opened::on(&disk).await;
            with(&opened.events, counting("10"), async |projection| {
                loop {
                    let status = projection.status();
                    if status.build == 2 && status.building.is_none() {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
                projection.reached(opened.events.next_position()).await;
                assert_eq!(documents(&projection).await["s-1"], json!({ "count": 40 }));
                // Without another event that would wake it.
                while rows(&opened, 1).await > 0 {
                    tokio::task::yield_now().await;
                }
                // By hand, the same once more.
                projection.rebuild().await.unwrap();
                while projection.status().build != 3 {
                    tokio::task::yield_now().await;
                }
                assert_eq!(documents(&projection).await["s-1"], json!({ "count": 40 }));
            })
            .await;
        });
    }
}
