//! The views of the tables: the schema, the reference page and the configuration in effect.

use serde_json::{Value, json};
use weft::{
    components::catalogue,
    config::{print, reference, schema},
};

use super::good;

/// As much of JSON Schema as the schema uses.
fn fits(value: &Value, schema: &Value, root: &Value) -> bool {
    let Value::Object(rules) = schema else { return false };
    rules.iter().all(|(rule, want)| match rule.as_str() {
        "anyOf" => want.as_array().unwrap().iter().any(|form| fits(value, form, root)),
        "$ref" => {
            let name = want.as_str().unwrap().trim_start_matches("#/$defs/");
            fits(value, &root["$defs"][name], root)
        }
        "enum" => want.as_array().unwrap().contains(value),
        "const" => want == value || want.as_f64().is_some_and(|want| value.as_f64() == Some(want)),
        "type" => {
            let one = |name: &str| match name {
                "object" => value.is_object(),
                "array" => value.is_array(),
                "string" => value.is_string(),
                "boolean" => value.is_boolean(),
                "integer" => value.is_u64() || value.is_i64(),
                "number" => value.is_number(),
                "null" => value.is_null(),
                other => panic!("type {other}"),
            };
            match want {
                Value::Array(names) => names.iter().any(|name| one(name.as_str().unwrap())),
                name => one(name.as_str().unwrap()),
            }
        }
        "properties" => value.as_object().is_none_or(|object| {
            object
                .iter()
                .all(|(key, value)| want.get(key).is_none_or(|schema| fits(value, schema, root)))
        }),
        "additionalProperties" => value.as_object().is_none_or(|object| {
            object.iter().all(|(key, value)| {
                let known = rules.get("properties").is_some_and(|known| known.get(key).is_some())
                    || rules.get("patternProperties").is_some() && key.starts_with("x-");
                known || (want != &Value::Bool(false) && fits(value, want, root))
            })
        }),
        "patternProperties" => *want == json!({ "^x-": true }),
        "required" => value.as_object().is_none_or(|object| {
            want.as_array().unwrap().iter().all(|key| object.contains_key(key.as_str().unwrap()))
        }),
        "items" => {
            value.as_array().is_none_or(|items| items.iter().all(|item| fits(item, want, root)))
        }
        "pattern" => value
            .as_str()
            .is_none_or(|text| regex::Regex::new(want.as_str().unwrap()).unwrap().is_match(text)),
        "minimum" => value.as_f64().is_none_or(|number| number >= want.as_f64().unwrap()),
        "maximum" => value.as_f64().is_none_or(|number| number <= want.as_f64().unwrap()),
        "minLength" => value.as_str().is_none_or(|text| !text.is_empty()),
        "description" | "default" | "title" | "$schema" | "$defs" => true,
        other => panic!("rule {other}"),
    })
}

/// A file as an editor sees it.
fn as_editor(text: &str) -> Value {
    let loaded = good(text);
    fn value(node: &weft::config::tree::Node) -> Value {
        use weft::config::tree::Kind;
        match &node.kind {
            Kind::Text(text) => serde_json::from_str::<Value>(&text.text)
                .ok()
                .filter(|value| value.is_number() || value.is_boolean())
                .unwrap_or_else(|| json!(&*text.text)),
            Kind::List(items) => items.iter().map(value).collect(),
            Kind::Map(entries) => Value::Object(
                entries.iter().map(|(key, node)| (key.text.to_string(), value(node))).collect(),
            ),
            Kind::Null | Kind::Bad => Value::Null,
        }
    }
    value(&loaded.tree(&super::variables))
}

