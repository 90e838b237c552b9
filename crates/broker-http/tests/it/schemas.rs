//! What the schema of an operation forbids is refused, what it allows is taken, and either is told in the
//! words of the API: bodies are drawn from the published shapes, and spoiled.

use proptest::{
    prelude::*,
    strategy::ValueTree,
    string::string_regex,
    test_runner::{Config, TestRunner},
};
use serde_json::{Map, Value, json};
use weft_api::{
    Operation,
    schema::{self, Absent, Form, Section, Setting, Shape},
};
use weft_broker_http::OPERATIONS;

use crate::node::Node;

const DRAWN: usize = 24;
/// Words of the language that this is written in.
const CODE: [&str; 16] = [
    "struct ",
    "enum ",
    "variant",
    "tuple",
    "u32",
    "u64",
    "i64",
    "f64",
    "usize",
    "Settings",
    "serde",
    "expected",
    "untagged",
    "RawValue",
    "Option",
    "invalid type",
];

/// Values of a shape, as its schema says.
fn of(shape: &'static Shape) -> BoxedStrategy<Value> {
    match shape {
        Shape::Any => prop_oneof![Just(json!({"a": [1, null]})), Just(json!("text"))].boxed(),
        Shape::Bool => any::<bool>().prop_map(Value::from).boxed(),
        Shape::Int(min, max) => (*min..=*max.min(&1_000)).prop_map(Value::from).boxed(),
        Shape::Number(min, max) => (*min..=*max).prop_map(Value::from).boxed(),
        Shape::Text(kind) => match kind.format {
            Some("cel") => Just(json!("data.total > 1.0")).boxed(),
            Some("cron") => Just(json!("0 3 * * *")).boxed(),
            Some("time-zone") => Just(json!("Europe/Berlin")).boxed(),
            _ if kind.pattern.is_empty() => "[a-z]{1,9}".prop_map(Value::from).boxed(),
            _ => string_regex(kind.pattern).unwrap().prop_map(Value::from).boxed(),
        },
        Shape::Words(words) => (0..words.len()).prop_map(|at| json!(words[at])).boxed(),
        Shape::Choice(words) => (0..words.len()).prop_map(|at| json!(words[at].0)).boxed(),
        Shape::Share => prop_oneof![Just(json!(0.5)), Just(json!("20%"))].boxed(),
        Shape::Span(..) | Shape::Size(_) | Shape::SizeTo(_) => texts(schema::published(shape)),
        Shape::Off(inner) => {
            prop_oneof![Just(json!("off")), Just(json!(false)), of(inner), of(inner)].boxed()
        }
        Shape::Either(forms) => (0..forms.len()).prop_flat_map(|at| of(&forms[at])).boxed(),
        Shape::List(item, min, _) => {
            prop::collection::vec(of(item), (*min).max(1)..*min + 3).prop_map(Value::from).boxed()
        }
        Shape::Map(item) => prop::collection::btree_map("[a-z]{1,5}", of(item), 0..3)
            .prop_map(|map| Value::Object(map.into_iter().collect()))
            .boxed(),
        Shape::Many(item, _) => {
            prop_oneof![of(item), prop::collection::vec(of(item), 0..3).prop_map(Value::from)]
                .boxed()
        }
        Shape::Object(object) => members(
            object.members.iter().map(|one| (one.name, &one.shape, one.required)).collect(),
            object.forms,
        ),
        Shape::Section(section) => match section.short_setting() {
            Some(short) => prop_oneof![of(&short.shape), settings(section)].boxed(),
            None => settings(section),
        },
        Shape::Declared(section, _) => prop_oneof![
            settings(section),
            settings(section).prop_map(|options| json!({ "options": options })),
        ]
        .boxed(),
    }
}

fn settings(section: &'static Section) -> BoxedStrategy<Value> {
    let required = |one: &Setting| one.absent == Absent::Required;
    members(
        section.settings.iter().map(|one| (one.name, &one.shape, required(one))).collect(),
        section.forms,
    )
}

/// Texts of the pattern in a schema.
fn texts(schema: Value) -> BoxedStrategy<Value> {
    let pattern = schema["pattern"].as_str().or(schema["anyOf"][0]["pattern"].as_str()).unwrap();
    let pattern = pattern.trim_start_matches('^').trim_end_matches('$');
    string_regex(pattern).unwrap().prop_map(Value::from).boxed()
}

fn members(
    all: Vec<(&'static str, &'static Shape, bool)>,
    forms: &'static [Form],
) -> BoxedStrategy<Value> {
    let all: Vec<_> = all
        .into_iter()
        .map(|(name, shape, required)| (Just((name, required)), any::<bool>(), of(shape)))
        .collect();
    (all, any::<prop::sample::Index>())
        .prop_map(move |(drawn, form)| {
            let form = (!forms.is_empty()).then(|| form.get(forms));
            let mut value = Map::new();
            for ((name, required), there, given) in drawn {
                let needed = required || form.is_some_and(|form| form.required.contains(&name));
                let without = form.is_some_and(|form| form.without.contains(&name));
                let given = match form.and_then(|form| form.only) {
                    Some((only, words)) if only == name => json!(words[0]),
                    _ => given,
                };
                match (needed, there && !without) {
                    (true, _) | (_, true) => value.insert(name.to_owned(), given),
                    (false, false) => value.insert(name.to_owned(), Value::Null),
                };
            }
            Value::Object(value)
        })
        .boxed()
}

