//! Schemas and settings, as they are shown.

use schemars::JsonSchema;
use serde::Serialize;
use weft_schemas::{Format, Kept, Registered, Schema};

use super::error;

/// What a schema refers to.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "SchemaReference")]
pub(super) struct ReferenceView {
    /// The name by which it is referred to.
    name: String,
    /// The subject.
    subject: String,
    /// The version.
    version: i64,
}

/// A schema.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Schema")]
pub(super) struct SchemaView {
    /// The subject, of a version.
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    /// The version.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u32>,
    /// The id, the same under every subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u32>,
    /// JSON or PROTOBUF; left out for AVRO.
    #[serde(rename = "schemaType", skip_serializing_if = "Option::is_none")]
    schema_type: Option<&'static str>,
    /// What it refers to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    references: Vec<ReferenceView>,
    /// Its text.
    schema: String,
    /// Whether it is deleted, and not for good.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    deleted: bool,
}

impl SchemaView {
    pub(super) fn of(kept: Kept) -> Self {
        let Kept { format, text, references, .. } = kept;
        let references = references.into_iter().map(|to| ReferenceView {
            name: to.name,
            subject: to.subject,
            version: to.version,
        });
        Self {
            subject: None,
            version: None,
            id: None,
            schema_type: (format != Format::Avro).then(|| format.word()),
            references: references.collect(),
            schema: text,
            deleted: false,
        }
    }

    pub(super) fn registered(of: Registered) -> Self {
        let Registered { subject, version, deleted, schema } = of;
        let id = schema.id;
        let subject = Some(subject);
        Self { subject, version: Some(version), id: Some(id), deleted, ..Self::of(schema) }
    }

    /// The same with its text in the form that was asked for.
    pub(super) fn formed(mut self, form: Option<&str>, read: &Schema) -> error::Result<Self> {
        if let (Some("serialized"), Some(text)) = (form, read.serialized()) {
            self.schema = text;
        }
        Ok(self)
    }
}

/// The id of a schema that was registered.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RegisteredSchema")]
pub(super) struct IdView {
    /// Its id.
    pub(super) id: u32,
    /// Its version.
    pub(super) version: u32,
    /// The subject.
    pub(super) subject: String,
}

/// A subject with a version.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "SubjectVersion")]
pub(super) struct UseView {
    /// The subject.
    pub(super) subject: String,
    /// The version.
    pub(super) version: u32,
}

/// Whether a schema fits.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "SchemaCompatibility")]
pub(super) struct FitView {
    /// Whether it fits what it was held to.
    pub(super) is_compatible: bool,
    /// What does not fit, where and why, if that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) messages: Option<Vec<String>>,
}

/// A subject.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "SchemaSubject")]
pub(super) struct SubjectView {
    /// Its name.
    pub(super) subject: String,
    /// Its versions.
    pub(super) versions: Vec<u32>,
    /// The id of the latest.
    pub(super) id: u32,
    /// The format of the latest.
    pub(super) format: &'static str,
    /// The level of compatibility that counts for it.
    pub(super) compatibility: &'static str,
    /// The mode that counts for it.
    pub(super) mode: &'static str,
}
