//! The API of messages as OpenAPI: a view of its table.

use serde_json::{Map, Value, json};
use weft_messages::{OPERATIONS, Operation};

/// Adds every operation to the paths of a document.
pub(in super::super) fn describe(paths: &mut Map<String, Value>) {
    for operation in OPERATIONS {
        let item = paths.entry(operation.path).or_insert_with(|| json!({}));
        item[operation.method.to_lowercase()] = described(operation);
    }
}

fn described(operation: &Operation) -> Value {
    let names = operation.path.split('/').filter_map(|segment| {
        let name = segment.strip_prefix('{')?.strip_suffix('}')?;
        Some(parameter(name, "path", None))
    });
    let query = operation.query.iter().map(|(name, about)| parameter(name, "query", Some(about)));
    let parameters: Vec<Value> = names.chain(query).collect();
    let (status, media) = operation.gives;
    let mut good = json!({ "description": "Done." });
    if let Some(media) = media {
        good["content"] = json!({ (media): { "schema": {} } });
    }
    let mut value = json!({
        "operationId": operation.id,
        "summary": operation.about,
        "tags": ["messages"],
        "parameters": parameters,
        "responses": {
            (status.to_string()): good,
            "default": {
                "description": "It was not done.",
                "content": {
                    "application/problem+json": {
                        "schema": { "$ref": "#/components/schemas/Problem" },
                    },
                },
            },
        },
    });
    if let Some(takes) = operation.takes {
        value["requestBody"] = json!({ "content": { (takes): { "schema": {} } } });
    }
    value
}

fn parameter(name: &str, place: &str, about: Option<&str>) -> Value {
    json!({
        "name": name,
        "in": place,
        "required": place == "path",
        "description": about.unwrap_or("A name."),
        "schema": { "type": "string" },
    })
}
