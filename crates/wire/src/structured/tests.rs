//! Tables from the specification, round trips, and whatever bytes come.

use proptest::{collection::vec, prelude::*};

use super::*;

fn item(text: &str) -> Option<Item> {
    parse_item(text.as_bytes()).ok()
}

fn relisted(text: &str) -> Option<String> {
    let mut out = Vec::new();
    write_list(&parse_list(text.as_bytes()).ok()?, &mut out).unwrap();
    Some(String::from_utf8(out).unwrap())
}

fn redictionaried(text: &str) -> Option<String> {
    let mut out = Vec::new();
    write_dictionary(&parse_dictionary(text.as_bytes()).ok()?, &mut out).unwrap();
    Some(String::from_utf8(out).unwrap())
}

#[test]
fn values() {
    for (text, expect) in [
        ("42", Bare::Integer(42)),
        ("  -0  ", Bare::Integer(0)),
        ("999999999999999", Bare::Integer(INTEGER_MAX)),
        ("-999999999999999", Bare::Integer(-INTEGER_MAX)),
        ("4.5", Bare::Decimal(4500)),
        ("-0.001", Bare::Decimal(-1)),
        ("999999999999.999", Bare::Decimal(INTEGER_MAX)),
        (r#""a \"b\" \\c""#, Bare::String(r#"a "b" \c"#.into())),
        (r#""""#, Bare::String(String::new())),
        ("foo123/456:*", Bare::Token("foo123/456:*".into())),
        ("*", Bare::Token("*".into())),
        (":aGVsbG8=:", Bare::Bytes(b"hello".into())),
        (":aGVsbG8:", Bare::Bytes(b"hello".into())),
        ("::", Bare::Bytes(Vec::new())),
        ("?1", Bare::Boolean(true)),
        ("?0", Bare::Boolean(false)),
    ] {
        assert_eq!(item(text), Some(expect.into()), "{text}");
    }
}

#[test]
fn what_is_no_item() {
    for text in [
        "",
        " ",
        "\t1",
        "1 2",
        "1,",
        "-",
        "--1",
        "1.",
        "1.2345",
        ".5",
        "1000000000000000",
        "1000000000000.0",
        "00000000000000000",
        "+1",
        "\"",
        "\"a",
        "\"a\\",
        "\"\\n\"",
        "\"é\"",
        "\"\u{7f}\"",
        "\"\t\"",
        ":a",
        ":a:",
        ":a b=:",
        ":=:",
        ":a_-=:",
        "?",
        "?2",
        "?true",
        "a b",
        "é",
        "'a'",
        "a;",
        "a; ",
        "a;B",
        "a;=1",
        "a;b=",
        "a ;b",
        "(a)",
        "@1",
        "%\"a\"",
        "a\0",
        "a\n",
    ] {
        assert_eq!(item(text), None, "{text:?}");
    }
}

#[test]
fn parameters_keep_order_and_the_last_value() {
    let parsed = item("text/html;  charset=utf-8;q=1.0;a;q=?0").unwrap();
    assert_eq!(
        parsed.params.0,
        [
            ("charset".to_owned(), Bare::Token("utf-8".into())),
            ("q".to_owned(), Bare::Boolean(false)),
            ("a".to_owned(), Bare::Boolean(true)),
        ]
    );
    assert_eq!(parsed.params.get("b"), None);
    let mut out = Vec::new();
    write_item(&parsed, &mut out).unwrap();
    assert_eq!(out, b"text/html;charset=utf-8;q=?0;a");
}

#[test]
fn lists() {
    for (text, expect) in [
        ("", Some("")),
        ("a,b \t, \t c", Some("a, b, c")),
        (r#"("foo" "bar");lvl=5, ( ) , ( a )"#, Some(r#"("foo" "bar");lvl=5, (), (a)"#)),
        ("1.50, 2.0", Some("1.5, 2.0")),
        ("sugar, tea, rum;x=:AQI=:", Some("sugar, tea, rum;x=:AQI=:")),
        ("a,", None),
        (",a", None),
        ("a,,b", None),
        ("a b", None),
        ("(a", None),
        ("(a,b)", None),
        ("(a\tb)", None),
        ("(a(b))", None),
        ("\"a\"b", None),
    ] {
        assert_eq!(relisted(text).as_deref(), expect, "{text:?}");
    }
}

#[test]
fn dictionaries() {
    for (text, expect) in [
        ("", Some("")),
        ("a=1, b;x, c=?1;y=2, d=(1 2);z", Some("a=1, b;x, c;y=2, d=(1 2);z")),
        ("a=1,b=2,a=3", Some("a=3, b=2")),
        ("a=?0", Some("a=?0")),
        ("*x=1", Some("*x=1")),
        ("A=1", None),
        ("a =1", None),
        ("a= 1", None),
        ("a=1,", None),
        ("1=1", None),
        ("a=1 b=2", None),
    ] {
        assert_eq!(redictionaried(text).as_deref(), expect, "{text:?}");
    }
}

#[test]
fn counts_are_bounded() {
    let list = |count: usize| vec!["a"; count].join(",");
    assert_eq!(parse_list(list(MEMBERS_MAX).as_bytes()).map(|l| l.len()), Ok(MEMBERS_MAX));
    assert!(parse_list(list(MEMBERS_MAX + 1).as_bytes()).is_err());
    let inner = |count: usize| format!("({})", vec!["a"; count].join(" "));
    assert!(parse_list(inner(MEMBERS_MAX).as_bytes()).is_ok());
    assert!(parse_list(inner(MEMBERS_MAX + 1).as_bytes()).is_err());
    let dictionary =
        |count: usize| (0..count).map(|n| format!("k{n}")).collect::<Vec<_>>().join(",");
    assert!(parse_dictionary(dictionary(MEMBERS_MAX).as_bytes()).is_ok());
    assert!(parse_dictionary(dictionary(MEMBERS_MAX + 1).as_bytes()).is_err());
    let params =
        |count: usize| format!("a{}", (0..count).map(|n| format!(";k{n}")).collect::<String>());
    assert!(parse_item(params(PARAMS_MAX).as_bytes()).is_ok());
    assert!(parse_item(params(PARAMS_MAX + 1).as_bytes()).is_err());
}

#[test]
fn what_cannot_be_written_leaves_no_trace() {
    let bad = [
        Bare::Integer(INTEGER_MAX + 1),
        Bare::Integer(i64::MIN),
        Bare::Decimal(-INTEGER_MAX - 1),
        Bare::String("é".into()),
        Bare::String("a\r\nb".into()),
        Bare::Token("1a".into()),
        Bare::Token(String::new()),
        Bare::Token("a b".into()),
    ];
    for value in bad {
        let mut out = b"x".to_vec();
        let list = [Member::Item(Bare::Boolean(false).into()), Member::Item(value.clone().into())];
        assert!(write_list(&list, &mut out).is_err(), "{value:?}");
        assert_eq!(out, b"x");
    }
    for key in ["", "A", "1", "a b", "é"] {
        let mut out = Vec::new();
        let member = Member::Item(Bare::Integer(1).into());
        assert!(write_dictionary(&[(key.to_owned(), member)], &mut out).is_err(), "{key}");
    }
}

fn bare() -> impl Strategy<Value = Bare> {
    prop_oneof![
        (-INTEGER_MAX..=INTEGER_MAX).prop_map(Bare::Integer),
        (-INTEGER_MAX..=INTEGER_MAX).prop_map(Bare::Decimal),
        "[ -~]{0,12}".prop_map(Bare::String),
        "[a-zA-Z*][a-zA-Z0-9:/!#$%&'*+.^_`|~-]{0,8}".prop_map(Bare::Token),
        vec(any::<u8>(), 0..9).prop_map(Bare::Bytes),
        any::<bool>().prop_map(Bare::Boolean),
    ]
}

fn keyed<T: std::fmt::Debug>(
    value: impl Strategy<Value = T>,
) -> impl Strategy<Value = Vec<(String, T)>> {
    vec(("[a-z*][a-z0-9_.*-]{0,5}", value), 0..4).prop_map(|mut pairs| {
        let mut seen = std::collections::HashSet::new();
        pairs.retain(|(key, _)| seen.insert(key.clone()));
        pairs
    })
}

fn items() -> impl Strategy<Value = Item> {
    (bare(), keyed(bare())).prop_map(|(value, params)| Item { value, params: Params(params) })
}

fn members() -> impl Strategy<Value = Member> {
    prop_oneof![
        items().prop_map(Member::Item),
        (vec(items(), 0..4), keyed(bare()))
            .prop_map(|(items, params)| Member::InnerList(items, Params(params))),
    ]
}

proptest! {
    #[test]
    fn what_is_written_reads_the_same(
        list in vec(members(), 0..5),
        dictionary in keyed(members()),
        item in items(),
    ) {
        let mut out = Vec::new();
        write_list(&list, &mut out).unwrap();
        prop_assert_eq!(parse_list(&out), Ok(list));
        out.clear();
        write_dictionary(&dictionary, &mut out).unwrap();
        prop_assert_eq!(parse_dictionary(&out), Ok(dictionary));
        out.clear();
        write_item(&item, &mut out).unwrap();
        for cut in 0..out.len() {
            // A shorter text may be a field of its own, but is never this one.
            prop_assert!(parse_item(&out[..cut]).as_ref() != Ok(&item));
        }
        prop_assert_eq!(parse_item(&out), Ok(item));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..64), text in "[ a(),;=:?\"\\\\0-9.-]{0,40}") {
        for input in [&bytes[..], text.as_bytes()] {
            if let Ok(list) = parse_list(input) {
                let mut out = Vec::new();
                write_list(&list, &mut out).unwrap();
                prop_assert_eq!(parse_list(&out), Ok(list));
            }
            if let Ok(dictionary) = parse_dictionary(input) {
                let mut out = Vec::new();
                write_dictionary(&dictionary, &mut out).unwrap();
                prop_assert_eq!(parse_dictionary(&out), Ok(dictionary));
            }
            let _ = parse_item(input);
        }
    }
}
