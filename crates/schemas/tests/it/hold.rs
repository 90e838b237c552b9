//! Payloads that are held to a subject.

use weft_schemas::{Format, PayloadVerdict, Registry, Which};

use crate::registry::{Opened, draft};

fn said(registry: &Registry, payload: &[u8]) -> String {
    match registry.hold("s", payload) {
        PayloadVerdict::Fits => "fits".to_owned(),
        PayloadVerdict::Unread => "unread".to_owned(),
        PayloadVerdict::Differs(fault) => format!("{}: {}", fault.path, fault.said),
    }
}

fn framed(id: u32, payload: &[u8]) -> Vec<u8> {
    [&[0][..], &id.to_be_bytes(), payload].concat()
}

#[tokio::test]
async fn a_payload_is_held_to_the_version_that_it_names_or_to_the_latest() {
    let it = Opened::new().await;
    let registry = &it.registry;
    assert_eq!(said(registry, b"{}"), "unread");
    registry.hold_wanted().await.unwrap();
    assert_eq!(said(registry, b"{}"), ": the subject has no schema");
    let of = |kind: &str| {
        let text = format!(r#"{{"type":"object","properties":{{"a":{{"type":"{kind}"}}}}}}"#);
        draft(Format::Json, &text)
    };
    // What was registered counts at once.
    let one = registry.register("s", &of("integer")).await.unwrap().schema.id;
    assert_eq!(said(registry, br#"{"a":1}"#), "fits");
    assert!(said(registry, br#"{"a":1.5}"#).starts_with("/a: "));
    let two = registry.register("s", &of("number")).await.unwrap().schema.id;
    assert_eq!(said(registry, br#"{"a":1.5}"#), "fits");
    assert_eq!(said(registry, &framed(two, br#"{"a":1.5}"#)), "fits");
    assert!(said(registry, &framed(one, br#"{"a":1.5}"#)).starts_with("/a: "));
    assert!(said(registry, &framed(99, br#"{"a":1}"#)).contains("names the schema 99"));
    registry.delete_version("s", Which::Number(2), false).await.unwrap();
    assert!(said(registry, br#"{"a":1.5}"#).starts_with("/a: "));
}

#[tokio::test]
async fn protobuf_has_the_indexes_of_its_message_behind_the_id() {
    let it = Opened::new().await;
    it.registry.hold_ready(["s".to_owned()]).await.unwrap();
    let text = "syntax = \"proto3\"; message A { string a = 1; } message B { int32 b = 1; }";
    let schema = draft(Format::Protobuf, text);
    let id = it.registry.register("s", &schema).await.unwrap().schema.id;
    assert_eq!(said(&it.registry, &framed(id, b"\x00\x0a\x01x")), "fits");
    assert_eq!(said(&it.registry, &framed(id, b"\x02\x02\x08\x07")), "fits");
    assert!(said(&it.registry, &framed(id, b"\x00\x08\x07")).contains("cannot be decoded"));
    assert!(said(&it.registry, &framed(id, b"\x02\x08\x07")).contains("no message"));
    assert_eq!(said(&it.registry, b"\x0a\x01x"), "fits");
}
