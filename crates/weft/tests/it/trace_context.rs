//! W3C Trace Context through the real binary: what the specification's own test suite asks of whoever
//! takes part in a trace, case by case, and the random flag of level 2.

use std::collections::HashSet;

use weft_testkit::{Upstream, Weft};

const BIN: &str = env!("CARGO_BIN_EXE_weft");
const TRACE: &str = "12345678901234567890123456789012";
const SPAN: &str = "1234567890123456";

struct Seen {
    traceparent: String,
    /// The members of all `tracestate` fields, in their order.
    states: Vec<String>,
}

impl Seen {
    fn trace(&self) -> &str {
        &self.traceparent[3..35]
    }

    fn span(&self) -> &str {
        &self.traceparent[36..52]
    }
}

struct Node {
    weft: Weft,
    service: Upstream,
}

impl Node {
    fn new() -> Self {
        let service = Upstream::saying("ok");
        let weft = Weft::start(
            BIN,
            &format!(
                "admin: off
listeners: {{ web: {{ address: '@web' }} }}
services: {{ it: {{ endpoints: '{}' }} }}
routes: [{{ name: all, to: it }}]
",
                service.address()
            ),
        );
        Self { weft, service }
    }

    /// What the service is told when a client sends these fields.
    fn tell(&self, fields: &[(&str, &str)]) -> Seen {
        let fields: String =
            fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let request = format!("GET / HTTP/1.1\r\nhost: t\r\nconnection: close\r\n{fields}\r\n");
        assert_eq!(self.weft.connect("web").ask(&request).status(), 200, "{fields}");
        let seen = self.service.seen().pop().unwrap();
        let parents = seen.all("traceparent");
        assert_eq!(parents.len(), 1, "{fields}");
        let traceparent = parents[0].to_owned();
        // It is one of version 00, whatever came.
        let parts: Vec<&str> = traceparent.split('-').collect();
        assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [2, 32, 16, 2]);
        assert_eq!(parts[0], "00");
        assert!(
            parts.iter().all(|part| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
        );
        assert_ne!(parts[1], "0".repeat(32));
        assert!(parts[2] != "0".repeat(16) && parts[2] != SPAN, "{fields}");
        let states = seen
            .all("tracestate")
            .iter()
            .flat_map(|field| field.split(','))
            .map(|member| member.trim_matches([' ', '\t']).to_owned())
            .filter(|member| !member.is_empty())
            .collect();
        Seen { traceparent, states }
    }
}

fn parent(version: &str, flags: &str) -> String {
    format!("{version}-{TRACE}-{SPAN}-{flags}")
}

#[test]
fn a_good_parent_is_joined_and_a_bad_one_is_not() {
    let node = Node::new();
    assert_ne!(node.tell(&[]).trace(), TRACE);
    let good = parent("00", "01");
    for name in ["traceparent", "TraceParent", "TrAcEpArEnT", "TRACEPARENT"] {
        assert_eq!(node.tell(&[(name, &good)]).trace(), TRACE, "{name}");
    }
    for value in [
        format!(" {good}"),
        format!("\t{good}"),
        format!("{good} "),
        format!("{good}\t"),
        format!("\t {good} \t"),
        parent("cc", "01"),
        parent("cc", "01-what-the-future-will-be-like"),
    ] {
        assert_eq!(node.tell(&[("traceparent", &value)]).trace(), TRACE, "{value:?}");
    }
    for name in ["trace-parent", "trace.parent"] {
        assert_ne!(node.tell(&[(name, &good)]).trace(), TRACE, "{name}");
    }
    for value in [
        parent("00", "01."),
        parent("00", "01-what-the-future-will-be-like"),
        parent("cc", "01.what-the-future-will-be-like"),
        parent("ff", "01"),
        parent(".0", "01"),
        parent("0.", "01"),
        parent("000", "01"),
        parent("0000", "01"),
        parent("0", "01"),
        format!("00-{}-{SPAN}-01", "0".repeat(32)),
        format!("00-.{}-{SPAN}-01", &TRACE[1..]),
        format!("00-{}.-{SPAN}-01", &TRACE[1..]),
        format!("00-{TRACE}3-{SPAN}-01"),
        format!("00-{}-{SPAN}-01", &TRACE[1..]),
        format!("00-{TRACE}-{}-01", "0".repeat(16)),
        format!("00-{TRACE}-.{}-01", &SPAN[1..]),
        format!("00-{TRACE}-{}.-01", &SPAN[1..]),
        format!("00-{TRACE}-{SPAN}7-01"),
        format!("00-{TRACE}-{}-01", &SPAN[1..]),
        parent("00", ".0"),
        parent("00", "0."),
        parent("00", "001"),
        parent("00", "1"),
        good.to_uppercase().replace('1', "A"),
        String::new(),
    ] {
        let seen = node.tell(&[("traceparent", &value), ("tracestate", "foo=1")]);
        assert_ne!(seen.trace(), TRACE, "{value:?}");
        assert!(seen.states.is_empty(), "{value:?}");
    }
    let other = good.replace("12-", "11-");
    let seen = node.tell(&[("traceparent", &other), ("traceparent", &good)]);
    assert!(seen.trace() != TRACE && !other.contains(seen.trace()));
}

