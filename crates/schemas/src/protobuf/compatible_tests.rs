//! Cases of "Updating A Message Type" of the language guide, rule by rule.

use super::*;

fn issues(reader: &Schema, writer: &Schema) -> Vec<Issue> {
    super::issues(reader, writer, Newer::Reader)
}

fn schema(body: &str) -> Schema {
    Schema::read(&format!("syntax = \"proto3\"; package p; {body}"), []).unwrap()
}

fn check(new: &str, old: &str, expect: &[(&str, &str)]) {
    let found = issues(&schema(new), &schema(old));
    let found: Vec<(&str, &str)> = found.iter().map(|one| (one.kind, one.path.as_str())).collect();
    assert_eq!(found, expect, "{new} reads {old}");
}

#[test]
fn fields_come_and_go_and_are_renamed() {
    check("message M { int32 a = 1; }", "message M { int32 a = 1; }", &[]);
    check("message M { int32 a = 1; string b = 2; }", "message M { int32 a = 1; }", &[]);
    check("message M { int32 a = 1; }", "message M { int32 a = 1; string b = 2; }", &[]);
    check("message M { int32 other = 1; }", "message M { int32 a = 1; }", &[]);
    check("message M {} message N {}", "message M {}", &[]);
    check("message M {}", "message M {} message N {}", &[("MESSAGE_REMOVED", "#/N")]);
    check("message N {} message M {}", "message M {} message N {}", &[]);
    check("message M {}", "message M { message I {} }", &[("MESSAGE_REMOVED", "#/M/I")]);
}

#[test]
fn kinds_of_one_family_are_read_as_one_another() {
    let kinds = [
        ("int32", 0),
        ("uint32", 0),
        ("int64", 0),
        ("uint64", 0),
        ("bool", 0),
        ("E", 0),
        ("sint32", 1),
        ("sint64", 1),
        ("string", 2),
        ("bytes", 2),
        ("fixed32", 3),
        ("sfixed32", 3),
        ("fixed64", 4),
        ("sfixed64", 4),
        ("float", 5),
        ("double", 6),
    ];
    let of = |kind: &str| format!("enum E {{ Z = 0; }} message M {{ {kind} a = 1; }}");
    for (new, family) in kinds {
        for (old, other) in kinds {
            let expect: &[_] = match family == other {
                true => &[],
                false => &[("FIELD_SCALAR_KIND_CHANGED", "#/M/1")],
            };
            check(&of(new), &of(old), expect);
        }
    }
    let both = |kind: &str| format!("message A {{}} message B {{}} message M {{ {kind} a = 1; }}");
    check(&both("A"), &both("B"), &[("FIELD_NAMED_TYPE_CHANGED", "#/M/1")]);
    check(&both("A"), &both("string"), &[("FIELD_KIND_CHANGED", "#/M/1")]);
    check(&both("map<string, A>"), &both("repeated A"), &[("FIELD_KIND_CHANGED", "#/M/1")]);
    check(
        &both("map<string, int32>"),
        &both("map<string, string>"),
        &[("FIELD_SCALAR_KIND_CHANGED", "#/M/AEntry/2")],
    );
}

#[test]
fn labels_of_numbers_stay() {
    let of = |kind: &str| format!("message M {{ {kind} a = 1; }}");
    check(&of("repeated string"), &of("string"), &[]);
    check(&of("string"), &of("repeated string"), &[]);
    check(&of("repeated int32"), &of("int32"), &[("FIELD_NUMERIC_LABEL_CHANGED", "#/M/1")]);
    check(&of("int32"), &of("repeated int32"), &[("FIELD_NUMERIC_LABEL_CHANGED", "#/M/1")]);
    check(&of("optional int32"), &of("int32"), &[]);
    let two = |label: &str| {
        Schema::read(
            &format!(
                "syntax = \"proto2\"; message M {{ {label} int32 a = 1; optional int32 b = 2; }}"
            ),
            [],
        )
        .unwrap()
    };
    let none =
        Schema::read("syntax = \"proto2\"; message M { optional int32 b = 2; }", []).unwrap();
    let kinds = |new: &Schema, old: &Schema| -> Vec<&'static str> {
        issues(new, old).iter().map(|one| one.kind).collect()
    };
    assert_eq!(kinds(&two("required"), &none), ["REQUIRED_FIELD_ADDED"]);
    assert_eq!(kinds(&none, &two("required")), ["REQUIRED_FIELD_REMOVED"]);
    assert_eq!(kinds(&two("required"), &two("optional")), ["REQUIRED_FIELD_ADDED"]);
    assert_eq!(kinds(&two("optional"), &two("required")), [""; 0]);
}

#[test]
fn a_oneof_takes_one_field_that_was_outside() {
    let plain = "message M { int32 a = 1; int32 b = 2; }";
    check("message M { oneof o { int32 a = 1; } int32 b = 2; }", plain, &[]);
    check(
        "message M { oneof o { int32 a = 1; int32 b = 2; } }",
        plain,
        &[("MULTIPLE_FIELDS_MOVED_TO_ONEOF", "#/M/o")],
    );
    let one = "message M { oneof o { int32 a = 1; } int32 b = 2; }";
    check(
        "message M { oneof o { int32 a = 1; int32 b = 2; } }",
        one,
        &[("FIELD_MOVED_TO_EXISTING_ONEOF", "#/M/2")],
    );
    check(
        "message M { oneof o { int32 c = 3; } int32 b = 2; }",
        one,
        &[("ONEOF_FIELD_REMOVED", "#/M/1")],
    );
    check("message M { int32 b = 2; }", one, &[]);
    check("message M { oneof o { int32 a = 1; int32 c = 3; } int32 b = 2; }", one, &[]);
}

#[test]
fn a_package_stays_and_recursion_ends() {
    let other =
        Schema::read("syntax = \"proto3\"; package q; message M { int32 a = 1; }", []).unwrap();
    let kinds: Vec<_> =
        issues(&other, &schema("message M { string a = 1; }")).iter().map(|one| one.kind).collect();
    assert_eq!(kinds, ["PACKAGE_CHANGED", "FIELD_SCALAR_KIND_CHANGED"]);
    let list = |kind: &str| format!("message L {{ L next = 1; {kind} value = 2; }}");
    check(&list("int32"), &list("int32"), &[]);
    check(&list("string"), &list("int32"), &[("FIELD_SCALAR_KIND_CHANGED", "#/L/2")]);
}

/// As many fields as leave a oneof, and as many oneofs that are looked at for it.
#[test]
fn oneofs_are_found_by_hash() {
    let of = |field: usize| {
        let all = (0..15_000).map(|at| format!("oneof o{at}{{int32 f{at}={};}}", at + field));
        let all: String = all.collect();
        format!("message M {{ {all} }}")
    };
    let (new, old) = (schema(&of(30_000)), schema(&of(1)));
    let began = std::time::Instant::now();
    let found = issues(&new, &old);
    assert_eq!(found[0].kind, "ONEOF_FIELD_REMOVED");
    assert!(began.elapsed() < std::time::Duration::from_secs(10), "{:?}", began.elapsed());
}
