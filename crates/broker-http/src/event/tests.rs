//! Events through the store and back, in every binding.

use std::borrow::Cow;

use proptest::prelude::*;
use weft_wire::cloudevents::{http, json};

use super::*;

fn structured(message: &Message) -> serde_json::Value {
    let mut out = Vec::new();
    with(message, 0, |event, _| json::write(event, &mut out)).unwrap();
    serde_json::from_slice(&out).unwrap()
}

#[test]
fn a_structured_event_comes_back_as_it_was() {
    for text in [
        r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"a":[1,null]},"datacontenttype":"application/json"}"#,
        r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","subject":"x","time":"2026-01-31T00:00:00Z","dataschema":"urn:x","data":"plain","datacontenttype":"text/plain"}"#,
        r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","data_base64":"AP8=","datacontenttype":"application/octet-stream","flag":true,"count":-7,"partitionkey":"k"}"#,
        r#"{"specversion":"1.0","id":"1","source":"/s","type":"t"}"#,
        r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","data":null,"datacontenttype":"application/json"}"#,
    ] {
        let message = store(json::parse(text.as_bytes()).unwrap(), &Origin::default()).unwrap();
        let expected: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(structured(&message), expected, "{text}");
    }
}

#[test]
fn a_binary_event_comes_back_as_it_was() {
    let fields: [(&str, &[u8]); 6] = [
        ("ce-specversion", b"1.0"),
        ("ce-id", b"a%20b"),
        ("ce-source", b"/orders"),
        ("ce-type", b"order.placed"),
        ("ce-partitionkey", b"42"),
        ("content-type", b"application/x-protobuf"),
    ];
    let event = http::parse(fields, b"\x00\x01\xff").unwrap();
    let message = store(event.clone(), &Origin::default()).unwrap();
    with(&message, 0, |read, body| {
        assert_eq!(&body[..], b"\x00\x01\xff");
        assert_eq!(*read, event);
        let mut written = Vec::new();
        http::write(read, |name, value| written.push((name.to_owned(), value.to_owned())));
        for (name, value) in fields {
            let value = std::str::from_utf8(value).unwrap().to_owned();
            assert!(written.contains(&(name.to_owned(), value)), "{name}");
        }
    })
    .unwrap();
}

#[test]
fn a_trace_is_added_only_where_there_is_none() {
    let plain = br#"{"specversion":"1.0","id":"1","source":"/s","type":"t"}"#;
    let traced = br#"{"specversion":"1.0","id":"1","source":"/s","type":"t","traceparent":"own"}"#;
    for (text, expected) in [(&plain[..], "given"), (&traced[..], "own")] {
        let message = store(json::parse(text).unwrap(), &Origin::traced(Some("given"))).unwrap();
        assert_eq!(structured(&message)["traceparent"], expected);
    }
}

#[test]
fn correlation_and_causation_come_with_the_request() {
    let trace = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    let trace_id = "0af7651916cd43dd8448eb211c80319c";
    let both = &[("x-correlation-id", "c"), ("x-causation-id", "p")][..];
    let own = r#","correlationid":"own","causationid":"mine""#;
    for (fields, trace, members, is_stream, correlation, causation) in [
        (both, trace, "", true, Some("c"), Some("p")),
        (both, trace, "", false, Some("c"), Some("p")),
        (both, trace, own, true, Some("own"), Some("mine")),
        (&[], trace, "", true, Some(trace_id), None),
        (&[], None, "", true, Some("1"), None),
        (&[("x-correlation-id", " ")], None, "", true, Some("1"), None),
        // A message is not said to belong to what it does not say.
        (&[], trace, "", false, None, None),
    ] {
        let mut of_request = weft_wire::Fields::default();
        for (name, value) in fields {
            of_request.append(name, value.as_bytes());
        }
        let origin = Origin::of(&of_request, trace);
        let origin = if is_stream { origin.correlated() } else { origin };
        let text = format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t"{members}}}"#);
        let shown = structured(&store(json::parse(text.as_bytes()).unwrap(), &origin).unwrap());
        let of = |name: &str| shown.get(name).and_then(|id| id.as_str());
        assert_eq!((of("correlationid"), of("causationid")), (correlation, causation), "{text}");
    }
}

#[test]
fn a_fault_names_the_event_of_the_batch() {
    let text =
        br#"[{"specversion":"1.0","id":"1","source":"/s","type":"t"},{"specversion":"1.0"}]"#;
    let error = refused(&json::parse_batch(text, 10).unwrap_err());
    assert!(error.said().starts_with("event 1: "), "{}", error.said());
    assert_eq!(error.reason(), Reason::MalformedMessage);
}

proptest! {
    #[test]
    fn any_event_survives_the_store(
        id in "\\PC{1,20}",
        kind in "[a-z.]{1,20}",
        subject in proptest::option::of("\\PC{1,20}"),
        extensions in proptest::collection::btree_map("x[a-z0-9]{1,10}", "\\PC{0,20}", 0..5),
        data in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..100)),
    ) {
        let event = Event {
            id: id.into(),
            source: "/s".into(),
            kind: kind.into(),
            subject: subject.map(Cow::from),
            extensions: extensions.into_iter()
                .map(|(name, value)| (name.into(), Attribute::Text(value.into()))).collect(),
            data: data.map(Cow::from),
            ..Event::default()
        };
        let message = store(event.clone(), &Origin::default()).unwrap();
        with(&message, 0, |read, _| assert_eq!(*read, event)).unwrap();
    }
}
