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

#[test]
fn what_can_only_fail_is_refused() {
    for (text, why) in [
        ("nosuch(event.id)", "no function `nosuch`"),
        ("event.id.nosuch()", "no function `nosuch`"),
        ("data.items.exists(x, nosuch(x))", "no function `nosuch`"),
        ("has(data.a) ? nosuch(data.a) : true", "no function `nosuch`"),
        ("data.a[nosuch(1)] == 1", "no function `nosuch`"),
        ("startsWith(event.id, 'a')", "no function `startsWith(string, string)`"),
        ("event.id.size(1) == 1", "no function `size(int)` of a string"),
        ("size() == 1", "no function `size()`"),
        ("event.type.startsWith(1)", "no function `startsWith(int)` of a string"),
        ("size(1) == 1", "no function `size(int)`"),
        ("int(true) == 1", "no function `int(bool)`"),
        ("event.type.matches('(')", "not a regular expression"),
        ("matches(event.type, '[a')", "not a regular expression"),
        ("data.name.matches('a' + '{2')", "not a regular expression"),
        ("data.list.all(x, x.matches('*'))", "not a regular expression"),
        ("event.type.matches(data.pattern)", "must be written out"),
        ("data.total.matches(event.id)", "must be written out"),
        ("event.type", "this one is a string"),
        ("1", "this one is a int"),
        ("'true'", "this one is a string"),
        ("null", "this one is a null"),
        ("[true]", "this one is a list"),
        ("data.a.map(x, x)", "this one is a list"),
        ("event", "this one is a map"),
        ("size(data.a)", "this one is a int"),
        ("event.type == 1", "`==` does not go with string and int"),
        ("event.type > 1", "`>` does not go with string and int"),
        ("event.type && true", "`&&` does not go with string and bool"),
        ("!event.type", "`!` does not go with string"),
        ("event.type + 1 == 'a'", "`+` does not go with string and int"),
        ("1 + 1.5 == 2.5", "`+` does not go with int and double"),
        ("event.type in 'abc'", "`in` does not go with string and string"),
        ("event.type ? true : false", "does not go with string"),
        ("data.a.all(x, 'yes')", "`&&` does not go with bool and string"),
        ("event.type.all(x, true)", "no elements"),
        ("event.type.name == 'a'", "no field `name`"),
        ("event.Type == 'a'", "no event has an attribute `Type`"),
        ("event['my-attr'] == 'a'", "no event has an attribute `my-attr`"),
        ("event.data.total == 1", "the body is `data`"),
        ("headers['X-Region'] == 'eu'", "lower case: `x-region`"),
        ("int('abc') == 1", "always fails"),
        ("1 / 0 == 1", "always fails"),
        ("data.total > 9223372036854775808", "not CEL"),
    ] {
        match expression(text) {
            Ok(_) => panic!("`{text}` is taken"),
            Err(error) => assert!(error.said().contains(why), "{text}: {}", error.said()),
        }
    }
    for text in [
        "true",
        "data",
        "data.vip",
        "!data.vip",
        "data.total / 2 > 1 && data.total % 2 == 0",
        "-data.total < 0",
        "event.weight > 5 || event.weight == '7'",
        "event.subject == null",
        "event['type'] in ['a', 'b'] || 'subject' in event",
        "data[0] == 1 && data['a'] == 2",
        "data.a.exists_one(x, x == 1)",
        "data.a.filter(x, x.n > 1).size() == 2",
        "size(data.a.map(x, x.n)) > 0 && {'a': 1}['a'] == 1",
        "string(data.total) + 'x' == '1x'",
        "double(data.total) > 1.5 && uint(data.total) > 1u",
        "type(data.total) == type(1)",
        "data.a.?b.orValue(false)",
        "(has(data.a) ? data.a : 1) == 1",
        "data.when > event.time",
        "bytes(event.id) == b'1' && bool('true') && dyn(1) == 1",
        "headers.region.contains('eu') && event.id.endsWith('1')",
    ] {
        if let Err(error) = expression(text) {
            panic!("`{text}`: {}", error.said());
        }
    }
}

#[test]
fn an_expression_that_fails_on_a_message_is_told_apart() {
    let message = order("order.created", r#"{"total": 120}"#);
    for (text, judged) in [
        ("data.total == 120", Judged::Takes),
        ("data.total == 121", Judged::Passes),
        ("data.absent == 120", Judged::Failed),
        ("data.total", Judged::Failed),
        ("data.total.matches('1')", Judged::Failed),
        ("event.nosuch.matches('1')", Judged::Failed),
    ] {
        assert_eq!(expression(text).unwrap().judge(&message), judged, "{text}");
    }
    // What was declared by an earlier version is found again, and fails on each message.
    let old = FilterOptions { expression: Some("nosuch(event.id)".into()), ..Default::default() };
    assert_eq!(old.compile_declared().unwrap().judge(&message), Judged::Failed);
}

proptest::proptest! {
    #[test]
    fn no_text_brings_the_compiler_down(text in "[a-z.()\\[\\]{}!\\-'\"&|?:<>=0-9 ,]{0,120}") {
        if let Ok(filter) = expression(&text) {
            filter.takes(&order("order.created", r#"{"a":[1,2,3]}"#));
        }
    }
}
