//! Tables, properties and hostile input for the codec.

use proptest::prelude::*;

use super::*;
use crate::amqp::{Properties, TableWriter, Value};

fn plain() -> Event<'static> {
    Event { id: "1".into(), source: "/s".into(), kind: "t".into(), ..Event::default() }
}

fn fault(json: &str) -> (String, &'static str) {
    let fault = json::parse(json.as_bytes()).unwrap_err();
    (fault.attribute, fault.why)
}

#[test]
fn an_event_in_json() {
    let text = r#" {"specversion":"1.0","type":"com.example.order","source":"/orders","id":"A-1",
        "time":"2026-01-02T15:04:05.123456789Z","subject":"o\u00e9\"1","dataschema":null,
        "sampled":true,"retries":-3,"trace":"x",
        "data": {"a" : [1, 2.50]}} "#;
    let event = json::parse(text.as_bytes()).unwrap();
    assert_eq!(event.subject.as_deref(), Some("oé\"1"));
    assert_eq!(event.data.as_deref(), Some(&br#"{"a" : [1, 2.50]}"#[..]));
    assert_eq!(event.data_content_type.as_deref(), Some("application/json"));
    assert_eq!(event.extension("sampled"), Some(&Attribute::Bool(true)));
    assert_eq!(event.extension("retries"), Some(&Attribute::Integer(-3)));
    assert_eq!(event.extension("trace"), Some(&Attribute::Text("x".into())));
    assert!(matches!(event.id, Cow::Borrowed(_)));
    let mut out = Vec::new();
    json::write(&event, &mut out);
    assert_eq!(json::parse(&out), Ok(event));
}

#[test]
fn the_content_type_says_what_data_is() {
    let check = |members: &str, expect: Option<&[u8]>, written: &str| {
        let text = format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t"{members}}}"#);
        let event = json::parse(text.as_bytes()).unwrap();
        assert_eq!(event.data.as_deref(), expect, "{members}");
        let mut out = Vec::new();
        json::write(&event, &mut out);
        let out = String::from_utf8(out).unwrap();
        assert!(out.ends_with(written), "{out}");
        assert_eq!(json::parse(out.as_bytes()), Ok(event));
    };
    check("", None, r#""type":"t"}"#);
    check(r#","data":null"#, Some(b"null"), r#""data":null}"#);
    check(r#","data":"x\n""#, Some(br#""x\n""#), r#""data":"x\n"}"#);
    let text = r#","datacontenttype":"text/plain; charset=utf-8","data":"x\n\u0001""#;
    check(text, Some(b"x\n\x01"), r#""data":"x\n\u0001"}"#);
    let behind = r#","data":"<a/>","datacontenttype":"application/xml""#;
    check(behind, Some(b"<a/>"), r#""data":"<a/>"}"#);
    let bytes = r#","datacontenttype":"image/png","data_base64":"AP8=""#;
    check(bytes, Some(b"\x00\xff"), r#""data_base64":"AP8="}"#);
    let json = r#","datacontenttype":"application/vnd.x+json","data_base64":"eyB9""#;
    check(json, Some(b"{ }"), r#""data":{ }}"#);
    let broken = r#","datacontenttype":"application/json","data_base64":"ew==""#;
    check(broken, Some(b"{"), r#""data_base64":"ew=="}"#);
    check(r#","data_base64":"""#, Some(b""), r#""data_base64":""}"#);
}

#[test]
fn faults_name_the_attribute() {
    let check = |members: &str, attribute: &str| {
        let text = format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t"{members}}}"#);
        assert_eq!(fault(&text).0, attribute, "{members}");
    };
    check(r#","subject":"""#, "subject");
    check(r#","subject":5"#, "subject");
    check(r#","subject":"a\u0007""#, "subject");
    check(r#","time":"yesterday""#, "time");
    check(r#","datacontenttype":"json""#, "datacontenttype");
    check(r#","dataschema":"a b""#, "dataschema");
    check(r#","Upper":"x""#, "Upper");
    check(r#","with_underscore":"x""#, "with_underscore");
    check(r#","object":{"a":[1,{}]}"#, "object");
    check(r#","list":[1,[2]]"#, "list");
    check(r#","big":2147483648"#, "big");
    check(r#","float":1.5"#, "float");
    check(r#","twice":"x","twice":"x""#, "twice");
    check(r#","id":"again""#, "id");
    check(r#","data":1,"data":2"#, "data");
    check(r#","data":1,"data_base64":"""#, "data_base64");
    check(r#","data_base64":"?""#, "data_base64");
    check(r#","data_base64":1"#, "data_base64");
    check(r#","datacontenttype":"text/plain","data":{}"#, "data");
    assert_eq!(fault(r#"{"specversion":"1.0","id":"1","source":"/s"}"#).0, "type");
    assert_eq!(fault(r#"{"specversion":"1.0","id":"","source":"/s","type":"t"}"#).0, "id");
    assert_eq!(fault(r#"{"id":"1","source":"/s","type":"t"}"#).0, "specversion");
    assert_eq!(fault(r#"{"specversion":"0.3","id":"1","source":"/","type":"t"}"#).0, "specversion");
    for whole in ["", "{", "[]", "7", r#"{"id":"\ud800"}"#, r#"{"id":"1" 2}"#] {
        assert_eq!(fault(whole).0, "event", "{whole}");
    }
    let good = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t"}"#;
    assert_eq!(fault(&format!("{good} x")).0, "event");
    let deep = format!(r#"{{"data":{}1"#, "[".repeat(100_000));
    assert_eq!(fault(&deep).0, "event");
}

#[test]
fn a_batch_names_the_event_that_is_wrong() {
    let good = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t"}"#;
    let batch = format!("[{good},{good}]");
    assert_eq!(json::parse_batch(batch.as_bytes(), 2).unwrap(), [plain(), plain()]);
    assert_eq!(json::parse_batch(b" [ ] ", 0), Ok(vec![]));
    assert_eq!(json::parse_batch(batch.as_bytes(), 1).unwrap_err().attribute, "event");
    let bad = format!(r#"[{good},{{"specversion":"1.0","id":"2","source":"/s","type":""}}]"#);
    let fault = json::parse_batch(bad.as_bytes(), 9).unwrap_err();
    assert_eq!((fault.attribute.as_str(), fault.index), ("type", Some(1)));
    for whole in ["{}", "[", "[1]", "[{}] x"] {
        assert!(json::parse_batch(whole.as_bytes(), 9).is_err(), "{whole}");
    }
}

#[test]
fn times() {
    for good in [
        "2026-01-02T15:04:05Z",
        "2026-01-02t15:04:05z",
        "2024-02-29T00:00:60.000000001+14:00",
        "0000-12-31T23:59:59-00:30",
    ] {
        assert!(is_rfc3339(good), "{good}");
    }
    for bad in [
        "",
        "2026-01-02",
        "2026-01-02T15:04:05",
        "2026-13-02T15:04:05Z",
        "2026-02-29T15:04:05Z",
        "2026-04-31T15:04:05Z",
        "2026-01-00T15:04:05Z",
        "2026-01-02T24:04:05Z",
        "2026-01-02T15:60:05Z",
        "2026-01-02T15:04:61Z",
        "2026-01-02T15:04:05.Z",
        "2026-01-02T15:04:05+25:00",
        "2026-01-02T15:04:05+01:60",
        "2026-01-02T15:04:05+0100",
        "2026/01/02T15:04:05Z",
        "+026-01-02T15:04:05Z",
    ] {
        assert!(!is_rfc3339(bad), "{bad}");
    }
}

#[test]
fn modes_by_content_type() {
    let check = |text: &str, mode| assert_eq!(Mode::of(text), mode, "{text}");
    check("application/json", Some(Mode::Binary));
    check("", Some(Mode::Binary));
    check("application/cloudevents+json; charset=UTF-8", Some(Mode::Structured));
    check("Application/CloudEvents+JSON", Some(Mode::Structured));
    check("application/cloudevents-batch+json", Some(Mode::Batch));
    check("application/cloudevents+avro", None);
    check("application/cloudevents-batch+protobuf", None);
}

#[test]
fn fields_of_http() {
    let fields: &[(&str, &[u8])] = &[
        ("Host", b"x"),
        ("CE-Specversion", b"1.0"),
        ("ce-id", b"A%20\"1\"%"),
        ("ce-source", b"\"/quo\\\"ted\""),
        ("ce-type", b"t%C3%A9"),
        ("ce-Custom", b"Euro%20%E2%82%AC%20%F0%9F%98%80"),
        ("Content-Type", b"text/plain"),
    ];
    assert!(http::is_event(fields.iter().map(|(name, _)| *name)));
    let parse = |fields: &[(&'static str, &'static [u8])]| {
        http::parse(fields.iter().copied(), b"hello").map(Event::into_owned)
    };
    assert_eq!(parse(fields).unwrap_err().attribute, "source");
    let mut fields = fields.to_vec();
    fields[3].1 = b"/quoted";
    let event = parse(&fields).unwrap();
    assert_eq!((&*event.id, &*event.kind), ("A \"1\"%", "té"));
    assert_eq!(event.extension("custom"), Some(&Attribute::Text("Euro € 😀".into())));
    assert_eq!(event.data.as_deref(), Some(&b"hello"[..]));
    for (name, value, attribute) in [
        ("ce-my_name", &b"x"[..], "my_name"),
        ("ce-data", b"x", "data"),
        ("ce-datacontenttype", b"text/plain", "datacontenttype"),
        ("ce-id", b"twice", "id"),
        ("ce-x", b"%ff", "x"),
        ("ce-x", b"%00", "x"),
        ("ce-time", b"now", "time"),
    ] {
        let mut fields = fields.clone();
        fields.push((name, value));
        assert_eq!(parse(&fields).unwrap_err().attribute, attribute, "{name}");
    }
    fields.remove(1);
    assert_eq!(parse(&fields).unwrap_err().attribute, "specversion");
}

#[test]
fn headers_of_amqp() {
    let mut headers = Vec::new();
    TableWriter::new(&mut headers)
        .text("cloudEvents_specversion", "1.0")
        .text("cloudEvents_id", "1")
        .text("cloudEvents:source", "/s")
        .text("cloudEvents_type", "t")
        .entry("cloudEvents_time", Value::Timestamp(0))
        .entry("cloudEvents_n", Value::I64(7))
        .entry("cloudEvents_b", Value::Bytes(b"\x00"))
        .text("x-mine", "kept");
    let headers = crate::amqp::Table::parse(&headers[4..]).unwrap();
    let properties = Properties {
        headers: Some(headers),
        content_type: Some("image/png"),
        priority: Some(3),
        ..Properties::default()
    };
    let event = amqp::parse(&properties, b"").unwrap().unwrap();
    assert_eq!(event.time.as_deref(), Some("1970-01-01T00:00:00Z"));
    assert_eq!(event.extension("n"), Some(&Attribute::Integer(7)));
    assert_eq!(event.data.as_deref(), Some(&b""[..]));
    let mut raw = Vec::new();
    amqp::write(&event, &properties, &mut raw);
    let again = Properties::parse(&raw).unwrap();
    assert_eq!(again.priority, Some(3));
    assert_eq!(again.headers.unwrap().get("x-mine"), Some(Value::Long(b"kept")));
    assert_eq!(again.headers.unwrap().iter().count(), headers.iter().count());
    assert_eq!(amqp::parse(&again, b""), Some(Ok(event)));

    assert_eq!(amqp::parse(&Properties::default(), b"x"), None);
    let structured =
        Properties { content_type: Some("application/cloudevents+json"), ..Properties::default() };
    let body = br#"{"specversion":"1.0","id":"1","source":"/s","type":"t"}"#;
    assert_eq!(amqp::parse(&structured, body), Some(Ok(plain())));
    assert!(amqp::parse(&structured, b"{").unwrap().is_err());
}

fn any_text() -> impl Strategy<Value = Cow<'static, str>> {
    "\\PC{1,12}"
        .prop_map(Cow::Owned)
        .prop_filter("noncharacters", |text| super::text("", text).is_ok())
}

fn any_event() -> impl Strategy<Value = Event<'static>> {
    let names = proptest::collection::btree_map(
        "x[a-z0-9]{0,10}",
        prop_oneof![
            any_text().prop_map(Attribute::Text),
            any::<bool>().prop_map(Attribute::Bool),
            any::<i32>().prop_map(Attribute::Integer),
        ],
        0..4,
    );
    let data = prop_oneof![
        Just((None, None)),
        proptest::collection::vec(any::<u8>(), 1..40).prop_map(|bytes| (None, Some(bytes))),
        proptest::collection::vec(any::<u8>(), 0..40)
            .prop_map(|bytes| (Some("application/x"), Some(bytes))),
        ".{0,20}".prop_map(|text| (Some("text/plain"), Some(text.into_bytes()))),
        ".{0,20}".prop_map(|text| {
            (Some("application/json"), Some(serde_json::to_vec(&text).unwrap()))
        }),
    ];
    let optional = || proptest::option::of(any_text());
    (any_text(), any_text(), any_text(), optional(), names, data).prop_map(
        |(id, _source, kind, subject, names, (content_type, data))| Event {
            id,
            source: "/source".into(),
            kind,
            subject,
            time: Some("2026-01-02T15:04:05.5Z".into()),
            data_content_type: content_type.map(Cow::Borrowed),
            data_schema: None,
            extensions: names.into_iter().map(|(name, value)| (name.into(), value)).collect(),
            data: data.map(Cow::Owned),
        },
    )
}

proptest! {
    #[test]
    fn every_binding_gives_back_what_it_was_given(event in any_event()) {
        prop_assert_eq!(event.check(), Ok(()));
        let body = event.data.as_deref().unwrap_or_default();

        let mut out = Vec::new();
        json::write(&event, &mut out);
        prop_assert_eq!(&json::parse(&out).unwrap(), &event);

        let mut raw = Vec::new();
        amqp::write(&event, &Properties::default(), &mut raw);
        let properties = Properties::parse(&raw).unwrap();
        prop_assert_eq!(&amqp::parse(&properties, body).unwrap().unwrap(), &event);

        let mut fields = Vec::new();
        http::write(&event, |name, value| fields.push((name.to_owned(), value.to_owned())));
        for (_, value) in &fields {
            prop_assert!(value.bytes().all(|b| (0x20..0x7f).contains(&b)), "{}", value);
        }
        let pairs = fields.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        let read = http::parse(pairs, body).unwrap();
        let texts = |event: &Event<'_>| {
            let text = |(name, value): &(Cow<'_, str>, Attribute<'_>)| {
                (name.to_string(), value.canonical().into_owned())
            };
            event.extensions.iter().map(text).collect::<Vec<_>>()
        };
        prop_assert_eq!(texts(&read), texts(&event));
        let bare = |event: &Event<'_>| Event { extensions: vec![], ..event.clone().into_owned() };
        prop_assert_eq!(bare(&read), bare(&event));
    }

    #[test]
    fn any_text_is_read_without_a_panic(text in ".{0,60}", bytes in any::<Vec<u8>>()) {
        let _ = json::parse(text.as_bytes());
        let _ = json::parse_batch(&bytes, 4);
        let _ = http::decode(&bytes);
        let _ = is_rfc3339(&text);
        let encoded = http::encode(&text);
        prop_assert_eq!(http::decode(encoded.as_bytes()).unwrap(), text.as_str());
    }
}