#[test]
fn requests_of_one_trace_have_spans_of_their_own_and_others_traces_of_their_own() {
    let node = Node::new();
    let (good, bad) = (parent("00", "01"), "00-12345678901234567890123456789012-xxxx-01");
    for (what, field, joins) in
        [("none", None, false), ("bad", Some(bad), false), ("good", Some(&*good), true)]
    {
        let told: Vec<Seen> = (0..3)
            .map(|_| {
                node.tell(
                    &field.map(|field| ("traceparent", field)).into_iter().collect::<Vec<_>>(),
                )
            })
            .collect();
        let spans: HashSet<&str> = told.iter().map(Seen::span).collect();
        assert_eq!(spans.len(), 3, "{what}");
        let traces: HashSet<&str> = told.iter().map(Seen::trace).collect();
        assert_eq!(traces.len(), if joins { 1 } else { 3 }, "{what}");
        assert_eq!(traces.contains(TRACE), joins, "{what}");
    }
}

#[test]
fn flags_that_are_known_go_on_and_others_do_not() {
    let node = Node::new();
    for (given, goes_on) in
        [("00", "00"), ("01", "01"), ("02", "02"), ("03", "03"), ("fc", "00"), ("ff", "03")]
    {
        let seen = node.tell(&[("traceparent", &parent("00", given))]);
        assert_eq!(&seen.traceparent[53..], goes_on, "{given}");
    }
    // An id that is drawn here is random, and says so.
    let begun = u8::from_str_radix(&node.tell(&[]).traceparent[53..], 16).unwrap();
    assert_eq!(begun & 2, 2);
}

#[test]
fn a_state_goes_with_its_parent_if_it_is_a_good_list() {
    let node = Node::new();
    let good = parent("00", "00");
    let tell = |fields: &[(&str, &str)]| {
        let mut all = vec![("traceparent", &*good)];
        all.extend(fields);
        let seen = node.tell(&all);
        assert_eq!(seen.trace(), TRACE, "{fields:?}");
        seen.states
    };
    assert!(node.tell(&[("tracestate", "foo=1,bar=2")]).states.is_empty());
    let lower: String = ('a'..='z').collect();
    let key = format!("{lower}0123456789_-*/");
    let value: String = (' '..='~').filter(|c| !matches!(c, ',' | '=')).collect();
    let tenant = format!("{key}@a-z0-9_-*/");
    let long = |length: usize| format!("{}=1", "z".repeat(length));
    let vendor =
        |tenant: usize, system: usize| format!("{}@{}=1", "t".repeat(tenant), "v".repeat(system));
    let members = |from: usize, to: usize| {
        (from..=to).map(|n| format!("bar{n:02}={n:02}")).collect::<Vec<_>>().join(",")
    };
    let (simple, with_tenant) = (format!("{key}={value}"), format!("{tenant}={value}"));
    let (k256, v14) = (long(256), vendor(241, 14));
    let ten = [members(1, 10), members(11, 20), members(21, 30), members(31, 32), members(31, 33)];
    let taken: &[&[&str]] = &[
        &["foo=1,bar=2"],
        &["foo=1,bar=2", "rojo=1,congo=2", "baz=3"],
        &["foo=1", ""],
        &["", "foo=1"],
        &["foo=1 \t , \t bar=2, \t baz=3"],
        &["foo=1\t \t,\t \tbar=2,\t \tbaz=3"],
        &[" foo=1"],
        &["\tfoo=1"],
        &["foo=1 "],
        &["foo=1\t"],
        &["\t foo=1 \t"],
        &[&simple],
        &[&with_tenant],
        &["foo=1", &k256],
        &["foo=1", &v14],
        &[&ten[0], &ten[1], &ten[2], &ten[3]],
    ];
    for fields in taken {
        let expected: Vec<&str> = fields
            .iter()
            .flat_map(|field| field.split(','))
            .map(|member| member.trim_matches([' ', '\t']))
            .filter(|member| !member.is_empty())
            .collect();
        let given: Vec<_> = fields.iter().map(|field| ("tracestate", *field)).collect();
        assert_eq!(tell(&given), expected, "{fields:?}");
    }
    for name in ["TraceState", "TrAcEsTaTe", "TRACESTATE"] {
        assert_eq!(tell(&[(name, "foo=1")]), ["foo=1"], "{name}");
    }
    for name in ["trace-state", "trace.state"] {
        assert!(tell(&[(name, "foo=1")]).is_empty(), "{name}");
    }
    let (k257, t242, v15) = (long(257), vendor(242, 1), vendor(1, 15));
    let dropped: &[&[&str]] = &[
        &[""],
        &["foo=1,foo=1"],
        &["foo=1,foo=2"],
        &["foo=1", "foo=1"],
        &["foo=1", "foo=2"],
        &["foo =1"],
        &["FOO=1"],
        &["foo.bar=1"],
        &["foo@=1,bar=2"],
        &["@foo=1,bar=2"],
        &["foo@@bar=1,bar=2"],
        &["foo@bar@baz=1,bar=2"],
        &["foo=1", &k257],
        &["foo=1", &t242],
        &["foo=1", &v15],
        &[&ten[0], &ten[1], &ten[2], &ten[4]],
        &["foo=bar=baz"],
        &["foo=,bar=3"],
        &["foo"],
    ];
    for fields in dropped {
        let given: Vec<_> = fields.iter().map(|field| ("tracestate", *field)).collect();
        assert_eq!(tell(&given), [""; 0], "{fields:?}");
    }
}
