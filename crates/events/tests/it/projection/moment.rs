//! Documents as they were.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use weft_events::projection::{Definition, Projection, Rule};
use weft_kernel::{Reason, Rng};
use weft_ledger::disk::SimulatedDisk;

use super::{append, documents, fields, orders, with};
use crate::streams::{Opened, block};

async fn before(projection: &Projection, key: &str, position: u64) -> Option<Value> {
    let found = projection.document_before(key, position).await.unwrap();
    found.map(|shown| serde_json::from_slice(&shown.json).unwrap())
}

#[test]
fn a_document_is_folded_as_it_was_after_each_event() {
    block(async {
        let opened = Opened::on(&SimulatedDisk::new()).await;
        let store = &opened.events;
        let mut rng = Rng::seeded(7);
        // One document for each stream; and one that others join by what they name.
        let by_stream = Definition {
            on: BTreeMap::from([
                (
                    "placed".to_owned(),
                    Rule { set: fields(&[("total", "data.total")]), ..Rule::default() },
                ),
                (
                    "line".to_owned(),
                    Rule { append: fields(&[("lines", "data")]), ..Rule::default() },
                ),
                ("erased".to_owned(), Rule { delete: true, ..Rule::default() }),
            ]),
            ..orders()
        };
        for definition in [orders(), by_stream] {
            with(store, definition, async |projection| {
                let mut expected = Vec::new();
                for at in 0..120_u64 {
                    let stream = format!("order-{}", rng.below(4));
                    let number = rng.below(4);
                    let id = format!("{}-{at}", store.next_position());
                    let position = match rng.below(8) {
                        0 => append(store, &stream, &id, "erased", json!({})).await,
                        1..4 => append(store, &stream, &id, "placed", json!({ "total": at })).await,
                        4..6 => append(store, &stream, &id, "line", json!(at)).await,
                        // Of a category that is not meant, and of one that joins.
                        6 => append(store, "other-1", &id, "placed", json!({ "total": at })).await,
                        _ => {
                            let data = json!({ "order": number.to_string(), "amount": at });
                            append(store, "payment-1", &id, "paid", data).await
                        }
                    };
                    projection.reached(position + 1).await;
                    expected.push((position + 1, documents(&projection).await));
                }
                for (position, documents) in expected.iter().step_by(7) {
                    for key in ["order-0", "order-1", "order-3", "other-1"] {
                        let found = before(&projection, key, *position).await;
                        assert_eq!(found.as_ref(), documents.get(key), "{key} before {position}");
                    }
                }
                assert_eq!(before(&projection, "order-0", 0).await, None);
            })
            .await;
        }
    });
}

#[test]
fn an_event_that_cannot_be_applied_is_named() {
    block(async {
        let opened = Opened::on(&SimulatedDisk::new()).await;
        let store = &opened.events;
        with(store, orders(), async |projection| {
            append(store, "order-1", "1", "placed", json!({ "total": 1 })).await;
            let position = append(store, "order-1", "2", "placed", json!({})).await;
            assert_eq!(before(&projection, "order-1", position).await.unwrap()["total"], 1);
            let error = projection.document_before("order-1", position + 1).await.unwrap_err();
            assert_eq!(error.reason(), Reason::Conflict);
            assert!(error.detail().contains("position 1 "), "{}", error.detail());
        })
        .await;
    });
}
