//! The API of messages as OpenAPI: a view of its table.

use serde_json::{Map, Value, json};
use weft_messages::{OPERATIONS, Operation, schema::published};

/// Adds every operation to the paths of a document.
pub(super) fn describe(paths: &mut Map<String, Value>) {
    for operation in OPERATIONS {
        let item = paths.entry(operation.path).or_insert_with(|| json!({}));
        item[operation.method.to_lowercase()] = described(operation);
    }
}

fn described(operation: &Operation) -> Value {
    let names = operation.path.split('/').filter_map(|segment| {
        let name = segment.strip_prefix('{')?.strip_suffix('}')?;
        let schema = match name {
            "position" => json!({ "type": "integer", "minimum": 0, "maximum": u64::MAX }),
            _ => name_schema(),
        };
        Some(parameter(name, "path", "A name.", true, schema))
    });
    let query = operation
        .query
        .iter()
        .map(|one| parameter(one.name, "query", one.about, one.required, published(&one.shape)));
    let parameters: Vec<Value> = names.chain(query).collect();
    let mut value = json!({
        "operationId": operation.id,
        "summary": operation.about,
        "tags": ["messages"],
        "parameters": parameters,
        "responses": {
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
    for (status, media) in operation.gives {
        let response = &mut value["responses"][status.to_string()];
        response["description"] = "Done.".into();
        if let Some(media) = media {
            response["content"][media] = json!({ "schema": {} });
        }
    }
    for (media, shape) in operation.takes {
        value["requestBody"]["required"] = shape.is_required().into();
        value["requestBody"]["content"][media] = json!({ "schema": published(shape) });
    }
    value
}

/// What a name in a path is.
pub(crate) fn name_schema() -> Value {
    json!({
        "type": "string",
        "description": "At most 255 bytes, without control characters.",
        "pattern": r"^([ -~]{1,255}|[^\x00-\x1f\x7f-\x9f]{1,63})$",
    })
}

fn parameter(name: &str, place: &str, about: &str, required: bool, schema: Value) -> Value {
    json!({
        "name": name,
        "in": place,
        "required": required,
        "description": about,
        "schema": schema,
    })
}
