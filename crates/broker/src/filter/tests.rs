//! What filters take, and what is refused as a filter.

use super::*;
use crate::message::{MessageBuilder, Value};

fn order(kind: &str, body: &str) -> Message {
    MessageBuilder::event(256)
        .attribute("id", Value::Text("1"))
        .attribute("source", Value::Text("/shop"))
        .attribute("type", Value::Text(kind))
        .attribute("subject", Value::Text("order/42"))
        .attribute("weight", Value::Integer(7))
        .header("X-Region", "eu-west")
        .body(body.as_bytes())
        .finish()
        .unwrap()
}

fn expression(text: &str) -> Result<Filter> {
    FilterOptions { expression: Some(text.into()), ..FilterOptions::default() }.compile()
}

#[test]
fn types_and_attributes_all_have_to_fit() {
    let message = order("order.created", "{}");
    let filter = |types: &[&str], attributes: Vec<(&str, Compare)>| FilterOptions {
        types: types.iter().map(|kind| (*kind).to_owned()).collect(),
        attributes: attributes.into_iter().map(|(name, how)| (name.to_owned(), how)).collect(),
        expression: None,
    };
    let equal = |text: &str| Compare::Equal(text.into());
    let prefix = |text: &str| Compare::Prefix(text.into());
    for (options, takes) in [
        (filter(&[], vec![]), true),
        (filter(&["order.created"], vec![]), true),
        (filter(&["order.deleted", "order.created"], vec![]), true),
        (filter(&["order.deleted"], vec![]), false),
        (filter(&["order.*"], vec![]), true),
        (filter(&["invoice.*", "order.d*"], vec![]), false),
        (filter(&[], vec![("subject", equal("order/42"))]), true),
        (filter(&[], vec![("subject", prefix("order/"))]), true),
        (filter(&[], vec![("subject", prefix("order/")), ("source", equal("/x"))]), false),
        (filter(&[], vec![("x-region", prefix("eu"))]), true),
        (filter(&[], vec![("absent", prefix(""))]), false),
    ] {
        assert_eq!(options.compile().unwrap().takes(&message), takes, "{options:?}");
    }
}

#[test]
fn expressions_see_attributes_headers_and_json() {
    let message =
        order("order.created", r#"{"total": 120, "lines": [{"n": 1}, {"n": 9}], "vip": true}"#);
    for (text, takes) in [
        ("event.type == 'order.created'", true),
        ("event.weight > 5 && event.subject.startsWith('order/')", true),
        ("headers['x-region'] == 'eu-west'", true),
        ("data.total > 100", true),
        ("data.total > 100.5", true),
        ("data.total > 100 && !data.vip", false),
        ("data.lines.exists(line, line.n > 5)", true),
        ("data.lines.all(line, line.n > 5)", false),
        ("size(data.lines) == 2", true),
        ("data.absent == 1", false),
        ("has(data.absent)", false),
        ("has(event.subject) && !has(event.dataschema)", true),
        ("event.specversion == '1.0'", true),
        ("data.total", false),
        ("event.type.matches('^order[.]')", true),
    ] {
        assert_eq!(expression(text).unwrap().takes(&message), takes, "{text}");
    }
    assert!(!expression("data.total > 100").unwrap().takes(&order("x", "not json")));
}

#[test]
fn what_cannot_be_bounded_is_refused() {
    let deep = format!("{}1{} == 1", "(".repeat(60), ")".repeat(60));
    let not = format!("{}true", "!".repeat(200));
    let long = format!("event.type == '{}'", "x".repeat(5000));
    for (text, why) in [
        ("", "not CEL"),
        ("event.type ==", "not CEL"),
        ("evnt.type == 'a'", "`evnt`"),
        ("data.a.exists(x, data.b.exists(y, x == y))", "within another"),
        ("data.a.map(x, data.b.filter(y, y == x)).size() > 0", "within another"),
        (deep.as_str(), "nested"),
        (not.as_str(), "nested"),
        (long.as_str(), "4 KiB"),
    ] {
        let error = expression(text).unwrap_err();
        assert!(error.said().contains(why), "{text}: {error}");
    }
}

proptest::proptest! {
    #[test]
    fn no_text_brings_the_compiler_down(text in "[a-z.()\\[\\]{}!\\-'\"&|?:<>=0-9 ,]{0,120}") {
        if let Ok(filter) = expression(&text) {
            filter.takes(&order("order.created", r#"{"a":[1,2,3]}"#));
        }
    }
}
