//! What topics, queues, subscriptions and schedules can be told is the same wherever it is said: in the
//! configuration, over the API, by command, and in what is shown.

use std::{
    process::{Command, Output},
    time::Duration,
};

use serde_json::{Map, Value, json};
use weft::{
    components::{catalogue, messages::plan::Messages},
    config::report,
};
use weft_api::{
    Settings,
    schema::{self, Absent, Fault, Section, Shape, published},
};
use weft_broker_http::settings::{
    queue::QueueSettings, schedule::ScheduleSettings, subscription::SubscriptionSettings,
    topic::TopicSettings,
};
use weft_testkit::{HttpMessage, Upstream, Weft, until};

use crate::config::{good, load, refused, variables};

const BIN: &str = env!("CARGO_BIN_EXE_weft");

/// What a shape takes and what it does not, as texts that are YAML and JSON.
fn samples(shape: &'static Shape) -> (Vec<Value>, Vec<Value>) {
    let wrong = |more: &[Value]| [more, &[json!("30 parrots"), json!([[]])]].concat();
    match shape {
        Shape::Bool => (vec![json!(true), json!(false)], wrong(&[json!(3)])),
        Shape::Int(min, max) => {
            let above = max.checked_add(1).map(Value::from);
            let few = vec![json!(min), json!(min + 1), json!(max)];
            (few, wrong(&[json!(-1), json!(1.5), above.unwrap_or(json!(-2))]))
        }
        Shape::Number(min, max) => {
            (vec![json!(min), json!(1.5), json!(max)], wrong(&[json!(max + 1.0), json!(-1)]))
        }
        Shape::Share => {
            let few = vec![json!(0), json!(0.25), json!("20%"), json!("12.5%"), json!("100%")];
            (few, wrong(&[json!(1.5), json!("101%"), json!("05%")]))
        }
        Shape::Span(..) => {
            let few = [
                "0", "1ms", "10ms", "250ms", "1.5s", "30s", "90s", "1m30s", "2h", "12h30m", "7d",
                "366d", "36500d", "1ms500us",
            ];
            let few = few.iter().map(|text| json!(text)).collect();
            let bad = ["30s1m", "1m90s", "5", "-1s", "s", "1e3s", "36501d", "5 s", "007s"];
            (few, wrong(&bad.map(|text| json!(text))))
        }
        Shape::Size(_) | Shape::SizeTo(_) => {
            let few = [json!(0), json!(1), json!(65_536), json!("64KiB"), json!("1.5 MiB")];
            let more = [json!("16MiB"), json!("17MiB"), json!("1GiB")];
            ([&few[..], &more].concat(), wrong(&[json!(-1), json!("64kib"), json!("1.5")]))
        }
        Shape::Off(inner) => {
            let (few, bad) = samples(inner);
            ([&[json!("off"), json!(false)], &few[..]].concat(), bad)
        }
        Shape::Choice(words) => {
            let few =
                words.iter().flat_map(|(word, _)| [json!(word), json!(word.replace('-', "_"))]);
            (few.collect(), wrong(&[json!("sideways"), json!(3)]))
        }
        Shape::Many(item, _) => {
            let (few, bad) = samples(item);
            let lists = vec![json!(few), json!([])];
            ([few, lists].concat(), bad)
        }
        Shape::Map(_) => (
            vec![json!({}), json!({"source": "/eu/*", "subject": "a"})],
            vec![json!("x"), json!([])],
        ),
        Shape::Text(kind) => {
            let good: &[&str] = match kind.word {
                "name" => &["work"],
                "engine" => &["embedded"],
                "service" => &["hook"],
                "path" => &["/", "/events", "/a/b"],
                "name, or a pattern" => &["t", "t.*", "t.>", ">"],
                "CEL expression" => &["data.total > 100.0", "type == 'a'"],
                "cron expression" => &["0 3 * * *", "@daily", "@every 5m"],
                "time zone" => &["UTC", "Europe/Berlin"],
                "word, position or time" => &["first", "last", "next", "7", "2026-01-31T00:00:00Z"],
                "media type" => &["text/plain", "application/json"],
                _ => &["a", "order.placed"],
            };
            let bad: &[&str] = match kind.word {
                "path" => &["events", "/a//b", "/a/../b", "/a?b"],
                "CEL expression" => &["data.total >", "1 +"],
                "cron expression" => &["soon", "99 * * * *", "@every 1ms"],
                "time zone" => &["Mars/Olympus"],
                "word, position or time" => &["yesterday", "-1", "2026-13-01T00:00:00Z"],
                "media type" => &["text"],
                _ => &[],
            };
            let texts = |texts: &[&str]| texts.iter().map(|text| json!(text)).collect::<Vec<_>>();
            (texts(good), [texts(bad), vec![json!([[]]), json!({"a": 1})]].concat())
        }
        Shape::Any => {
            let deep =
                json!({"n": 5, "f": -1.5, "ok": true, "s": "5", "no": "false", "none": null});
            let alone = [json!("text"), json!(""), json!("5"), json!(5), json!(-1.5), json!(true)];
            let nested = [json!({"a": 1}), json!([1, 2]), json!([deep, ["1", {}]]), deep];
            ([&alone[..], &nested].concat(), vec![])
        }
        Shape::Section(section) => {
            let short = section.short_setting().map(|short| samples(&short.shape));
            let (mut few, mut bad) = short.unwrap_or_default();
            few.push(json!({}));
            for setting in section.settings {
                let (good, wrong) = samples(&setting.shape);
                let around = |value: Value| {
                    let mut whole = Map::new();
                    if section.name == "push" {
                        whole.insert("service".into(), json!("hook"));
                    }
                    whole.insert(setting.name.into(), value);
                    Value::Object(whole)
                };
                few.extend(good.into_iter().map(around));
                bad.extend(wrong.into_iter().map(around));
            }
            bad.push(json!({"surprise": 1}));
            (few, bad)
        }
        other => panic!("{other:?} is not for settings"),
    }
}