/// A value with one thing in it changed to what is hardly ever right.
fn spoiled(value: &Value, at: usize) -> Value {
    let wrong = [
        json!({"surprise": 1}),
        json!([[]]),
        json!(-1),
        json!(1e300),
        json!("\u{1}"),
        json!(true),
        json!(""),
        json!("30 parrots"),
    ];
    let wrong = wrong[at % wrong.len()].clone();
    let mut value = value.clone();
    let Value::Object(members) = &mut value else { return wrong };
    let count = members.len().max(1);
    match members.iter_mut().nth(at / 8 % count) {
        Some((_, Value::Object(inner))) if at.is_multiple_of(3) && !inner.is_empty() => {
            let count = inner.len();
            if let Some((_, value)) = inner.iter_mut().nth(at % count) {
                *value = wrong;
            }
        }
        Some((_, value)) => *value = wrong,
        None => {
            members.insert("surprise".into(), wrong);
        }
    }
    value
}

fn shape_of(operation: &Operation) -> Option<&'static Shape> {
    operation.takes.iter().find(|(media, _)| *media == "application/json").map(|(_, shape)| *shape)
}

#[tokio::test]
async fn what_a_schema_forbids_is_refused_in_words_and_what_it_allows_is_not() {
    let node = Node::new().await;
    let mut runner = TestRunner::new_with_rng(
        Config::default(),
        prop::test_runner::TestRng::deterministic_rng(prop::test_runner::RngAlgorithm::ChaCha),
    );
    let (mut good, mut bad) = (0, 0);
    for operation in OPERATIONS.iter().map(|row| &row.operation) {
        let Some(shape) = shape_of(operation) else { continue };
        for drawn in 0..DRAWN {
            // Things of its own each time, so that nothing is refused for what was before.
            let name = format!("{}-{drawn}", operation.id);
            node.put("/v1/topics/t", "{}").await;
            node.put(
                &format!("/v1/queues/{name}"),
                if operation.id == "put_queue" { "[" } else { "{}" },
            )
            .await;
            if operation.id != "put_subscription" {
                node.put(&format!("/v1/subscriptions/{name}"), r#"{"topic": "t"}"#).await;
            }
            let path = ["{topic}", "{queue}", "{name}", "{id}"]
                .iter()
                .fold(operation.path.to_owned(), |path, part| path.replace(part, &name));
            let mut value = of(shape).new_tree(&mut runner).unwrap().current();
            if operation.id.starts_with("receive") {
                value["wait"] = json!("0");
            }
            schema::check(shape, &value)
                .unwrap_or_else(|say| panic!("{}: {value}: {say}", operation.id));
            let answer = node.ask(operation.method, &path, value.to_string()).await;
            // What a schema cannot say: members that contradict each other, and what is there or not.
            let detail = if answer.status >= 400 {
                answer.json()["detail"].to_string()
            } else {
                String::new()
            };
            let beyond = [
                "retry: the first wait",
                "start: a position is one of a single topic",
                "limit: overflow",
                "dead_letter: expired",
                "order: messages go by",
                "retention: bytes",
                "where `content_type` is not JSON",
                "filter",
            ];
            let excused = answer.status == 404
                || answer.status == 409
                || beyond.iter().any(|words| detail.contains(words));
            assert!(
                answer.status < 400 || excused,
                "{} {value}: {} {detail}",
                operation.id,
                answer.status
            );
            good += 1;
            for at in 0..8 {
                let value = spoiled(&value, drawn * 8 + at);
                if schema::check(shape, &value).is_ok() {
                    continue;
                }
                let answer = node.ask(operation.method, &path, value.to_string()).await;
                let said = answer.json()["detail"].as_str().unwrap_or_default().to_owned();
                assert_eq!(answer.status, 400, "{} {value}: {said}", operation.id);
                assert!(said.starts_with("the body"), "{} {value}: {said}", operation.id);
                for word in CODE {
                    assert!(!said.contains(word), "{} {value}: {said}", operation.id);
                }
                bad += 1;
            }
        }
    }
    assert!(good >= 13 * DRAWN && bad >= 40 * DRAWN, "{good} {bad}");
}

#[tokio::test]
async fn a_start_may_be_declared_again_however_its_time_is_written() {
    let node = Node::new().await;
    node.put("/v1/topics/a", "{}").await.expect(201);
    let put = |start: &'static str| {
        let body = format!(r#"{{"topic": "a", "start": "{start}"}}"#);
        let node = &node;
        async move { node.put("/v1/subscriptions/s", &body).await }
    };
    put("2020-01-01T01:00:00+01:00").await.expect(201);
    for same in ["2020-01-01T01:00:00+01:00", "2020-01-01T00:00:00Z", "2020-01-01T00:00:00.000Z"] {
        put(same).await.expect(200);
    }
    put("2020-01-01T00:00:01Z").await.refused(409, "definition_conflict");
}

#[tokio::test]
async fn a_filter_may_be_its_expression_alone() {
    let node = Node::new().await;
    node.put("/v1/topics/a", "{}").await.expect(201);
    let body = r#"{"topic": "a", "filter": "data.total > 1.0"}"#;
    node.put("/v1/subscriptions/s", body).await.expect(201);
    let shown = node.ask("GET", "/v1/subscriptions/s", "").await.json();
    assert_eq!(shown["options"]["filter"]["expression"], "data.total > 1.0");
    let answer = node.put("/v1/subscriptions/x", r#"{"topic": "a", "filter": 5}"#).await;
    assert_eq!(answer.status, 400);
    assert_eq!(
        answer.json()["detail"],
        "the body: `filter` is an expression of CEL, such as data.total > 100.0; or an object with type, \
         attributes, expression"
    );
}
