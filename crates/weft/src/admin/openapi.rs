//! The OpenAPI 3.1 document of the admin API: a view of the table of operations and of one table of
//! schemas.

use serde_json::{Map, Value, json};
use weft_messages::schema::published;

use super::{BODY_BYTES_MAX, operations::Operation};
use crate::components::name_schema;

/// A schema: its name and its members. A type is `string`, `integer`, `number` or `boolean`, a `#Name`
/// of this table or a list `[…]` of one; `?` behind it lets it be null.
type Schema = (&'static str, &'static [(&'static str, &'static str)]);

const SCHEMAS: &[Schema] = &[
    (
        "Status",
        &[
            ("version", "string"),
            ("started", "string"),
            ("uptime_seconds", "integer"),
            ("draining", "boolean"),
            ("generation", "integer"),
            ("config", "#ConfigStatus"),
            ("workers", "[#Worker]"),
            ("panics", "integer"),
            ("listeners", "[#Listener]"),
            ("routes", "integer"),
            ("services", "integer"),
            ("endpoints", "#EndpointCount"),
        ],
    ),
    (
        "ConfigStatus",
        &[
            ("path", "string"),
            ("applied_at", "string"),
            ("age_seconds", "integer"),
            ("warnings", "integer"),
            ("restart", "[string]"),
            ("refused", "#Refused?"),
        ],
    ),
    ("Refused", &[("at", "string"), ("age_seconds", "integer"), ("reason", "string")]),
    ("Worker", &[("connections", "integer")]),
    (
        "Listener",
        &[
            ("name", "string"),
            ("addresses", "[string]"),
            ("connections", "integer"),
            ("certificates", "[#Certificate]"),
        ],
    ),
    (
        "Certificate",
        &[
            ("names", "[string]"),
            ("not_before", "string"),
            ("not_after", "string"),
            ("left_seconds", "integer"),
            ("issuer", "string"),
            ("serial", "string"),
            ("fingerprint", "string"),
        ],
    ),
    ("EndpointCount", &[("total", "integer"), ("available", "integer")]),
    ("Config", &[("value", "object"), ("origins", "object")]),
    (
        "Route",
        &[
            ("name", "string"),
            ("listeners", "[string]"),
            ("matches", "[string]"),
            ("target", "#Target"),
            ("policy", "#Policy"),
        ],
    ),
    ("Weighted", &[("service", "string"), ("weight", "integer")]),
    (
        "Policy",
        &[
            ("request_timeout_ms", "number?"),
            ("try_timeout_ms", "number?"),
            ("connect_timeout_ms", "number"),
            ("retries", "integer"),
            ("hedges", "integer"),
            ("body_bytes_max", "integer?"),
            ("mirror", "string?"),
            ("fallback", "string?"),
            ("fault", "boolean"),
        ],
    ),
    (
        "ServiceSummary",
        &[
            ("name", "string"),
            ("algorithm", "string"),
            ("endpoints", "integer"),
            ("available", "integer"),
            ("active", "integer"),
            ("breaker", "string?"),
            ("panicking", "boolean"),
        ],
    ),
    (
        "Service",
        &[
            ("name", "string"),
            ("algorithm", "string"),
            ("panicking", "boolean"),
            ("refused", "integer"),
            ("routes", "[string]"),
            ("endpoints", "[#Endpoint]"),
            ("sources", "[#Source]"),
            ("breaker", "#Breaker?"),
            ("concurrency", "#Concurrency?"),
            ("bulkhead", "#Bulkhead?"),
            ("retry_budget", "integer"),
        ],
    ),
    (
        "Endpoint",
        &[
            ("id", "integer"),
            ("address", "string"),
            ("hostname", "string?"),
            ("zone", "string?"),
            ("weight", "integer"),
            ("priority", "integer"),
            ("metadata", "object"),
            ("state", "string"),
            ("verdict", "string"),
            ("active", "integer"),
            ("requests", "integer"),
            ("failures", "integer"),
            ("latency_ms", "number"),
            ("age_seconds", "integer"),
            ("check", "#Check?"),
            ("ejection", "#Ejection?"),
        ],
    ),
    (
        "Check",
        &[
            ("ago_seconds", "number"),
            ("detail", "string"),
            ("verdict_age_seconds", "integer?"),
            ("checks", "integer"),
            ("failures", "integer"),
        ],
    ),
    (
        "Ejection",
        &[
            ("availability", "string"),
            ("out_for_seconds", "number?"),
            ("forced", "string?"),
            ("consecutive", "integer"),
            ("samples", "integer"),
            ("success_ratio", "number?"),
            ("ejections", "integer"),
        ],
    ),
    (
        "Source",
        &[
            ("kind", "string"),
            ("name", "string"),
            ("state", "string"),
            ("endpoints", "integer"),
            ("told_seconds", "integer?"),
            ("failing_seconds", "integer?"),
            ("error", "string?"),
            ("failures", "integer"),
            ("next_seconds", "integer?"),
        ],
    ),
    (
        "Breaker",
        &[
            ("state", "string"),
            ("mode", "string"),
            ("since_seconds", "integer"),
            ("failure_ratio", "number?"),
            ("slow_ratio", "number?"),
            ("calls", "integer"),
            ("opens", "integer"),
            ("refusals", "integer"),
        ],
    ),
    (
        "Concurrency",
        &[
            ("limit", "integer"),
            ("in_flight", "integer"),
            ("baseline_ms", "number?"),
            ("shed_critical", "integer"),
            ("shed_default", "integer"),
            ("shed_sheddable", "integer"),
        ],
    ),
    (
        "Bulkhead",
        &[
            ("in_flight", "integer"),
            ("in_flight_max", "integer"),
            ("queued", "integer"),
            ("full", "integer"),
            ("timed_out", "integer"),
        ],
    ),
    ("Explained", &[("method", "string"), ("host", "string"), ("listeners", "[#Verdict]")]),
    (
        "Verdict",
        &[
            ("listener", "string"),
            ("path", "string"),
            ("route", "#Won?"),
            ("refused", "string?"),
            ("near", "[#Near]"),
        ],
    ),
    (
        "Won",
        &[
            ("route", "string"),
            ("match_index", "integer"),
            ("conditions", "string"),
            ("target", "#Target"),
        ],
    ),
    (
        "Near",
        &[
            ("route", "string"),
            ("match_index", "integer"),
            ("conditions", "string"),
            ("lost", "string"),
            ("why", "string"),
        ],
    ),
    (
        "Problem",
        &[
            ("type", "string"),
            ("title", "string"),
            ("status", "integer"),
            ("detail", "string"),
            ("code", "string"),
        ],
    ),
];

