//! Cases of "Schema Resolution" of the specification, rule by rule.

use super::*;

fn issues(reader: &Schema, writer: &Schema) -> Vec<Issue> {
    super::issues(reader, writer, Newer::Reader)
}

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

/// A union of three thousand records, each with a field of another type than before: an answer comes, and takes
/// neither the stack nor the day.
#[test]
fn what_is_too_large_to_be_compared_is_said_to_be() {
    let union = |of: &str| {
        let all = (0..3_000).map(|at| {
            format!(r#"{{"type":"record","name":"R{at}","fields":[{{"name":"a","type":"{of}"}}]}}"#)
        });
        format!("[{}]", all.collect::<Vec<_>>().join(","))
    };
    let read = |of: &str| Schema::read(&union(of), []).unwrap();
    let (texts, numbers) = (read("string"), read("int"));
    let found = issues(&texts, &numbers);
    assert!(found.iter().any(|one| one.kind == "TOO_COMPLEX"), "{}", found.len());
    // The same names are found at once.
    assert_eq!(issues(&texts, &texts), []);
}

/// A record with fifty thousand other names, against as many records.
#[test]
fn lists_of_names_are_compared_by_hash() {
    let names = |with: &str| {
        let all: Vec<String> = (0..30_000).map(|at| format!("\"{with}{at}\"")).collect();
        all.join(",")
    };
    let began = std::time::Instant::now();
    let reader =
        format!(r#"{{"type":"record","name":"R","fields":[],"aliases":[{}]}}"#, names("A"));
    let writers =
        (0..15_000).map(|at| format!(r#"{{"type":"record","name":"W{at}","fields":[]}}"#));
    let writer = format!("[{}]", writers.collect::<Vec<_>>().join(","));
    let read = |text: &str| Schema::read(text, []);
    let found = issues(&read(&reader).unwrap(), &read(&writer).unwrap());
    assert_eq!(found[0].kind, "NAME_MISMATCH");
    // Defaults are held to symbols.
    let symbols = names("S");
    let field = format!(
        r#"{{"name":"a","type":{{"type":"array","items":{{"type":"enum","name":"E","symbols":[{symbols}]}}}},"default":[{symbols}]}}"#
    );
    assert!(read(&record(&field)).is_ok());
    let branches = names("B");
    let branches: Vec<String> = branches
        .split(',')
        .take(10_000)
        .map(|name| format!(r#"{{"type":"fixed","name":{name},"size":1}}"#))
        .collect();
    let ones = vec!["1"; 100_000].join(",");
    let field = format!(
        r#"{{"name":"a","type":{{"type":"array","items":[{},"int"]}},"default":[{ones}]}}"#,
        branches.join(",")
    );
    let said = read(&record(&field)).unwrap_err().to_string();
    assert!(said.contains("the defaults come to more than"), "{said}");
    assert!(began.elapsed() < std::time::Duration::from_secs(30), "{:?}", began.elapsed());
}

#[test]
fn decimals_have_the_same_digits() {
    let of = |kind: &str, rest: &str| {
        format!(r#"{{"type":"{kind}","name":"D","size":8,"logicalType":"decimal"{rest}}}"#)
    };
    for kind in ["bytes", "fixed"] {
        let four_two = of(kind, r#","precision":4,"scale":2"#);
        check(&four_two, &four_two, &[]);
        for (rest, path) in [
            (r#","precision":4,"scale":3"#, "/scale"),
            (r#","precision":4"#, "/scale"),
            (r#","precision":9,"scale":2"#, "/precision"),
        ] {
            check(&of(kind, rest), &four_two, &[("TYPE_MISMATCH", path)]);
            check(&four_two, &of(kind, rest), &[("TYPE_MISMATCH", path)]);
        }
        // What is wrongly said is not said.
        check(&of(kind, ""), &four_two, &[]);
        check(&of(kind, r#","precision":2,"scale":3"#), &four_two, &[]);
    }
    check("\"bytes\"", &of("bytes", r#","precision":4"#), &[]);
    check("\"string\"", &of("bytes", r#","precision":4"#), &[]);
    let twice = format!(r#"["bytes",{}]"#, of("bytes", r#","precision":4"#));
    assert!(Schema::read(&twice, []).is_err());
}
