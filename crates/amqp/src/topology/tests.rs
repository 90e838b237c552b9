//! Each type of exchange by table, topics against matching by trial, and declarations against a model.

use proptest::prelude::*;
use weft_wire::amqp::TableWriter;

use super::*;

fn table(fill: impl FnOnce(&mut TableWriter<'_>)) -> Box<[u8]> {
    let mut out = Vec::new();
    fill(&mut TableWriter::new(&mut out));
    out[4..].into()
}

fn queue(name: &str, key: &str) -> Binding {
    Binding { to: Destination::Queue(name.into()), key: key.into(), arguments: Box::default() }
}

fn exchange(name: &str, key: &str) -> Binding {
    Binding { to: Destination::Exchange(name.into()), key: key.into(), arguments: Box::default() }
}

fn routed(topology: &Topology, exchange: &str, key: &str) -> Vec<String> {
    let mut out = Vec::new();
    assert!(topology.route(exchange, &[key], Table::EMPTY, &mut out));
    out.iter().map(ToString::to_string).collect()
}

#[test]
fn direct_and_fanout() {
    let mut topology = Topology::default();
    assert!(topology.bind("amq.direct", queue("a", "red"), None));
    assert!(topology.bind("amq.direct", queue("b", "red"), None));
    assert!(topology.bind("amq.direct", queue("a", ""), None));
    assert!(!topology.bind("amq.direct", queue("a", "red"), None), "twice is once");
    assert_eq!(routed(&topology, "amq.direct", "red"), ["a", "b"]);
    assert_eq!(routed(&topology, "amq.direct", ""), ["a"]);
    assert!(routed(&topology, "amq.direct", "Red").is_empty());
    topology.bind("amq.fanout", queue("a", "x"), None);
    topology.bind("amq.fanout", queue("a", "y"), None);
    assert_eq!(routed(&topology, "amq.fanout", "whatever"), ["a"]);
    topology.unbind("amq.fanout", &queue("a", "x"));
    assert_eq!(routed(&topology, "amq.fanout", "whatever"), ["a"]);
    topology.unbind("amq.fanout", &queue("a", "y"));
    assert!(routed(&topology, "amq.fanout", "whatever").is_empty());
    assert!(!topology.route("none", &[""], Table::EMPTY, &mut Vec::new()));
}

#[test]
fn topics() {
    let check = |pattern: &str, key: &str, expect: bool| {
        let mut topology = Topology::default();
        topology.bind("amq.topic", queue("q", pattern), None);
        let found = !routed(&topology, "amq.topic", key).is_empty();
        assert_eq!(found, expect, "{pattern:?} with {key:?}");
        topology.unbind("amq.topic", &queue("q", pattern));
        assert_eq!(topology.exchanges["amq.topic"].index.trie().unwrap().nodes(), 1);
    };
    for (pattern, key, expect) in [
        ("a.b", "a.b", true),
        ("a.b", "a.b.c", false),
        ("a.*", "a.", true),
        ("a.*.c", "a.b.c", true),
        ("a.#", "a", true),
        ("#", "", true),
        ("", "", true),
        ("", "a", false),
        ("*", "", false),
        ("#.c", "c", true),
        ("a.#.c", "a.b.b.c", true),
        ("a.#.c", "a.b.c.d", false),
        ("#.*", "", false),
        ("#.*", "a.b", true),
        ("#.#", "", true),
        ("#.b.#", "a.x.b.y.z", true),
        ("*.#.*", "a", false),
        ("*.#.*", "a.b", true),
    ] {
        check(pattern, key, expect);
    }
}

#[test]
fn a_pattern_of_many_wildcards_costs_no_more_than_words_times_places() {
    let mut topology = Topology::default();
    let pattern = ["#"; 120].join(".*.");
    topology.bind("amq.topic", queue("q", &pattern[..253]), None);
    let key = ["a"; 127].join(".");
    assert_eq!(routed(&topology, "amq.topic", &key), ["q"]);
}

#[test]
fn headers_match_by_value_and_type() {
    let matcher = |fill: &dyn Fn(&mut TableWriter<'_>)| {
        Matcher::new(Table::parse(&table(|writer| fill(writer))).unwrap())
    };
    let given = table(|table| {
        table.entry("a", Value::I64(1)).text("b", "x").entry("x-c", Value::Bool(true));
        table.entry("f", Value::F64(1.0));
    });
    let takes = |fill: &dyn Fn(&mut TableWriter<'_>)| {
        matcher(fill).unwrap().takes(Table::parse(&given).unwrap())
    };
    use weft_wire::amqp::Value;
    assert!(takes(&|_| ()), "all of nothing");
    assert!(!takes(&|table| {
        table.text("x-match", "any");
    }));
    assert!(takes(&|table| {
        table.entry("a", Value::I32(1)).text("b", "x");
    }));
    assert!(!takes(&|table| {
        table.text("a", "1");
    }));
    assert!(takes(&|table| {
        table.entry("f", Value::U8(1)).entry("b", Value::Void);
    }));
    assert!(!takes(&|table| {
        table.entry("a", Value::I32(1)).text("none", "x");
    }));
    assert!(takes(&|table| {
        table.text("x-match", "any").text("none", "x").text("b", "x");
    }));
    assert!(takes(&|table| {
        table.entry("x-c", Value::Bool(false));
    }));
    assert!(!takes(&|table| {
        table.text("x-match", "all-with-x").entry("x-c", Value::Bool(false));
    }));
    assert_eq!(
        matcher(&|table| {
            table.text("x-match", "some");
        })
        .unwrap_err(),
        WrongMatch::Value("some".into())
    );
    assert_eq!(
        matcher(&|table| {
            table.entry("x-match", Value::Void);
        })
        .unwrap_err(),
        WrongMatch::Type
    );
}

#[test]
fn exchanges_lead_to_exchanges_in_circles_and_to_alternates_in_a_row() {
    let mut topology = Topology::default();
    let alternate = |name: &str| {
        let arguments = table(|table| {
            table.text("alternate-exchange", name);
        });
        Definition { arguments, ..Definition::durable(Kind::Direct) }
    };
    topology.declare("first", alternate("second"));
    topology.declare("second", alternate("amq.fanout"));
    topology.bind("amq.fanout", queue("lost", ""), None);
    topology.bind("amq.fanout", exchange("first", ""), None);
    topology.bind("first", queue("found", "k"), None);
    assert_eq!(routed(&topology, "first", "k"), ["found"]);
    assert_eq!(routed(&topology, "first", "other"), ["lost"]);
    assert_eq!(routed(&topology, "amq.fanout", "k"), ["found", "lost"]);
    assert!(!topology.reads_headers("first"));
    topology.bind("second", exchange("amq.match", "h"), None);
    assert!(topology.reads_headers("first"));
}

#[test]
fn what_goes_takes_its_bindings_along() {
    let mut topology = Topology::default();
    let auto = Definition { auto_delete: true, ..Definition::durable(Kind::Fanout) };
    topology.declare("auto", auto.clone());
    topology.declare("chain", auto);
    topology.bind("chain", exchange("auto", ""), None);
    topology.bind("auto", queue("q", ""), None);
    topology.bind("amq.direct", queue("q", "k"), None);
    topology.bind("amq.direct", queue("p", "k"), None);
    assert!(topology.in_use("auto"));
    let removed = topology.forget_queue("q");
    // The queue's last binding takes `auto` along, whose last takes `chain` along.
    let mut gone: Vec<_> = removed.exchanges.iter().map(|name| &**name).collect();
    gone.sort_unstable();
    assert_eq!(gone, ["auto", "chain"]);
    assert_eq!(removed.bindings.len(), 3);
    assert_eq!(routed(&topology, "amq.direct", "k"), ["p"]);
    assert_eq!(topology.get("auto"), None);
    assert_eq!(topology.forget_queue("q"), Removed::default());
    let removed = topology.delete("amq.direct");
    assert_eq!((removed.exchanges.len(), removed.bindings.len()), (1, 1));
    assert!(topology.sources.is_empty());
}

/// Whether a pattern takes a key, by trying.
fn tried(pattern: &[&str], key: &[&str]) -> bool {
    match (pattern.split_first(), key.split_first()) {
        (None, None) => true,
        (Some((&"#", rest)), _) => {
            tried(rest, key) || key.split_first().is_some_and(|(_, key)| tried(pattern, key))
        }
        (Some((word, rest)), Some((first, key))) => {
            (*word == "*" || word == first) && tried(rest, key)
        }
        _ => false,
    }
}

proptest! {
    #[test]
    fn topics_match_as_trial_does(
        patterns in proptest::collection::vec("([ab*#]\\.){0,4}[ab*#]|", 1..6),
        keys in proptest::collection::vec("([abc]\\.){0,5}[abc]|", 1..6),
        gone in any::<proptest::sample::Index>(),
    ) {
        let mut topology = Topology::default();
        for (number, pattern) in patterns.iter().enumerate() {
            topology.bind("amq.topic", queue(&number.to_string(), pattern), None);
        }
        let gone = gone.index(patterns.len());
        topology.unbind("amq.topic", &queue(&gone.to_string(), &patterns[gone]));
        for key in &keys {
            let key_words: Vec<_> = words(key);
            let expect: Vec<_> = (0..patterns.len())
                .filter(|number| *number != gone && tried(&words(&patterns[*number]), &key_words))
                .map(|number| number.to_string())
                .collect();
            prop_assert_eq!(routed(&topology, "amq.topic", key), expect);
        }
    }
}

fn words(text: &str) -> Vec<&str> {
    if text.is_empty() { vec![] } else { text.split('.').collect() }
}
