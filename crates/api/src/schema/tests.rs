//! What is published and what is checked are the same.

use proptest::{prelude::*, string::string_regex};
use regex::Regex;
use serde_json::json;

use super::{
    text::{Kind, MEDIA, METHOD, NAME, PATH, SERVICE, SHARE, SPACE, START, TIME, TOPICS},
    *,
};

const SPANS: [(u64, u64); 6] = [
    (0, 60_000),
    (0, 300_000),
    (1, 43_200_000),
    (10, 31_622_400_000),
    (1_000, 3_600_000),
    (0, 90_000),
];

fn is(pattern: &str, text: &str) -> bool {
    Regex::new(&format!("^(?:{pattern})$")).unwrap().is_match(text)
}

#[test]
fn durations_are_within_their_bounds() {
    for (text, min, max, fits) in [
        ("0", 0, 60_000, true),
        ("0", 1, 60_000, false),
        ("0s", 0, 60_000, true),
        ("0s", 1, 60_000, false),
        ("60s", 0, 60_000, true),
        ("1m", 0, 60_000, true),
        ("61s", 0, 60_000, false),
        ("60001ms", 0, 60_000, false),
        ("1m1ms", 0, 60_000, false),
        ("59.999999999s", 0, 60_000, true),
        ("60.5s", 0, 60_000, false),
        ("1.5s", 0, 60_000, true),
        ("1m30s", 0, 300_000, true),
        ("30s1m", 0, 300_000, false),
        ("1m90s", 0, 300_000, false),
        ("5m", 0, 300_000, true),
        ("5m1s", 0, 300_000, false),
        ("4m59s999ms", 0, 300_000, true),
        ("10ms", 10, 86_400_000, true),
        ("9ms", 10, 86_400_000, false),
        ("9999us", 10, 86_400_000, false),
        ("10000us", 10, 86_400_000, true),
        ("0.5s", 10, 86_400_000, true),
        ("86400s", 10, 86_400_000, true),
        ("23h59m59s", 10, 86_400_000, true),
        ("1d", 10, 86_400_000, true),
        ("24h1ms", 10, 86_400_000, false),
        ("1h0m5s", 10, 86_400_000, true),
        ("05s", 0, 60_000, false),
        (" 5s", 0, 60_000, false),
        ("5", 0, 60_000, false),
        ("", 0, 60_000, false),
        ("s", 0, 60_000, false),
        ("-1s", 0, 60_000, false),
        ("1e3s", 0, 60_000, false),
        ("soon", 0, 60_000, false),
    ] {
        assert_eq!(quantity::span(text, min, max).is_some(), fits, "{text} {min} {max}");
        assert_eq!(is(&quantity::span_pattern(min, max), text), fits, "{text} {min} {max}");
    }
}

#[test]
fn sizes_are_within_their_bounds() {
    for (text, min, fits) in [
        ("0", 0, true),
        ("0", 1, false),
        ("64KiB", 1, true),
        ("64 KiB", 1, true),
        ("1.5GiB", 1, true),
        ("0.5KiB", 1, true),
        ("0.5B", 1, false),
        ("8185452TiB", 1, true),
        ("8185453TiB", 1, false),
        ("9000000000000000000", 1, true),
        ("9000000000000000001", 1, false),
        ("64kib", 1, false),
        ("64 ", 1, false),
        ("1e5", 1, false),
        ("inf", 1, false),
        ("-1", 0, false),
    ] {
        assert_eq!(quantity::size(text, min).is_some(), fits, "{text} {min}");
        assert_eq!(
            is(&quantity::size_pattern(min, quantity::SIZE_MAX), text),
            fits,
            "{text} {min}"
        );
    }
}