/// A configuration with a thing in it, and with all that it may refer to.
fn yaml(noun: &str, options: &Value) -> String {
    let mut whole = json!({
        "ledger": "data",
        "listeners": {"web": {"address": "127.0.0.1:8080"}},
        "services": {"hook": {"endpoints": "127.0.0.1:9"}},
        "topics": {"t": {}, "work": {}},
        "queues": {"work": {}},
        "subscriptions": {},
        "schedules": {},
    });
    whole[noun]["x"] = options.clone();
    // JSON is YAML.
    whole.to_string()
}

/// Holds every setting of a noun, in every form, to mean the same in a file and over the API.
fn agree<T: Settings>(
    noun: &str,
    base: &Value,
    api: fn(&T) -> String,
    file: fn(&Messages) -> String,
) {
    let mut counts = [0, 0];
    let mut check = |place: &str, options: &Value| {
        let said = T::read(options.clone());
        let written = load(&yaml(noun, options));
        match (said, written) {
            (Ok(settings), Ok(loaded)) => {
                let messages = loaded.plan.part::<Messages>().unwrap();
                assert_eq!(api(&settings), file(messages), "{noun} {place}: {options}");
                counts[0] += 1;
            }
            (Err(faults), Err(refused)) => {
                let told: Vec<_> = refused
                    .problems
                    .iter()
                    .map(|one| (&*one.message, one.help.as_deref()))
                    .collect();
                assert_eq!(faults.len(), told.len(), "{noun} {options}: {faults:?} {told:?}");
                // A file's are told in the order of their places.
                for fault in &faults {
                    let found = told.iter().any(|(message, help)| same(fault, message, *help));
                    assert!(found, "{noun} {options}: {fault:?} is not among {told:?}");
                }
                counts[1] += 1;
            }
            (Ok(_), Err(refused)) => {
                panic!("{noun} {options}: the file alone refuses: {:?}", refused.problems)
            }
            (Err(faults), Ok(_)) => panic!("{noun} {options}: the API alone refuses: {faults:?}"),
        }
    };
    check("nothing", base);
    for setting in T::SECTION.settings.iter().filter(|setting| !setting.moment) {
        let (good, bad) = samples(&setting.shape);
        for value in [good, bad, vec![Value::Null]].concat() {
            // What must be there is missing in both.
            let mut options = base.clone();
            if noun == "schedules" && setting.name == "every" {
                options.as_object_mut().unwrap().remove("cron");
            }
            options[setting.name] = value;
            check(setting.name, &options);
        }
    }
    let mut options = base.clone();
    options["surprise"] = json!(1);
    check("surprise", &options);
    assert!(counts[0] > 20 && counts[1] > 20, "{noun} {counts:?}");
}

