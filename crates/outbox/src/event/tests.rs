//! Rows and messages of the log, and the events that come of them.

use weft_broker::message::Item;

use super::*;
use crate::{options::Columns, pgoutput::Column, template::Template};

fn table() -> Table {
    Table {
        schema: "public".into(),
        name: "outbox".into(),
        columns: Columns::default(),
        to: Template::parse("outbox.event.{aggregatetype}").unwrap(),
        content_type: None,
    }
}

fn layout(payload: u32, more: &[(&str, u32)]) -> Layout {
    let known = [("id", 2950), ("aggregatetype", 25), ("aggregateid", 25), ("type", 25)];
    let all = known.into_iter().chain([("payload", payload)]).chain(more.iter().copied());
    let columns = all.map(|(name, kind)| Column { name: name.into(), kind }).collect();
    let relation = Relation { id: 1, schema: "public".into(), name: "outbox".into(), columns };
    Layout::of(relation, &table()).unwrap()
}

fn values(texts: &[Option<&str>]) -> Vec<Value> {
    let value = |text: &Option<&str>| {
        text.map_or(Value::Null, |text| Value::Text(Bytes::copy_from_slice(text.as_bytes())))
    };
    texts.iter().map(value).collect()
}

fn shown(routed: &Routed) -> String {
    let items = routed.publish.message.event().unwrap().items();
    let said = items.map(|item| match item {
        Item::Attribute(name, Attribute::Text(text)) => format!("{name}={text}"),
        Item::Header(name, text) => format!("{name}: {text}"),
        other => format!("{other:?}"),
    });
    said.collect::<Vec<_>>().join("|")
}

#[test]
fn a_row_becomes_an_event() {
    let more = [("traceparent", 25), ("Tenant Id", 25), ("tags", 1009), ("empty", 25)];
    let layout = layout(kind::JSONB, &more);
    let row = values(&[
        Some("7f"),
        Some("order"),
        Some("ö-1"),
        Some("placed"),
        Some(r#"{"a": 1}"#),
        Some("00-ab-cd-01"),
        Some("north"),
        Some("{a,\"b,c\"}"),
        None,
    ]);
    let routed = layout.event(&row, &table(), "/shop", 1_000_000).unwrap();
    assert_eq!(routed.topic, "outbox.event.order");
    assert_eq!(routed.publish.key, "ö-1");
    assert_eq!(routed.publish.message.body(), r#"{"a": 1}"#);
    assert_eq!(
        shown(&routed),
        "id=7f|source=/shop|type=placed|subject=ö-1|partitionkey=ö-1|time=2000-01-01T00:00:01Z|\
         datacontenttype=application/json|traceparent=00-ab-cd-01|tenant-id: north|tags: [\"a\",\"b,c\"]"
    );
}

#[test]
fn payloads_are_what_their_column_is() {
    let body = |kind, text: Option<&str>| {
        let row = values(&[Some("1"), Some("order"), None, None, text]);
        let routed = layout(kind, &[]).event(&row, &table(), "/s", 0)?;
        let message = &routed.publish.message;
        let event = message.event().unwrap();
        let kind = event.get("datacontenttype").and_then(|it| it.as_text()).unwrap_or("none");
        let no_data = event.items().any(|item| item == Item::NoData);
        Ok::<_, Error>((kind.to_owned(), message.body().to_vec(), no_data))
    };
    let is = |kind: &str, bytes: &[u8], no_data| (kind.to_owned(), bytes.to_vec(), no_data);
    assert_eq!(
        body(kind::BYTEA, Some("\\x00ffAb")).unwrap(),
        is("application/octet-stream", &[0, 255, 0xab], false)
    );
    assert_eq!(body(kind::JSON, Some("1")).unwrap(), is("application/json", b"1", false));
    assert_eq!(
        body(25, Some("ä")).unwrap(),
        is("text/plain; charset=utf-8", "ä".as_bytes(), false)
    );
    assert_eq!(body(kind::JSONB, None).unwrap(), is("none", b"", true));
    for wrong in ["00", "\\x0", "\\xzz"] {
        assert!(body(kind::BYTEA, Some(wrong)).is_err(), "{wrong}");
    }
}

#[test]
fn what_is_no_event_is_told() {
    let layout = layout(kind::JSON, &[]);
    let said = |row: &[Value]| {
        let refused = layout.event(row, &table(), "/s", 0).map(|_| ());
        refused.unwrap_err().detail()
    };
    let row = values(&[None, Some("order"), None, None, None]);
    assert!(said(&row).contains("no id"), "{}", said(&row));
    let row = values(&[Some("1"), None, None, None, None]);
    assert!(said(&row).contains("aggregatetype"), "{}", said(&row));
    assert!(said(&row[..4]).contains("columns"));
    let mut row = values(&[Some("1"), Some("order"), None, None, None]);
    row[4] = Value::Unchanged;
    assert!(said(&row).contains("whole row"));
    row[4] = Value::Text(Bytes::from_static(b"\xff"));
    // A payload is bytes, and whatever is spoken of is text.
    assert!(layout.event(&row, &table(), "/s", 0).is_ok());
    row[2] = Value::Text(Bytes::from_static(b"\xff"));
    assert!(said(&row).contains("UTF-8"));
}

#[test]
fn a_table_that_lacks_a_column_is_none() {
    let columns = vec![Column { name: "id".into(), kind: 2950 }];
    let relation = Relation { id: 1, schema: "public".into(), name: "outbox".into(), columns };
    let wrong = Layout::of(relation, &table()).map(|_| ()).unwrap_err();
    assert_eq!(wrong, "table public.outbox has no column `payload`");
}

#[test]
fn a_message_of_the_log_becomes_an_event() {
    let messages = Messages { prefix: "weft".into(), to: Template::parse("shop.{type}").unwrap() };
    let content = br#"{"specversion":"1.0","id":"1","source":"/s","type":"placed","subject":"o-1","data":{"a":1}}"#;
    let routed = message(content, &messages, 0).unwrap();
    assert_eq!(routed.topic, "shop.placed");
    assert_eq!(routed.publish.key, "o-1");
    assert!(shown(&routed).contains("time=2000-01-01T00:00:00Z"), "{}", shown(&routed));
    assert_eq!(routed.publish.message.body(), r#"{"a":1}"#);
    assert!(message(b"{}", &messages, 0).is_err());
    assert!(message(b"\xff", &messages, 0).is_err());
    let keyed = br#"{"specversion":"1.0","id":"1","source":"/s","type":"placed","subject":"o-1","partitionkey":"k"}"#;
    assert_eq!(message(keyed, &messages, 0).unwrap().publish.key, "k");
}