#[test]
fn texts_are_of_their_kinds() {
    for (kind, text, fits) in [
        (&TIME, "2026-01-31T00:00:00Z", true),
        (&TIME, "2026-01-31T23:59:59.123456789+05:30", true),
        (&TIME, "2024-02-29T00:00:00Z", true),
        (&TIME, "2026-02-29T00:00:00Z", false),
        (&TIME, "2000-02-29T00:00:00Z", true),
        (&TIME, "2100-02-29T00:00:00Z", false),
        (&TIME, "2026-04-31T00:00:00Z", false),
        (&TIME, "2026-01-31 00:00:00Z", false),
        (&TIME, "2026-01-31T00:00Z", false),
        (&TIME, "2026-01-31T00:00:00", false),
        (&TIME, "2026-01-31T00:00:60Z", false),
        (&TIME, "2026-01-31T00:00:00+24:00", false),
        (&TIME, "9999-12-31T23:59:59Z", false),
        (&START, "first", true),
        (&START, "First", false),
        (&START, "18", true),
        (&START, "", false),
        (&START, "-1", false),
        (&TOPICS, "orders", true),
        (&TOPICS, "orders.*.eu", true),
        (&TOPICS, "orders.>", true),
        (&TOPICS, "", false),
        (&NAME, "Größe 1", true),
        (&NAME, "", false),
        (&NAME, "a\u{7f}", false),
        (&NAME, "a\u{85}", false),
        (&SPACE, "", true),
        (&SPACE, "a\n", false),
        (&SHARE, "20%", true),
        (&SHARE, "100%", true),
        (&SHARE, "101%", false),
        (&SHARE, "05%", false),
        (&MEDIA, "text/plain; charset=utf-8", true),
        (&METHOD, "GET", true),
        (&METHOD, "G T", false),
        (&SHARE, "12.5%", true),
        (&SERVICE, "billing", true),
        (&SERVICE, "no name", false),
        (&PATH, "/", true),
        (&PATH, "/events", true),
        (&PATH, "events", false),
    ] {
        assert_eq!((kind.fits)(text), fits, "{}: {text:?}", kind.what);
        assert_eq!(is(kind.pattern, text), fits, "{}: {text:?}", kind.pattern);
    }
}

#[test]
fn a_fault_is_told_with_its_place() {
    const INNER: Object = Object::of(&[
        Member::must("a", Shape::Int(1, 9)),
        Member::may("b", Shape::Off(&Shape::Span(0, 60_000))),
    ]);
    const OUTER: Shape = Shape::Object(&Object::of(&[
        Member::may("list", Shape::List(&Shape::Object(&INNER), 1, 2)),
        Member::may("either", Shape::Either(&[Shape::Text(&NAME), Shape::Object(&INNER)])),
        Member::may("words", Shape::Words(&["one", "two", "three"])),
    ]));
    for (value, said) in [
        (json!({}), ""),
        (json!({"list": null}), ""),
        (json!({"list": [{"a": 1, "b": "off"}, {"a": 9, "b": false}]}), ""),
        (json!([]), "the body is an object with list, either, words"),
        (json!({"more": 1}), "the body: `more` is not known here: there is list, either, words"),
        (
            json!({"list": [{"a": 1}, {"a": 10}]}),
            "the body: `list.1.a` is a whole number from 1 to 9",
        ),
        (
            json!({"list": [{"a": 1, "b": "1h"}]}),
            "the body: `list.0.b` is a duration from 0s to 1m, such as 250ms, 30s or 1m30s, or off",
        ),
        (
            json!({"list": [{}]}),
            "the body: `list.0.a` is missing: it is a whole number from 1 to 9",
        ),
        (json!({"list": [{"a": null}]}), "the body: `list.0.a` is a whole number from 1 to 9"),
        (
            json!({"list": []}),
            "the body: `list` is a list with 1 to 2 items, each of them an object with a, b",
        ),
        (json!({"either": {"a": 0}}), "the body: `either.a` is a whole number from 1 to 9"),
        (
            json!({"either": ""}),
            "the body: `either` is a name: 1 to 255 bytes without control characters",
        ),
        (
            json!({"either": 1}),
            "the body: `either` is a name: 1 to 255 bytes without control characters; or an object with a, b",
        ),
        (json!({"words": "four"}), "the body: `words` is one, two or three"),
    ] {
        assert_eq!(check(&OUTER, &value).err().unwrap_or_default(), said, "{value}");
    }
}