/// The document.
pub(super) fn document(
    operations: &[Operation],
    describe: impl FnOnce(&mut Map<String, Value>),
) -> Value {
    let mut paths = Map::new();
    for operation in operations {
        let item = paths.entry(operation.path).or_insert_with(|| json!({}));
        item[operation.method.to_lowercase()] = described(operation);
    }
    describe(&mut paths);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Weft admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": format!(
                "Looks at a running node and steers it. A body has at most {BODY_BYTES_MAX} bytes, \
                 those of messages 16 MiB. \
                 What was not done is told as problem+json (RFC 9457)."
            ),
        },
        "security": [{ "token": [] }, {}],
        "paths": paths,
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            "schemas": schemas(),
        },
    })
}

fn described(operation: &Operation) -> Value {
    let parameters: Vec<Value> = operation
        .path
        .split('/')
        .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
        .map(
            |name| json!({ "name": name, "in": "path", "required": true, "schema": name_schema() }),
        )
        .collect();
    let problem = json!({
        "description": "It was not done.",
        "content": { "application/problem+json": { "schema": schema("#Problem") } },
    });
    let mut value = json!({
        "operationId": operation.id,
        "summary": operation.about,
        "responses": {
            "200": {
                "description": "Done.",
                "content": { (operation.media): { "schema": schema(operation.gives) } },
            },
            "default": problem,
        },
    });
    if !parameters.is_empty() {
        value["parameters"] = parameters.into();
    }
    if let Some(takes) = operation.takes {
        value["requestBody"] = json!({
            "required": true,
            "content": { "application/json": { "schema": published(takes) } },
        });
    }
    if operation.open {
        value["security"] = json!([]);
    }
    value
}

fn schemas() -> Value {
    let mut all = Map::new();
    for (name, members) in SCHEMAS {
        let properties: Map<String, Value> =
            members.iter().map(|(key, of)| ((*key).into(), schema(of))).collect();
        let required: Vec<&str> = members.iter().map(|(key, _)| *key).collect();
        all.insert(
            (*name).into(),
            json!({ "type": "object", "properties": properties, "required": required }),
        );
    }
    let kind = |word: &str| json!({ "const": word });
    all.insert(
        "Target".into(),
        json!({ "oneOf": [
            {
                "type": "object",
                "properties": { "kind": kind("services"), "services": schema("[#Weighted]") },
                "required": ["kind", "services"],
            },
            {
                "type": "object",
                "properties": {
                    "kind": kind("redirect"), "status": schema("integer"), "to": schema("string"),
                },
                "required": ["kind", "status", "to"],
            },
            {
                "type": "object",
                "properties": { "kind": kind("respond"), "status": schema("integer") },
                "required": ["kind", "status"],
            },
            {
                "type": "object",
                "properties": { "kind": kind("inside"), "to": schema("string") },
                "required": ["kind", "to"],
            },
        ]}),
    );
    Value::Object(all)
}

/// A type of the table as JSON Schema.
fn schema(of: &str) -> Value {
    if let Some(of) = of.strip_suffix('?') {
        return json!({ "anyOf": [schema(of), { "type": "null" }] });
    }
    if let Some(of) = of.strip_prefix('[').and_then(|of| of.strip_suffix(']')) {
        return json!({ "type": "array", "items": schema(of) });
    }
    match of.strip_prefix('#') {
        Some(name) => json!({ "$ref": format!("#/components/schemas/{name}") }),
        None => json!({ "type": of }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::operations::operations;
    use crate::{component::Component, components::Messages};

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document(&operations(), Messages::describe);
        let known = document["components"]["schemas"].as_object().unwrap();
        let mut stack = vec![&document];
        let mut references = 0;
        while let Some(value) = stack.pop() {
            if let Some(Value::String(to)) = value.get("$ref") {
                let name = to.strip_prefix("#/components/schemas/").unwrap();
                assert!(known.contains_key(name), "{name}");
                references += 1;
            }
            match value {
                Value::Object(map) => stack.extend(map.values()),
                Value::Array(list) => stack.extend(list),
                _ => {}
            }
        }
        assert!(references > known.len());
    }

    #[test]
    fn every_operation_is_described_once() {
        let operations = operations();
        let messages = weft_messages::OPERATIONS;
        let document = document(&operations, Messages::describe);
        let paths = document["paths"].as_object().unwrap();
        let described: usize = paths.values().map(|item| item.as_object().unwrap().len()).sum();
        assert_eq!(described, operations.len() + messages.len());
        let own = operations.iter().map(|operation| operation.id);
        let mut ids: Vec<_> = own.chain(messages.iter().map(|operation| operation.id)).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), described);
    }
}
