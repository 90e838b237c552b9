//! Events that cannot be applied: their document waits, and the others go on.

use serde_json::json;
use weft_events::projection::{Rule, read::Changed, service::Resolve};
use weft_ledger::disk::SimulatedDisk;

use super::{append, documents, fields, orders, with};
use crate::streams::{Opened, block};

#[test]
fn a_parked_document_waits_in_order_and_others_go_on() {
    block(async {
        let disk = SimulatedDisk::new();
        let opened = Opened::on(&disk).await;
        let store = &opened.events;
        let paid = |order: &str, amount| json!({ "order": order, "amount": amount });
        append(store, "order-1", "a", "placed", json!({ "total": 5 })).await;
        let wrong = append(store, "payment-1", "b", "paid", paid("1", json!("much"))).await;
        append(store, "payment-2", "c", "paid", paid("1", json!(2))).await;
        append(store, "payment-3", "d", "paid", paid("2", json!(7))).await;
        append(store, "order-1", "e", "line", json!({ "item": 1 })).await;
        with(store, orders(), async |projection| {
            projection.reached(store.next_position()).await;
            let found = documents(&projection).await;
            assert_eq!(found["order-1"], json!({ "status": "placed", "total": 5 }));
            assert_eq!(found["order-2"], json!({ "paid": 7, "payments": 1 }));
            let parked = projection.parked();
            assert_eq!((parked.len(), parked[0].position, parked[0].waiting), (1, wrong, 3));
            assert_eq!(parked[0].key.as_deref(), Some("order-1"));
            assert!(parked[0].why.starts_with("paid: "), "{}", parked[0].why);
            let key = || Some("order-1".to_owned());
            // The same again fails again, and changes nothing.
            let again = projection.resolve(key(), None, Resolve::Resume).await.unwrap().unwrap();
            assert_eq!((again.position, again.waiting), (wrong, 3));
            assert_eq!(projection.resolve(key(), None, Resolve::Skip).await.unwrap(), None);
            let all = json!({ "status": "placed", "total": 5, "paid": 2, "payments": 1, "lines": [{ "item": 1 }] });
            assert_eq!(documents(&projection).await["order-1"], all);
            assert!(projection.parked().is_empty());
            assert!(projection.resolve(key(), None, Resolve::Skip).await.is_err());
        })
        .await;
        drop(opened);
        disk.reopen();
        let opened = Opened::on(&disk).await;
        with(&opened.events, orders(), async |projection| {
            projection.reached(opened.events.next_position()).await;
            assert!(projection.parked().is_empty());
            assert_eq!(projection.status().applied, 4);
            assert_eq!(documents(&projection).await["order-1"]["paid"], 2);
        })
        .await;
    });
}

#[test]
fn a_document_that_grows_too_large_is_parked_whole_and_a_key_that_fails_alone() {
    block(async {
        let opened = Opened::on(&SimulatedDisk::new()).await;
        let store = &opened.events;
        let large = "x".repeat(400 << 10);
        for id in 0..4 {
            let data = json!({ "text": large, "id": id });
            append(store, "order-1", &id.to_string(), "line", data).await;
        }
        append(store, "payment-1", "p", "paid", json!({ "amount": 1 })).await;
        append(store, "payment-1", "q", "paid", json!({ "amount": 1, "order": "9" })).await;
        with(store, orders(), async |projection| {
            projection.reached(store.next_position()).await;
            let found = documents(&projection).await;
            let ids: Vec<_> = found["order-1"]["lines"]
                .as_array()
                .unwrap()
                .iter()
                .map(|of| of["id"].clone())
                .collect();
            assert_eq!(ids, [0, 1], "the third would have made it too large");
            assert_eq!(found["order-9"]["paid"], 1);
            let parked = projection.parked();
            let seen: Vec<_> =
                parked.iter().map(|of| (of.key.as_deref(), of.position, of.waiting)).collect();
            assert_eq!(seen, [(None, 4, 1), (Some("order-1"), 2, 2)]);
            assert_eq!(projection.resolve(None, Some(4), Resolve::Skip).await.unwrap(), None);
            assert_eq!(projection.parked().len(), 1);
        })
        .await;
    });
}

#[test]
fn changes_are_told_from_a_position_on_and_as_they_come() {
    block(async {
        let opened = Opened::on(&SimulatedDisk::new()).await;
        let store = &opened.events;
        append(store, "order-1", "a", "placed", json!({ "total": 1 })).await;
        let second = append(store, "order-2", "b", "placed", json!({ "total": 2 })).await;
        append(store, "order-2", "c", "erased", json!({})).await;
        let mut definition = orders();
        let rule = Rule { set: fields(&[("total", "data.total")]), ..Rule::default() };
        definition.on.insert("placed".into(), rule);
        with(store, definition, async |projection| {
            let mut changes = projection.changes(0);
            let Changed::Document(Some(0), first) = changes.next().await.unwrap() else { panic!() };
            assert_eq!((&*first.key, &first.json[..]), ("order-1", &b"{\"total\":1}"[..]));
            assert_eq!(changes.next().await.unwrap(), Changed::Gone(Some(2), "order-2".into()));
            let mut later = projection.changes(second + 1);
            assert_eq!(later.next().await.unwrap(), Changed::Gone(Some(2), "order-2".into()));
            let (new, ()) = tokio::join!(later.next(), async {
                append(store, "order-3", "d", "placed", json!({ "total": 3 })).await;
            });
            assert!(
                matches!(new.unwrap(), Changed::Document(Some(3), shown) if shown.key == "order-3")
            );
        })
        .await;
    });
}