#[test]
fn an_object_has_one_of_its_forms() {
    const SHAPE: Shape = Shape::Object(&Object {
        members: &[
            Member::must("how", Shape::Words(&["now", "later"])),
            Member::may("delay", Shape::Span(0, 1_000)),
        ],
        forms: &[
            Form { only: Some(("how", &["now"])), required: &[], without: &["delay"] },
            Form { only: Some(("how", &["later"])), required: &["delay"], without: &[] },
        ],
        rule: "`delay` is for later",
    });
    for (value, fits) in [
        (json!({"how": "now"}), true),
        (json!({"how": "now", "delay": null}), true),
        (json!({"how": "now", "delay": "1s"}), false),
        (json!({"how": "later"}), false),
        (json!({"how": "later", "delay": null}), false),
        (json!({"how": "later", "delay": "1s"}), true),
    ] {
        assert_eq!(check(&SHAPE, &value).is_ok(), fits, "{value}");
    }
    let schema = published(&SHAPE);
    assert_eq!(schema["oneOf"].as_array().unwrap().len(), 2);
    assert_eq!(schema["oneOf"][0]["properties"]["delay"], json!({ "type": "null" }));
    assert_eq!(schema["oneOf"][1]["required"], json!(["how", "delay"]));
}

fn spans() -> impl Strategy<Value = ((u64, u64), String)> {
    (0..SPANS.len()).prop_flat_map(|index| {
        let (min, max) = SPANS[index];
        let pattern = quantity::span_pattern(min, max);
        (Just((min, max)), string_regex(&pattern).unwrap())
    })
}

fn kinds() -> impl Strategy<Value = (&'static Kind, String)> {
    let kinds: [&'static Kind; 10] =
        [&TIME, &START, &TOPICS, &NAME, &SPACE, &SHARE, &MEDIA, &METHOD, &SERVICE, &PATH];
    (0..kinds.len()).prop_flat_map(move |index| {
        (Just(kinds[index]), string_regex(kinds[index].pattern).unwrap())
    })
}

#[test]
fn the_most_may_be_written_with_a_fraction_of_nothing() {
    let pattern = quantity::span_pattern(1, 60_000);
    for (text, fits) in [("1.0m", true), ("60.00s", true), ("1.1m", false), ("60.01s", false)] {
        assert_eq!(quantity::span(text, 1, 60_000).is_some(), fits, "{text}");
        assert_eq!(is(&pattern, text), fits, "{text}");
    }
}

proptest! {
    #[test]
    fn what_the_pattern_of_durations_makes_is_one(((min, max), text) in spans()) {
        prop_assert!(quantity::span(&text, min, max).is_some(), "{text} {min} {max}");
    }

    #[test]
    fn what_is_a_duration_fits_the_pattern(
        index in 0..SPANS.len(), text in r"([0-9]{1,3}(\.[0-9]{1,2})?(d|h|m|s|ms|us|ns)){1,3}"
    ) {
        let (min, max) = SPANS[index];
        // Below a tenth of its unit, a fraction could be written as a whole number of another.
        if quantity::span(&text, min, max).is_some() && !text.starts_with("0.0") {
            prop_assert!(is(&quantity::span_pattern(min, max), &text), "{text} {min} {max}");
        }
    }

    #[test]
    fn what_the_pattern_of_sizes_makes_is_one(
        text in string_regex(&quantity::size_pattern(1, quantity::SIZE_MAX)).unwrap()
    ) {
        prop_assert!(quantity::size(&text, 1).is_some(), "{text}");
    }

    #[test]
    fn a_size_has_a_most(text in string_regex(&quantity::size_pattern(1, 16 << 20)).unwrap()) {
        let shape = &Shape::SizeTo(16 << 20);
        prop_assert!(check(shape, &json!(text)).is_ok(), "{text}");
    }

    #[test]
    fn what_the_pattern_of_a_kind_makes_is_one((kind, text) in kinds()) {
        prop_assert!((kind.fits)(&text), "{}: {text:?}", kind.what);
    }
}