/// Whether these are the same cause and the same remedy, each in the words of its view.
fn same(fault: &Fault, message: &str, help: Option<&str>) -> bool {
    match &fault.cause {
        schema::Cause::Expected(what) => message.starts_with(&format!("expected {what}, found")),
        schema::Cause::Said(cause, remedy) => (message, help) == (&**cause, remedy.as_deref()),
        schema::Cause::Rule(rule) => message == *rule,
        schema::Cause::Unknown(_) => message.contains("has no key"),
        schema::Cause::Missing(_) => message.contains("is missing"),
    }
}

#[test]
fn the_same_text_means_the_same_in_a_file_and_over_the_api() {
    agree::<TopicSettings>(
        "topics",
        &json!({}),
        |settings| format!("{:?}", settings.options()),
        |plan| format!("{:?}", plan.topics.last().unwrap().1),
    );
    agree::<QueueSettings>(
        "queues",
        &json!({}),
        |settings| format!("{:?}", settings.options()),
        |plan| format!("{:?}", plan.queues.last().unwrap().1),
    );
    agree::<SubscriptionSettings>(
        "subscriptions",
        &json!({"topic": "t"}),
        |settings| format!("{:?}", settings.options().unwrap()),
        // That a file has declared it is noted, and nothing else differs.
        |plan| {
            format!("{:?}", plan.subscriptions.last().unwrap().options)
                .replace("configured: true", "configured: false")
        },
    );
    agree::<ScheduleSettings>(
        "schedules",
        &json!({"cron": "@daily", "to": "t"}),
        |settings| {
            let body = settings.body().unwrap().unwrap_or_default();
            format!("{:?}", (settings.when().unwrap(), settings.key(), body))
        },
        |plan| {
            let schedule = &plan.schedules.last().unwrap().1;
            let key = String::from_utf8(schedule.publish.key.to_vec()).unwrap();
            format!("{:?}", (&schedule.when, key, schedule.publish.message.body().to_vec()))
        },
    );
}

/// The body of the one message that a configuration schedules.
fn scheduled(text: &str) -> String {
    let loaded = good(text);
    let messages = loaded.plan.part::<Messages>().unwrap();
    let body = messages.schedules[0].1.publish.message.body();
    String::from_utf8(body.to_vec()).unwrap()
}

