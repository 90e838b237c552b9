//! Cases of Confluent's page on the evolution of JSON Schema, and of the keywords one by one.

use super::*;

fn issues(reader: &Schema, writer: &Schema) -> Vec<Issue> {
    super::issues(reader, writer, Newer::Reader)
}

fn check(reader: &str, writer: &str, expect: &[(&str, &str)]) {
    let read = |text: &str| Schema::read(text, []).unwrap();
    let found = issues(&read(reader), &read(writer));
    let found: Vec<(&str, &str)> = found.iter().map(|one| (one.kind, one.path.as_str())).collect();
    assert_eq!(found, expect, "{reader} takes {writer}");
}

const OPEN: &str = r#"{"type":"object","properties":{"a":{"type":"string"}}}"#;
const OPEN_TWO: &str =
    r#"{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"integer"}}}"#;
const CLOSED: &str =
    r#"{"type":"object","properties":{"a":{"type":"string"}},"additionalProperties":false}"#;
const CLOSED_TWO: &str = r#"{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"integer"}},"additionalProperties":false}"#;
const TEXTS: &str = r#"{"type":"object","properties":{"a":{"type":"string"}},"additionalProperties":{"type":"string"}}"#;

#[test]
fn content_models_decide_about_properties() {
    for schema in [OPEN, OPEN_TWO, CLOSED, CLOSED_TWO, TEXTS] {
        check(schema, schema, &[]);
    }
    check(OPEN_TWO, OPEN, &[("PROPERTY_ADDED_TO_OPEN_CONTENT_MODEL", "#/properties/b")]);
    check(OPEN, OPEN_TWO, &[]);
    check(CLOSED_TWO, CLOSED, &[]);
    check(CLOSED, CLOSED_TWO, &[("PROPERTY_REMOVED_FROM_CLOSED_CONTENT_MODEL", "#/properties/b")]);
    check(OPEN, CLOSED, &[]);
    check(CLOSED, OPEN, &[("ADDITIONAL_PROPERTIES_REMOVED", "#/additionalProperties")]);
    check(TEXTS, OPEN, &[("ADDITIONAL_PROPERTIES_NARROWED", "#/additionalProperties")]);
    let texts_two = TEXTS
        .replace(r#""a":{"type":"string"}"#, r#""a":{"type":"string"},"b":{"type":"integer"}"#);
    check(
        &texts_two,
        TEXTS,
        &[("PROPERTY_ADDED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL", "#/properties/b")],
    );
    check(
        TEXTS,
        &texts_two,
        &[("PROPERTY_REMOVED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL", "#/properties/b")],
    );
    let texts_more = texts_two.replace(r#""b":{"type":"integer"}"#, r#""b":{"type":"string"}"#);
    check(&texts_more, TEXTS, &[]);
    check(TEXTS, &texts_more, &[]);
    check(r#"{"type":"object","properties":{"x":{}}}"#, r#"{"type":"object"}"#, &[]);
}

#[test]
fn what_is_required_needs_a_default_to_be_new() {
    let of = |closed: &str, rest: &str| closed.replacen('{', &format!("{{{rest},"), 1);
    let required = of(OPEN, r#""required":["a"]"#);
    check(&required, OPEN, &[("REQUIRED_ATTRIBUTE_ADDED", "#/required/a")]);
    check(OPEN, &required, &[]);
    let with_default =
        required.replace(r#""a":{"type":"string"}"#, r#""a":{"type":"string","default":""}"#);
    check(&with_default, OPEN, &[]);
    let two = of(CLOSED_TWO, r#""required":["b"]"#);
    check(&two, CLOSED, &[("REQUIRED_PROPERTY_ADDED_TO_UNOPEN_CONTENT_MODEL", "#/required/b")]);
}

#[test]
fn types_may_be_widened_alone() {
    check(r#"{"type":"number"}"#, r#"{"type":"integer"}"#, &[]);
    check(r#"{"type":"integer"}"#, r#"{"type":"number"}"#, &[("TYPE_NARROWED", "#")]);
    check(r#"{"type":"string"}"#, r#"{"type":"integer"}"#, &[("TYPE_CHANGED", "#")]);
    check(r#"{"type":["string","null"]}"#, r#"{"type":"string"}"#, &[]);
    check(r#"{"type":"string"}"#, r#"{"type":["string","null"]}"#, &[("TYPE_NARROWED", "#")]);
    check(r#"{"type":"string"}"#, "{}", &[("TYPE_CHANGED", "#")]);
    check("{}", r#"{"type":"string"}"#, &[]);
    check("true", r#"{"type":"string"}"#, &[]);
    check("false", r#"{"type":"string"}"#, &[("TYPE_CHANGED", "#")]);
    check(r#"{"type":"string"}"#, "false", &[]);
}

#[test]
fn bounds_may_be_loosened_alone() {
    for (kind, key, loose, tight, added, stricter) in [
        ("string", "maxLength", "9", "3", "MAX_LENGTH_ADDED", "MAX_LENGTH_DECREASED"),
        ("string", "minLength", "3", "9", "MIN_LENGTH_ADDED", "MIN_LENGTH_INCREASED"),
        ("number", "maximum", "9", "3", "MAXIMUM_ADDED", "MAXIMUM_DECREASED"),
        ("number", "minimum", "3", "9", "MINIMUM_ADDED", "MINIMUM_INCREASED"),
        (
            "number",
            "exclusiveMaximum",
            "9",
            "3",
            "EXCLUSIVE_MAXIMUM_ADDED",
            "EXCLUSIVE_MAXIMUM_DECREASED",
        ),
        (
            "number",
            "exclusiveMinimum",
            "3",
            "9",
            "EXCLUSIVE_MINIMUM_ADDED",
            "EXCLUSIVE_MINIMUM_INCREASED",
        ),
        ("number", "multipleOf", "3", "9", "MULTIPLE_OF_ADDED", "MULTIPLE_OF_EXPANDED"),
        ("number", "multipleOf", "3", "7", "MULTIPLE_OF_ADDED", "MULTIPLE_OF_CHANGED"),
        ("object", "maxProperties", "9", "3", "MAX_PROPERTIES_ADDED", "MAX_PROPERTIES_DECREASED"),
        ("object", "minProperties", "3", "9", "MIN_PROPERTIES_ADDED", "MIN_PROPERTIES_INCREASED"),
        ("array", "maxItems", "9", "3", "MAX_ITEMS_ADDED", "MAX_ITEMS_DECREASED"),
        ("array", "minItems", "3", "9", "MIN_ITEMS_ADDED", "MIN_ITEMS_INCREASED"),
        ("string", "pattern", "\"a\"", "\"b\"", "PATTERN_ADDED", "PATTERN_CHANGED"),
        (
            "string",
            "enum",
            r#"["a","b"]"#,
            r#"["a"]"#,
            "ENUM_ARRAY_NARROWED",
            "ENUM_ARRAY_NARROWED",
        ),
        (
            "string",
            "enum",
            r#"["a","b"]"#,
            r#"["a","c"]"#,
            "ENUM_ARRAY_NARROWED",
            "ENUM_ARRAY_CHANGED",
        ),
    ] {
        let none = format!(r#"{{"type":"{kind}"}}"#);
        let of = |value: &str| format!(r#"{{"type":"{kind}","{key}":{value}}}"#);
        let path = format!("#/{key}");
        check(&of(loose), &of(loose), &[]);
        check(&of(tight), &none, &[(added, &path)]);
        check(&none, &of(tight), &[]);
        check(&of(tight), &of(loose), &[(stricter, &path)]);
        if !stricter.ends_with("CHANGED") {
            check(&of(loose), &of(tight), &[]);
        }
    }
}

#[test]
fn items_are_compared_one_by_one() {
    let of = |items: &str| format!(r#"{{"type":"array",{items}}}"#);
    let one = of(r#""items":{"type":"integer"}"#);
    check(&of(r#""items":{"type":"number"}"#), &one, &[]);
    check(&of(r#""items":{"type":"string"}"#), &one, &[("TYPE_CHANGED", "#/items")]);
    check(&one, r#"{"type":"array"}"#, &[("SCHEMA_ADDED", "#/items")]);
    check(r#"{"type":"array"}"#, &one, &[]);
    let pair = of(r#""prefixItems":[{"type":"string"},{"type":"integer"}]"#);
    let single = of(r#""prefixItems":[{"type":"string"}]"#);
    check(&pair, &single, &[("ITEM_ADDED_TO_OPEN_CONTENT_MODEL", "#/items/1")]);
    check(&single, &pair, &[]);
    let closed = of(r#""prefixItems":[{"type":"string"}],"items":false"#);
    check(&pair, &closed, &[]);
    check(
        &closed,
        &pair,
        &[
            ("ITEM_REMOVED_FROM_CLOSED_CONTENT_MODEL", "#/items/1"),
            ("ADDITIONAL_ITEMS_REMOVED", "#/additionalItems"),
        ],
    );
    check(
        &of(r#""uniqueItems":true"#),
        r#"{"type":"array"}"#,
        &[("UNIQUE_ITEMS_ADDED", "#/uniqueItems")],
    );
}

#[test]
fn sums_may_grow_and_products_shrink() {
    let of = |key: &str, all: &[&str]| {
        let all: Vec<String> = all.iter().map(|one| format!(r#"{{"type":"{one}"}}"#)).collect();
        format!(r#"{{"{key}":[{}]}}"#, all.join(","))
    };
    for key in ["anyOf", "oneOf"] {
        let path = format!("#/{key}");
        check(&of(key, &["string", "integer"]), &of(key, &["string"]), &[]);
        check(&of(key, &["string", "integer"]), r#"{"type":"string"}"#, &[]);
        check(&of(key, &["string"]), r#"{"type":"string"}"#, &[]);
        check(r#"{"type":"string"}"#, &of(key, &["string"]), &[]);
        check(&of(key, &["string"]), &of(key, &["string", "integer"]), &[("TYPE_NARROWED", "#")]);
        check(&of(key, &["integer"]), r#"{"type":"string"}"#, &[("TYPE_CHANGED", "#")]);
        let long = |max: u32| format!(r#"{{"{key}":[{{"type":"string","maxLength":{max}}}]}}"#);
        check(&long(3), &long(9), &[("COMBINED_TYPE_SUBSCHEMAS_CHANGED", &path)]);
    }
    check(
        &of("oneOf", &["string", "integer"]),
        &of("anyOf", &["string", "integer"]),
        &[("COMBINED_TYPE_CHANGED", "#/oneOf")],
    );
    let all = |all: &str| format!(r#"{{"allOf":[{all}]}}"#);
    let (short, low) = (r#"{"maxLength":3}"#, r#"{"minLength":1}"#);
    check(&all(short), &all(&format!("{short},{low}")), &[]);
    check(&all(&format!("{short},{low}")), &all(short), &[("PRODUCT_TYPE_EXTENDED", "#/allOf/1")]);
    check(r#"{"not":{"type":"null"}}"#, "{}", &[("NOT_TYPE_EXTENDED", "#/not")]);
    check("{}", r#"{"not":{"type":"null"}}"#, &[]);
}

#[test]
fn references_are_followed_and_recursion_ends() {
    let node = |value: &str| {
        format!(
            r##"{{"$ref":"#/definitions/node","definitions":{{"node":{{"type":"object","properties":{{
                "value":{{"type":"{value}"}},"next":{{"$ref":"#/definitions/node"}}}}}}}}}}"##
        )
    };
    check(&node("number"), &node("integer"), &[]);
    check(&node("integer"), &node("number"), &[("TYPE_NARROWED", "#/properties/value")]);
}

fn kinds(reader: &str, writer: &str) -> Vec<&'static str> {
    let read = |text: &str| Schema::read(text, []).unwrap();
    let found = issues(&read(reader), &read(writer));
    found.iter().map(|one| one.kind).collect()
}

/// A hundred thousand values of each side were compared all with all: for a minute.
#[test]
fn long_lists_are_compared_by_hash() {
    let began = std::time::Instant::now();
    let list = |from: usize| {
        let all: Vec<String> = (from..from + 100_000).map(|at| format!("\"{at}\"")).collect();
        all.join(",")
    };
    let of = |from| format!(r#"{{"enum":[{}]}}"#, list(from));
    assert_eq!(kinds(&of(0), &of(0)), [""; 0]);
    assert_eq!(kinds(&of(0), &of(1)), ["ENUM_ARRAY_CHANGED"]);
    let of = |from| {
        format!(
            r#"{{"$schema":"https://json-schema.org/draft/2020-12/schema","dependentRequired":{{"a":[{}]}}}}"#,
            list(from)
        )
    };
    assert_eq!(kinds(&of(0), &of(0)), [""; 0]);
    assert_eq!(kinds(&of(0), &of(1)), ["DEPENDENCY_ARRAY_CHANGED"]);
    assert!(began.elapsed() < std::time::Duration::from_secs(40), "{:?}", began.elapsed());
}

#[test]
fn what_is_compared_all_with_all_has_a_bound() {
    let many = |key: &str, count: usize, one: &str| {
        format!(r#"{{"{key}":[{}]}}"#, vec![one; count].join(","))
    };
    let of =
        |max: usize| many("anyOf", 20_000, &format!(r#"{{"type":"string","maxLength":{max}}}"#));
    assert!(kinds(&of(3), &of(9)).contains(&"TOO_COMPLEX"));
    let long = |at: &str| {
        let values: Vec<String> = (0..200).map(|value| format!("\"{at}{value}\"")).collect();
        many("anyOf", 400, &format!(r#"{{"type":"string","enum":[{}]}}"#, values.join(",")))
    };
    assert!(kinds(&long("a"), &long("b")).contains(&"TOO_COMPLEX"));
    let names = |of: &dyn Fn(usize) -> String| (0..20_000).map(of).collect::<Vec<_>>().join(",");
    let patterns = names(&|at| format!(r#""^{at}$":{{}}"#))
        .split(',')
        .take(10_000)
        .collect::<Vec<_>>()
        .join(",");
    let patterns = format!(r#"{{"type":"object","patternProperties":{{{patterns}}}}}"#);
    let properties = names(&|at| format!(r#""p{at}":{{"type":"null"}}"#));
    let properties = format!(r#"{{"type":"object","properties":{{{properties}}}}}"#);
    assert!(kinds(&patterns, &properties).contains(&"TOO_COMPLEX"));
}
