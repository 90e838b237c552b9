//! Cases of "Schema Resolution" of the specification, rule by rule.

use super::*;

fn record(fields: &str) -> String {
    format!(r#"{{"type":"record","name":"R","fields":[{fields}]}}"#)
}

fn check(reader: &str, writer: &str, expect: &[(&str, &str)]) {
    let read = |text: &str| Schema::read(text, []).unwrap();
    let found = issues(&read(reader), &read(writer));
    let found: Vec<(&str, &str)> = found.iter().map(|one| (one.kind, one.path.as_str())).collect();
    assert_eq!(found, expect, "{reader} reads {writer}");
}

#[test]
fn primitives_promote_one_way() {
    let all = ["null", "boolean", "int", "long", "float", "double", "bytes", "string"];
    let wider = [
        ("long", "int"),
        ("float", "int"),
        ("double", "int"),
        ("float", "long"),
        ("double", "long"),
        ("double", "float"),
        ("bytes", "string"),
        ("string", "bytes"),
    ];
    for reader in all {
        for writer in all {
            let fits = reader == writer || wider.contains(&(reader, writer));
            let expect: &[_] = if fits { &[] } else { &[("TYPE_MISMATCH", "/")] };
            check(&format!("\"{reader}\""), &format!("\"{writer}\""), expect);
        }
    }
}

#[test]
fn fields_are_found_by_name_or_alias_or_have_a_default() {
    let a = r#"{"name":"a","type":"int"}"#;
    let b = r#"{"name":"b","type":"string"}"#;
    let b_default = r#"{"name":"b","type":"string","default":""}"#;
    let c_alias = r#"{"name":"c","type":"long","aliases":["a"]}"#;
    let color = r#"{"name":"c","type":{"type":"enum","name":"E","symbols":["A"],"default":"A"}}"#;
    let two = |one: &str, two: &str| record(&format!("{one},{two}"));
    check(&record(a), &record(a), &[]);
    check(&record(a), &two(a, b), &[]);
    check(&two(a, b), &record(a), &[("READER_FIELD_MISSING_DEFAULT_VALUE", "/fields/1")]);
    check(&two(a, b_default), &record(a), &[]);
    check(&record(c_alias), &record(a), &[]);
    check(&record(a), &record(c_alias), &[("READER_FIELD_MISSING_DEFAULT_VALUE", "/fields/0")]);
    check(&two(a, color), &record(a), &[]);
    let text = r#"{"name":"a","type":"string"}"#;
    check(&record(text), &record(a), &[("TYPE_MISMATCH", "/fields/0/type")]);
}

#[test]
fn names_enums_and_fixed_sizes_must_fit() {
    let named = |name: &str| format!(r#"{{"type":"record","name":"{name}","fields":[]}}"#);
    check(&named("a.R"), &named("b.R"), &[]);
    check(&named("S"), &named("R"), &[("NAME_MISMATCH", "/name")]);
    check(r#"{"type":"record","name":"S","aliases":["R"],"fields":[]}"#, &named("R"), &[]);
    let symbols =
        |of: &str, rest: &str| format!(r#"{{"type":"enum","name":"E","symbols":[{of}]{rest}}}"#);
    check(&symbols(r#""A","B""#, ""), &symbols(r#""A""#, ""), &[]);
    check(
        &symbols(r#""A""#, ""),
        &symbols(r#""A","B""#, ""),
        &[("MISSING_ENUM_SYMBOLS", "/symbols")],
    );
    check(&symbols(r#""A""#, r#","default":"A""#), &symbols(r#""A","B""#, ""), &[]);
    let fixed = |size: u32| format!(r#"{{"type":"fixed","name":"F","size":{size}}}"#);
    check(&fixed(8), &fixed(8), &[]);
    check(&fixed(8), &fixed(16), &[("FIXED_SIZE_MISMATCH", "/size")]);
    check(&fixed(8), &symbols(r#""A""#, ""), &[("TYPE_MISMATCH", "/")]);
    check("\"string\"", &symbols(r#""A""#, ""), &[("TYPE_MISMATCH", "/")]);
}

#[test]
fn unions_hold_what_may_be_written() {
    check(r#"["null","int"]"#, r#""int""#, &[]);
    check(r#"["null","long"]"#, r#""int""#, &[]);
    check(r#"["null","string"]"#, r#""int""#, &[("MISSING_UNION_BRANCH", "/")]);
    check(r#"["null","int","string"]"#, r#"["null","int"]"#, &[]);
    check(r#"["null","int"]"#, r#"["null","int","boolean"]"#, &[("MISSING_UNION_BRANCH", "/2")]);
    check(r#""long""#, r#"["int","long"]"#, &[]);
    check(r#""int""#, r#"["int","long"]"#, &[("TYPE_MISMATCH", "/")]);
    check(
        &record(r#"{"name":"a","type":["null",{"type":"array","items":"int"}]}"#),
        &record(r#"{"name":"a","type":["null",{"type":"array","items":"string"}]}"#),
        &[("MISSING_UNION_BRANCH", "/fields/0/type/1")],
    );
}

#[test]
fn collections_fit_as_what_they_hold() {
    let of = |kind: &str, what: &str, of: &str| format!(r#"{{"type":"{kind}","{what}":"{of}"}}"#);
    check(&of("array", "items", "long"), &of("array", "items", "int"), &[]);
    check(
        &of("array", "items", "int"),
        &of("array", "items", "long"),
        &[("TYPE_MISMATCH", "/items")],
    );
    check(
        &of("map", "values", "int"),
        &of("map", "values", "string"),
        &[("TYPE_MISMATCH", "/values")],
    );
    check(&of("map", "values", "int"), &of("array", "items", "int"), &[("TYPE_MISMATCH", "/")]);
}

#[test]
fn recursion_ends() {
    let list = |of: &str| {
        format!(
            r#"{{"type":"record","name":"L","fields":[{{"name":"v","type":"{of}"}},{{"name":"next","type":["null","L"]}}]}}"#
        )
    };
    check(&list("long"), &list("int"), &[]);
    check(&list("int"), &list("long"), &[("TYPE_MISMATCH", "/fields/0/type")]);
}

/// Three thousand records, each with a field of the next, in a union of all: an answer comes, and takes neither the
/// stack nor the day.
#[test]
fn what_is_too_large_to_be_compared_is_said_to_be() {
    let mut chain = vec![r#"{"type":"record","name":"R0","fields":[]}"#.to_owned()];
    for at in 1..3_000 {
        chain.push(format!(
            r#"{{"type":"record","name":"R{at}","fields":[{{"name":"a","type":"R{}"}}]}}"#,
            at - 1
        ));
    }
    let text = format!("[{}]", chain.join(","));
    let schema = Schema::read(&text, []).unwrap();
    let found = issues(&schema, &schema);
    assert!(found.iter().any(|one| one.kind == "TOO_COMPLEX"), "{}", found.len());
}
