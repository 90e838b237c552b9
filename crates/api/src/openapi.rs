//! The table as an OpenAPI 3.1 document.

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};
use weft_kernel::Reason;
use weft_wire::problem;

use crate::{
    Gives, Operation, Permission,
    schema::{Shape, published},
};

/// The reasons for which any operation may refuse.
pub const COMMON: &[Reason] = &[Reason::MalformedRequest, Reason::Internal];
/// Those that any operation has that is not open to all.
pub const GUARDED: &[Reason] =
    &[Reason::Unauthenticated, Reason::PermissionDenied, Reason::OriginDenied, Reason::Overload];

/// Where the document keeps its schemas.
const SCHEMAS: &str = "/components/schemas";

/// A problem document (RFC 9457): why something was not done.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code, reason = "it is written by hand, and only its schema is used")]
struct Problem {
    /// Reason, behind `urn:weft:problem:`.
    r#type: String,
    /// Meaning of the reason.
    title: String,
    /// HTTP status.
    status: u16,
    /// What was wrong with this request.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// Id of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
    /// Kind of failure.
    code: String,
    /// Whose fault it is.
    side: String,
    /// Whether sending it again may help.
    retryable: bool,
    /// Which requests may be sent again: `any`, or the `idempotent` ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry: Option<String>,
}

/// What stands at the head of a document.
#[derive(Clone, Copy, Debug)]
pub struct Info {
    /// Title.
    pub title: &'static str,
    /// Version.
    pub version: &'static str,
    /// Description.
    pub description: &'static str,
}

/// The document of these operations.
pub fn document(info: Info, operations: impl IntoIterator<Item = &'static Operation>) -> Value {
    let mut schemas = SchemaSettings::draft2020_12()
        .for_serialize()
        .with(|settings| {
            settings.definitions_path = SCHEMAS.into();
            settings.meta_schema = None;
        })
        .into_generator();
    let problem = schemas.subschema_for::<Problem>().to_value();
    let mut paths = Map::new();
    for operation in operations {
        let item = paths.entry(operation.path).or_insert_with(|| json!({}));
        item[operation.method.to_lowercase()] = described(operation, &problem, &mut schemas);
    }
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": info.title, "version": info.version, "description": info.description,
        },
        "security": [{ "token": [] }, {}],
        "paths": paths,
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    });
    document["components"]["schemas"] = schemas.take_definitions(true).into();
    document
}

fn described(
    operation: &'static Operation,
    problem: &Value,
    schemas: &mut SchemaGenerator,
) -> Value {
    let places = operation.place_names().map(|name| {
        let about = operation.places.iter().find(|place| place.name == name);
        let about = about.map_or("A name.", |place| place.about);
        parameter(name, "path", about, true, operation.place(name))
    });
    let query = operation
        .query
        .iter()
        .map(|of| parameter(of.name, "query", of.about, of.required, &of.shape));
    let parameters: Vec<Value> = places.chain(query).collect();
    let mut value = json!({
        "operationId": operation.id,
        "summary": operation.about,
        "tags": [tag(operation)],
        "responses": responses(operation, problem, schemas),
    });
    if !parameters.is_empty() {
        value["parameters"] = parameters.into();
    }
    for (media, shape) in operation.takes {
        value["requestBody"]["required"] = shape.is_required().into();
        value["requestBody"]["content"][media] = json!({ "schema": published(shape) });
    }
    match operation.permission {
        None => value["security"] = json!([]),
        Some(permission) => value["x-weft-permission"] = permission.word().into(),
    }
    value
}

/// What groups an operation with others: the first word of its path behind the version.
fn tag(operation: &Operation) -> &'static str {
    let path = operation.path.strip_prefix("/v1").unwrap_or(operation.path);
    path.split('/').nth(1).unwrap_or_default()
}

fn responses(
    operation: &'static Operation,
    problem: &Value,
    schemas: &mut SchemaGenerator,
) -> Value {
    let mut responses = Map::new();
    for Gives { status, media, schema } in operation.gives {
        let response = responses
            .entry(status.to_string())
            .or_insert_with(|| json!({ "description": "Done." }));
        if let Some(media) = media {
            let schema = schema.map_or_else(|| json!({}), |of| of(schemas).to_value());
            response["content"][media] = json!({ "schema": schema });
        }
    }
    for reason in reasons(operation) {
        let status = reason.http().to_string();
        let said = format!("`{}`: {}", reason.word(), reason.about().trim());
        let response = responses.entry(status).or_insert_with(|| json!({}));
        response["description"] = match response["description"].as_str() {
            Some(before) => format!("{before}\n\n{said}").into(),
            None => said.into(),
        };
        response["content"][problem::CONTENT_TYPE] = json!({ "schema": problem });
    }
    Value::Object(responses)
}

/// Every reason for which an operation may refuse.
pub fn reasons(operation: &Operation) -> Vec<Reason> {
    let guarded = operation.permission.map_or(&[][..], |_: Permission| GUARDED);
    let too_large: &[Reason] = &[Reason::BodyTooLarge];
    let mut all = [COMMON, too_large, guarded, operation.reasons].concat();
    all.sort_unstable();
    all.dedup();
    all
}

fn parameter(name: &str, place: &str, about: &str, required: bool, shape: &'static Shape) -> Value {
    json!({
        "name": name,
        "in": place,
        "required": required,
        "description": about,
        "schema": published(shape),
    })
}