#[test]
fn the_schema_takes_the_examples_and_refuses_what_is_wrong() {
    let schema = schema::schema(catalogue());
    for text in [include_str!("good/full.yaml"), include_str!("../../../../../weft.default.yaml")] {
        let value = as_editor(text);
        for (key, section) in value.as_object().unwrap() {
            let one = json!({ key: section });
            assert!(fits(&one, &schema, &schema), "{key}: {section:#}");
        }
    }
    // Sections of one's own stand at the top alone.
    let own = json!({"x-common": {"anything": [1]}, "topics": {"orders": {}}});
    assert!(fits(&own, &schema, &schema));
    for wrong in [
        json!({"y-common": {}}),
        json!({"topics": {"orders": {"x-common": {}}}}),
        json!({"listeners": {"web": {"adress": "x"}}}),
        json!({"listeners": {"web": {}}}),
        json!({"routes": [{"to": "a"}]}),
        json!({"services": {"a": {"pool": {"idle_max": "many"}}}}),
        json!({"telemetry": {"access_log": {"include": "some"}}}),
        json!({"services": []}),
    ] {
        assert!(!fits(&wrong, &schema, &schema), "{wrong}");
    }
}

#[test]
fn the_reference_page_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/configuration.md");
    let page = reference::page(catalogue());
    if std::env::var_os("WEFT_BLESS").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap();
    assert!(
        written == page,
        "write it anew: weft schema --reference > docs/reference/configuration.md"
    );
}

#[test]
fn every_default_can_be_read_by_its_own_setting() {
    // A section whose defaults are read gives a value; one that is not would be missing here.
    use weft::config::{
        sections,
        setting::{Setting, Shape, Table},
    };
    type Seen = std::collections::BTreeMap<&'static str, &'static str>;
    fn visit(shape: &Shape, seen: &mut Seen) {
        match shape {
            Shape::Section(table) => walk(table, seen),
            Shape::List(inner) | Shape::Many(inner) | Shape::Switch(inner) => visit(inner, seen),
            Shape::Map { value, .. } => visit(value, seen),
            Shape::Either(forms) => forms.iter().for_each(|form| visit(form, seen)),
            _ => {}
        }
    }
    fn walk(table: &'static Table, seen: &mut Seen) {
        if let Some(about) = seen.insert(table.name, table.about) {
            assert_eq!(about, table.about, "two sections are called {}", table.name);
            return;
        }
        for field in table.fields {
            assert!(!field.about.trim().is_empty(), "{}.{} says nothing", table.name, field.key);
            if let Some(short) = table.short {
                assert!(table.field(short).is_some(), "{}: no key {short}", table.name);
            }
            visit(&(field.shape)(), seen);
        }
    }
    let mut seen = Seen::new();
    walk(catalogue().table(), &mut seen);
    assert!(seen.len() > 30, "{seen:?}");
    assert!(weft::components::telemetry::sections::Telemetry::absent().is_some());
    assert!(sections::Policy::absent().is_some());
    assert!(sections::Admin::absent().is_some());
}

#[test]
fn the_configuration_in_effect_reads_as_itself() {
    for text in [include_str!("good/full.yaml"), include_str!("../../../../../weft.default.yaml")] {
        // A token is not shown, so it does not come back.
        let loaded = good(&text.replace("${TOKEN:-a-token}", "file:/etc/hostname"));
        let shown = print::yaml(&loaded, &super::variables);
        let again = good(&shown);
        assert_eq!(
            format!("{:?}", again.plan.proxy),
            format!("{:?}", loaded.plan.proxy),
            "{shown}"
        );
    }
}

#[test]
fn each_value_says_where_it_came_from() {
    let loaded = good(
        "listeners: {web: {address: \"127.0.0.1:${PORT}\"}}
services: {a: {endpoints: 127.0.0.1:1}}
policies: {p: {timeout: 3s}}
routes:
  - {name: r, policies: [p], to: a}
admin: {listen: 127.0.0.1:9901, token: hunter2}
",
    );
    let shown = print::yaml(&loaded, &super::variables);
    for line in [
        "    address: \"127.0.0.1:8080\" # weft.yaml:1, ${PORT}",
        "      request: 3s # weft.yaml:3",
        "      connect: 1s # default",
        "  token: \"***\" # weft.yaml:6",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}\n{shown}");
    }
    let json = print::json(&loaded, &super::variables);
    assert_eq!(json["value"]["routes"][0]["timeout"]["request"], "3s");
    assert_eq!(json["origins"]["/routes/0/timeout/request"], "weft.yaml:3");
    assert!(!json.to_string().contains("hunter2"));
}
