//! Maps: versions, expectations, scans.

use weft_kernel::Reason;

use super::{Subject, fsync, listed, reason, refusal};
use crate::{ExpectValue, MapId, MapOptions};

listed! {
    an_entry_changes_only_as_expected
    a_scan_goes_by_prefix_and_resumes
    a_map_is_there_after_a_restart_until_it_is_dropped
}

async fn an_entry_changes_only_as_expected(subject: &dyn Subject) {
    let store = subject.store();
    let map = store.create_map("versions", MapOptions::default()).await.unwrap();
    let first = store.commit(fsync().put(map, "k", "1", ExpectValue::Absent)).await.unwrap();
    let value = store.get(map, b"k").await.unwrap().unwrap();
    assert_eq!((&value.data[..], value.version), (&b"1"[..], first.seq));
    let absent = store.commit(fsync().put(map, "k", "2", ExpectValue::Absent)).await;
    assert_eq!(refusal(absent), (Some(0), Reason::VersionConflict));
    let other = ExpectValue::Version(first.seq + 1);
    assert_eq!(
        refusal(store.commit(fsync().put(map, "k", "2", other)).await).1,
        Reason::VersionConflict
    );
    let same = ExpectValue::Version(first.seq);
    let second = store.commit(fsync().put(map, "k", "2", same)).await.unwrap();
    assert_eq!(store.get(map, b"k").await.unwrap().unwrap().version, second.seq);
    assert_eq!(
        refusal(store.commit(fsync().delete(map, "k", same)).await).1,
        Reason::VersionConflict
    );
    store.commit(fsync().delete(map, "k", ExpectValue::Present)).await.unwrap();
    assert_eq!(store.get(map, b"k").await.unwrap(), None);
    let gone = store.commit(fsync().delete(map, "k", ExpectValue::Present)).await;
    assert_eq!(refusal(gone).1, Reason::VersionConflict);
    store.commit(fsync().delete(map, "k", ExpectValue::Any)).await.unwrap();
    let chain = fsync()
        .put(map, "c", "1", ExpectValue::Absent)
        .put(map, "c", "2", ExpectValue::Present)
        .delete(map, "c", ExpectValue::Present)
        .put(map, "c", "3", ExpectValue::Absent);
    store.commit(chain).await.unwrap();
    assert_eq!(store.get(map, b"c").await.unwrap().unwrap().data, "3");
    assert_eq!(
        refusal(store.commit(fsync().put(map, "", "x", ExpectValue::Any)).await).1,
        Reason::MalformedRequest
    );
    let large = vec![0u8; (1 << 20) + 1];
    assert_eq!(
        refusal(store.commit(fsync().put(map, "k", large, ExpectValue::Any)).await).1,
        Reason::MessageTooLarge
    );
}

async fn a_scan_goes_by_prefix_and_resumes(subject: &dyn Subject) {
    let store = subject.store();
    let map = store.create_map("scan", MapOptions::default()).await.unwrap();
    let put = ["a/1", "a/2", "a/3", "b/1", "a"]
        .iter()
        .fold(fsync(), |transaction, key| transaction.put(map, *key, *key, ExpectValue::Any));
    store.commit(put).await.unwrap();
    let keys = |found: Vec<(bytes::Bytes, crate::Value)>| -> Vec<bytes::Bytes> {
        found.into_iter().map(|(key, _)| key).collect()
    };
    assert_eq!(keys(store.scan(map, b"a/", None, 9).await.unwrap()), ["a/1", "a/2", "a/3"]);
    let rest = store.scan(map, b"a/", Some("a/1".into()), 1).await.unwrap();
    assert_eq!(keys(rest), ["a/2"]);
    assert_eq!(store.scan(map, b"", None, 99).await.unwrap().len(), 5);
    assert!(store.scan(map, b"c", None, 9).await.unwrap().is_empty());
}

async fn a_map_is_there_after_a_restart_until_it_is_dropped(subject: &dyn Subject) {
    let store = subject.store();
    let map = store.create_map("kept", MapOptions::default()).await.unwrap();
    assert_eq!(store.create_map("kept", MapOptions::default()).await.unwrap(), map);
    let receipt = store.commit(fsync().put(map, "k", "v", ExpectValue::Any)).await.unwrap();
    subject.restart().await;
    let store = subject.store();
    assert_eq!(store.create_map("kept", MapOptions::default()).await.unwrap(), map);
    let value = store.get(map, b"k").await.unwrap().unwrap();
    assert_eq!(value.version, receipt.seq, "a version survives as it is");
    store.drop_map(map).await.unwrap();
    assert_eq!(reason(store.get(map, b"k").await), Reason::NoMessage);
    let again = store.create_map("kept", MapOptions::default()).await.unwrap();
    assert_ne!(again, map);
    assert_eq!(store.get(again, b"k").await.unwrap(), None);
    assert_eq!(reason(store.get(MapId(u32::MAX), b"k").await), Reason::NoMessage);
}