#[test]
fn values_in_a_message_of_a_file_are_those_that_yaml_has() {
    for (data, body) in [
        ("{n: 5, ok: true, s: \"5\"}", r#"{"n":5,"ok":true,"s":"5"}"#),
        ("{a: [-1, 1.5, 1e3, 'true', False, ~]}", r#"{"a":[-1,1.5,1e3,"true",false,null]}"#),
        // What the core schema of YAML calls a number is that number, and nothing else is one.
        (
            "{a: yes, b: 0x1F, c: 007, d: 1_000, e: 0o17, f: .5, g: -0, h: '0x1F', i: 2026-01-01}",
            r#"{"a":"yes","b":31,"c":7,"d":"1_000","e":15,"f":0.5,"g":-0,"h":"0x1F","i":"2026-01-01"}"#,
        ),
        // Digits are never lost.
        (
            "[12345678901234567890123, 18446744073709551615, 0.12345678901234567890]",
            "[12345678901234567890123,18446744073709551615,0.12345678901234567890]",
        ),
        (
            "\n      a: ${PORT}\n      b: '${PORT}'\n      c: \"${EMPTY}\"",
            r#"{"a":8080,"b":"8080","c":""}"#,
        ),
        ("\n      a: !!str 5\n      b: |-\n        5", r#"{"a":"5","b":"5"}"#),
        // So is a scalar alone: the body is JSON.
        ("5", "5"),
        ("'5'", r#""5""#),
        ("0x1F", "31"),
        ("hello", r#""hello""#),
        ("''", r#""""#),
        ("'{bad json'", r#""{bad json""#),
        ("~", ""),
        // Where the media type is not JSON, it is the very text.
        ("0x1F\n    content_type: text/plain", "0x1F"),
        ("hello\n    content_type: text/plain", "hello"),
    ] {
        let text = format!(
            "admin: off\nlisteners: {{ web: {{ address: '127.0.0.1:80' }} }}\ntopics: {{ t: {{}} }}\n\
             routes: [{{ name: r, publish: t }}]\n\
             schedules:\n  s:\n    every: 1m\n    to: t\n    data: {data}\n"
        );
        assert_eq!(scheduled(&text), body, "{data}");
        // What is shown means the same.
        let shown = weft::config::print::yaml(&good(&text), &variables);
        assert_eq!(scheduled(&shown), body, "{shown}");
    }
}

#[test]
fn what_no_node_could_schedule_is_refused_where_it_stands() {
    let schedule = |rest: &str| {
        let max = if rest.len() > 1 << 20 { "off" } else { "1KiB" };
        let text = format!(
            "admin: off\nqueues: {{ q: {{ message_max: {max} }} }}\nschedules:\n  s:\n    every: 1h\n    to: {{ queue: q }}\n    {rest}\n"
        );
        refused(&text)
    };
    let large = format!("data: {}", "x".repeat(1 << 20));
    let above = format!("data: {}", "x".repeat(2 << 10));
    for (rest, told) in [
        (large.as_str(), "at most 1 MiB together"),
        (above.as_str(), "at most 1024 are taken"),
        ("data: .nan", "`.nan`: JSON has no number"),
        ("data: { a: [1, -.inf] }", "`-.inf`: JSON has no infinite"),
        ("data: [1e999]", "`1e999`: a number beyond"),
    ] {
        let refused = schedule(rest);
        let [problem] = &*refused.problems else { panic!("{:?}", refused.problems) };
        assert!(problem.message.contains(told), "{problem:?}");
        assert!(problem.help.is_some());
        let places = report::json(&refused.problems, &refused.sources);
        assert_eq!(places[0]["line"], 7, "{places:?}");
    }
}

#[test]
fn a_default_is_the_same_in_the_table_the_schemas_and_the_page() {
    fn check<T: Settings>(required: Value) {
        let whole = serde_json::to_value(T::read(required).unwrap()).unwrap();
        walk(T::SECTION, &whole);
    }
    fn walk(section: &'static Section, whole: &Value) {
        let editors = weft::config::schema::schema(catalogue());
        let page = weft::config::reference::page(catalogue());
        let name = section.name.replace(' ', "-");
        let shape: &'static Shape = Box::leak(Box::new(Shape::Section(section)));
        let api = published(shape);
        let object = |schema: &Value| {
            schema["anyOf"].as_array().and_then(|forms| forms.last()).unwrap_or(schema).clone()
        };
        for setting in section.settings.iter().filter(|setting| !setting.moment) {
            let place = format!("{} {}", section.name, setting.name);
            match (setting.absent, &setting.shape) {
                (Absent::Default(text), shape) => {
                    let value = schema::complete(shape, schema::typed(shape, text));
                    let shown = &whole[setting.name];
                    let same =
                        *shown == value || shown.as_f64() == value.as_f64() && shown.is_number();
                    // A duration or a size may be shown in other units than it is written in.
                    let same = same || value.is_string() && schema::check(shape, shown).is_ok();
                    assert!(same, "{place}: {shown} {value}");
                    let row = format!("| `{}` |", setting.name);
                    let cell = format!("| `{text}` |");
                    let found =
                        page.lines().any(|line| line.starts_with(&row) && line.contains(&cell));
                    assert!(found, "{place}: {cell}");
                    let editor = &editors["$defs"][&name]["properties"][setting.name]["default"];
                    assert!(!editor.is_null(), "{place}");
                    if !api["oneOf"].is_array() {
                        let said = &object(&api)["properties"][setting.name]["default"];
                        assert_eq!(*said, schema::typed(shape, text), "{place}");
                    }
                }
                (Absent::Empty, Shape::Section(inner)) => walk(inner, &whole[setting.name]),
                _ => {}
            }
        }
    }
    check::<TopicSettings>(json!({}));
    check::<QueueSettings>(json!({}));
    check::<SubscriptionSettings>(json!({"topic": "t"}));
    check::<ScheduleSettings>(json!({"cron": "@daily", "to": "t"}));
}

#[test]
fn a_fault_stands_where_the_option_does() {
    let text = "ledger: data
listeners: { web: { address: 127.0.0.1:8080 } }
topics: { t: {} }
queues:
  q:
    retry: { first: 2m, max: 1m }
    order: keys
subscriptions:
  s:
    topic: t
    filter: data.total >
    retry: { jitter: 200% }
schedules:
  daily: { at: '2026-01-31T00:00:00Z', to: t }
";
    let refused = load(text).expect_err("it should have been refused");
    let told = weft::config::report::text(&refused.problems, &refused.sources, false);
    for said in [
        "expected none, key, key-park or key_park, found `keys`",
        "did you mean `key`?",
        "7 |",
        "11 |",
        "expected a number from 0 to 1; or a share such as 20%, found `200%`",
        "12 |",
        "`at` counts from when it is said",
    ] {
        assert!(told.contains(said), "{said}:\n{told}");
    }
    let refused =
        load(&text.replace("order: keys", "order: key")).expect_err("it should be refused");
    let told = weft::config::report::text(&refused.problems, &refused.sources, false);
    assert!(
        told.contains("the first wait is longer than the longest") && told.contains("6 |"),
        "{told}"
    );
}

fn node(service: &Upstream, more: &str) -> Weft {
    Weft::start(
        BIN,
        &format!(
            "admin: {{ listen: '@admin' }}
ledger: {{ path: '@@/data', wal_file: 4MiB }}
listeners: {{ web: {{ address: '@web' }} }}
services: {{ hook: {{ endpoints: '{}' }} }}
routes:
  - {{ name: messages, match: /v1/*, messages: / }}
{more}",
            service.address()
        ),
    )
}

fn ask(weft: &Weft, method: &str, path: &str, body: &str) -> HttpMessage {
    weft.ask(format!(
        "{method} {path} HTTP/1.1\r\nhost: t\r\ncontent-type: application/json\r\ncontent-length: \
         {}\r\n\r\n{body}",
        body.len()
    ))
}

#[track_caller]
fn expect(weft: &Weft, method: &str, path: &str, body: &str, status: u16) -> Value {
    let answer = ask(weft, method, path, body);
    assert_eq!(answer.status(), status, "{method} {path} {body}: {}", answer.text());
    serde_json::from_str(&answer.text()).unwrap_or_default()
}

fn service() -> Upstream {
    Upstream::answering(|_| "HTTP/1.1 204 No Content\r\n\r\n".to_owned())
}

/// Things with nothing but what they must have, and with everything that can be said of them.
const THINGS: [(&str, &str); 9] = [
    ("topics/plain", "{}"),
    (
        "topics/whole",
        r#"{"retention": {"age": "1d", "size": "1GiB", "keep_unread": false, "size_max": "2GiB"},
            "durability": "os", "dedupe": "off", "message_max": "4MiB", "compact": true}"#,
    ),
    ("queues/plain", "{}"),
    (
        "queues/whole",
        r#"{"durability": "memory", "lease": "90s",
            "retry": {"failures_max": "off", "first": "1.5ms", "factor": 1.5, "max": "1m", "jitter": "20%"},
            "order": "key-park", "priorities": false, "ttl": "1h", "expires": "1d",
            "limit": {"messages": 1000, "size": "1MiB", "overflow": "drop-oldest"},
            "single_active": true, "dead_letter": "plain", "dedupe": "5s", "message_max": 65536}"#,
    ),
    ("subscriptions/plain", r#"{"topic": "plain"}"#),
    (
        "subscriptions/whole",
        r#"{"topic": "plain", "start": "2026-01-31T00:00:00Z",
            "filter": {"type": "a", "attributes": {"source": "/eu/*"}, "expression": "data.total > 1.0"},
            "lease": "1m", "retry": 3, "order": "key", "single_active": true, "dead_letter": "off",
            "expires": "1d",
            "push": {"service": "hook", "path": "/in", "concurrency": 7, "timeout": "3s"}}"#,
    ),
    (
        "subscriptions/queued",
        r#"{"topic": "whole", "queue": "plain", "filter": "data.total > 1.0"}"#,
    ),
    ("schedules/plain", r#"{"every": "5m", "to": {"queue": "plain"}}"#),
    (
        "schedules/whole",
        r#"{"cron": "0 3 * * *", "time_zone": "Europe/Berlin", "to": "plain", "type": "nightly",
            "key": "k", "data": {"b": 1, "a": [2.5]}, "content_type": "application/json",
            "missed": "skip", "jitter": "1m"}"#,
    ),
];

/// What is shown, put back: alone its options, and then the whole of it.
fn put_back(weft: &Weft, path: &str) {
    let stays = |shown: &Value| {
        let mut shown = shown.clone();
        for moving in ["lag_seconds", "consumers", "event"] {
            shown.as_object_mut().unwrap().remove(moving);
        }
        shown
    };
    let shown = expect(weft, "GET", path, "", 200);
    for body in [&shown["options"], &shown] {
        let answer = expect(weft, "PUT", path, &body.to_string(), 200);
        assert_eq!(stays(&answer), stays(&shown), "{path}");
        assert_eq!(stays(&expect(weft, "GET", path, "", 200)), stays(&shown), "{path}");
    }
}

#[test]
fn what_is_shown_can_be_put_back_and_changed() {
    let service = service();
    let weft = node(&service, "");
    for (path, options) in THINGS {
        expect(&weft, "PUT", &format!("/v1/{path}"), options, 201);
    }
    for (path, _) in THINGS {
        put_back(&weft, &format!("/v1/{path}"));
    }
    // One edit: refused with both values, and done where it is asked for.
    for (path, name, value) in [
        ("topics/plain", "message_max", json!("2MiB")),
        ("queues/whole", "lease", json!("45s")),
        ("subscriptions/plain", "retry", json!(4)),
        ("subscriptions/whole", "push", json!({"service": "hook", "path": "/other"})),
    ] {
        let path = format!("/v1/{path}");
        let mut shown = expect(&weft, "GET", &path, "", 200);
        shown["options"][name] = value.clone();
        let refused = expect(&weft, "PUT", &path, &shown.to_string(), 409);
        let detail = refused["detail"].as_str().unwrap();
        assert!(
            detail.contains(&format!("`{name}")) && detail.contains("?change=true"),
            "{detail}"
        );
        let asked = format!("{path}?change=true");
        let changed = expect(&weft, "PUT", &asked, &shown.to_string(), 200);
        let again = expect(&weft, "GET", &path, "", 200);
        assert_eq!(changed["options"], again["options"], "{path}");
        assert_ne!(changed["options"], Value::Null);
        put_back(&weft, &path);
    }
    let mut shown = expect(&weft, "GET", "/v1/schedules/whole", "", 200);
    shown["options"]["missed"] = json!("once");
    let changed = expect(&weft, "PUT", "/v1/schedules/whole", &shown.to_string(), 200);
    assert_eq!(changed["options"]["missed"], "once");
    // Neither an option nor what is shown is passed over when it is not known.
    shown["surprise"] = json!(1);
    let refused = expect(&weft, "PUT", "/v1/schedules/whole", &shown.to_string(), 400);
    assert!(
        refused["detail"].as_str().unwrap().contains("`surprise` is not known here"),
        "{refused}"
    );
}

#[test]
fn what_a_file_declares_is_shown_and_taken_as_what_the_api_does() {
    let service = service();
    let mut more = String::new();
    for noun in ["topics", "queues", "subscriptions", "schedules"] {
        more += &format!("{noun}:\n");
        for (path, options) in THINGS.iter().filter(|(path, _)| path.starts_with(noun)) {
            let name = path.rsplit('/').next().unwrap();
            more += &format!("  {name}: {}\n", options.replace('\n', " "));
        }
    }
    let weft = node(&service, &more);
    for (path, _) in THINGS {
        let path = format!("/v1/{path}");
        put_back(&weft, &path);
        let mut shown = expect(&weft, "GET", &path, "", 200);
        let (name, value) = match path.split('/').nth(2).unwrap() {
            "schedules" => ("jitter", json!("2m")),
            "topics" => ("message_max", json!("3MiB")),
            _ => ("lease", json!("44s")),
        };
        shown["options"][name] = value;
        let change = if path.contains("schedules") { "" } else { "?change=true" };
        let refused = expect(&weft, "PUT", &format!("{path}{change}"), &shown.to_string(), 409);
        let detail = refused["detail"].as_str().unwrap();
        assert!(detail.contains("declared by the configuration"), "{path}: {detail}");
    }
}

fn weft(node: &Weft, arguments: &[&str]) -> Output {
    let url = format!("http://{}", node.address("admin"));
    let mut command = Command::new(BIN);
    command.args(arguments).env("WEFT_ADMIN", url).env_remove("WEFT_ADMIN_TOKEN");
    command.output().unwrap()
}

fn publish(weft: &Weft, text: &str) {
    expect(weft, "POST", "/v1/topics/t/messages", &json!(text).to_string(), 200);
}

/// Waits until so many messages were posted in all.
fn posted(service: &Upstream, count: usize) {
    until(&format!("{count} are posted"), || (service.seen().len() >= count).then_some(()));
}

#[test]
fn a_subscription_that_a_command_makes_is_pushed_also_after_a_restart() {
    let service = service();
    let mut node = node(&service, "topics: { t: {} }\n");
    let create = |node: &Weft, arguments: &[&str]| {
        let all = [&["subscription", "create", "s", "--topic", "t"], arguments].concat();
        let output = weft(node, &all);
        (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let (code, told) = create(&node, &["--push", "hok"]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("there is no service `hok`") && told.contains("hook"), "{told}");
    let (code, told) =
        create(&node, &["--push", "hook", "--push-path", "/in", "--push-timeout", "3s"]);
    assert_eq!(code, Some(0), "{told}");
    publish(&node, "one");
    posted(&service, 1);
    let seen = service.seen();
    assert_eq!((seen[0].target(), seen[0].get("weft-subscription")), ("/in", Some("s")));
    // It is kept with its push, whoever declared it.
    node.terminate();
    node.wait();
    let node = node.successor();
    publish(&node, "two");
    posted(&service, 2);
    let (code, told) = create(&node, &["--push", "hook", "--push-path", "/new", "--change"]);
    assert_eq!(code, Some(0), "{told}");
    publish(&node, "three");
    posted(&service, 3);
    assert_eq!(service.seen()[2].target(), "/new");
    // Once it is gone, so is its push; one of the same name that is pulled keeps its messages.
    expect(&node, "DELETE", "/v1/subscriptions/s", "", 204);
    expect(&node, "PUT", "/v1/subscriptions/s", r#"{"topic": "t"}"#, 201);
    publish(&node, "four");
    let answer = expect(&node, "POST", "/v1/subscriptions/s/receive", r#"{"wait": "5s"}"#, 200);
    assert_eq!(answer["deliveries"].as_array().unwrap().len(), 1);
    assert_eq!(service.seen().len(), 3);
}

#[test]
fn a_subscription_that_a_file_pushes_no_more_is_not_pushed() {
    let service = service();
    let with = "topics: { t: {} }\nsubscriptions: { s: { topic: t, push: hook } }\n";
    let weft = node(&service, with);
    publish(&weft, "one");
    posted(&service, 1);
    let text = std::fs::read_to_string(weft.folder().join("weft.yaml")).unwrap();
    weft.reload(&text.replace("subscriptions: { s: { topic: t, push: hook } }\n", "")).unwrap();
    // What is pushed no more ends softly, and then a client may take what is there.
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    until("nobody takes from it", || {
        assert!(std::time::Instant::now() < deadline);
        let shown = expect(&weft, "GET", "/v1/subscriptions/s", "", 200);
        (shown["consumers"] == 0).then_some(())
    });
    publish(&weft, "two");
    let answer = expect(&weft, "POST", "/v1/subscriptions/s/receive", r#"{"wait": "5s"}"#, 200);
    assert_eq!(answer["deliveries"].as_array().unwrap().len(), 1);
    assert_eq!(service.seen().len(), 1);
    // The API may take it over, as it is shown.
    let shown = expect(&weft, "GET", "/v1/subscriptions/s", "", 200);
    expect(&weft, "PUT", "/v1/subscriptions/s", &shown["options"].to_string(), 200);
    publish(&weft, "three");
    posted(&service, 2);
}
