//! The registry of schemas over HTTP, as Confluent's clients ask for it: rows of the one table ([`weft_api`]), on the
//! admin API and on routes.
//!
//! What the registry refuses is told in that API's own words: a body with `error_code` and `message`. On a route the
//! refusals of the table itself are told so too.

mod ids;
mod rows;
mod settings;
mod subjects;
mod target;
mod view;

use serde::{Deserialize, Serialize};
use weft_api::{Noun, Query};
use weft_kernel::{Error, Reason, Result};
use weft_schemas::{Deleted, Draft, Format, Reference, Registry, Which, error};

pub use self::{
    rows::SCHEMA_OPERATIONS,
    target::{SCHEMAS, SchemaTargets},
};
use crate::response::Response;

/// A subject.
pub static SUBJECT: Noun =
    Noun { name: "subject", about: "names under which schemas have versions" };

/// The media type of answers.
pub(crate) const MEDIA: &str = "application/vnd.schemaregistry.v1+json";
/// Where the rows stand on the admin API.
const ROOT: &str = "/v1/schemas";

/// How much of what is no id a refusal shows.
const ID_SHOWN_MAX: usize = 100;

/// A request about schemas.
type Ask<'a> = weft_api::Ask<'a, Registry>;

/// A refusal, as it is told.
#[derive(Debug, Serialize, schemars::JsonSchema)]
#[schemars(rename = "SchemaRegistryError")]
pub(crate) struct Refusal {
    /// The code, whose first three digits are the status.
    pub(crate) error_code: u32,
    /// What is wrong, where and why.
    pub(crate) message: String,
}

/// An answer with a value.
fn answer(value: &impl Serialize) -> Result<Response> {
    written(200, value)
}

fn written(status: u16, value: &impl Serialize) -> Result<Response> {
    let body = serde_json::to_vec(value).map_err(|error| {
        Error::new(Reason::Internal, "an answer could not be written").because(error)
    })?;
    Ok(Response::of(status, MEDIA, body))
}

/// What became of a request: a refusal is an answer too.
fn told(outcome: error::Result<Response>) -> Result<Response> {
    match outcome {
        Ok(response) => Ok(response),
        // The store's own answers say when to come again.
        Err(error::Error::Store(error)) => Err(error),
        Err(error) => {
            let refusal = Refusal { error_code: error.code(), message: error.to_string() };
            written(error.http(), &refusal)
        }
    }
}

/// Whether a query says yes; Python's `True` counts.
fn is_set(query: &mut Query<'_>, name: &str) -> bool {
    query.take(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

fn deleted(query: &mut Query<'_>) -> Deleted {
    let shown = is_set(query, "deleted");
    // Confluent's client for Python writes it the other way.
    let only = is_set(query, "deletedOnly") || is_set(query, "deleted_only");
    match (only, shown) {
        (true, _) => Deleted::Only,
        (_, true) => Deleted::Shown,
        _ => Deleted::Hidden,
    }
}

/// A page of a list: what `offset` and `limit` say.
fn page<T>(all: Vec<T>, query: &mut Query<'_>) -> Vec<T> {
    let number =
        |text: Option<std::borrow::Cow<'_, str>>| text.and_then(|text| text.parse::<i64>().ok());
    let offset = number(query.take("offset")).and_then(|offset| usize::try_from(offset).ok());
    let limit = number(query.take("limit")).and_then(|limit| usize::try_from(limit).ok());
    // Less than nought is all.
    all.into_iter().skip(offset.unwrap_or(0)).take(limit.unwrap_or(usize::MAX)).collect()
}

/// A schema of a body.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SchemaBody {
    schema: Option<String>,
    #[serde(rename = "schemaType")]
    schema_type: Option<String>,
    references: Option<Vec<Reference>>,
    id: Option<i64>,
    version: Option<i64>,
}

impl SchemaBody {
    fn read(body: &[u8]) -> error::Result<Self> {
        serde_json::from_slice(body)
            .map_err(|error| error::Error::Malformed(format!("the body cannot be read: {error}")))
    }

    fn draft(self, normalize: bool) -> error::Result<Draft> {
        let empty = || error::Error::InvalidSchema("Empty schema".to_owned());
        let number = |value: Option<i64>, what: &str| match value {
            None | Some(..=0) => Ok(None),
            Some(value) => match i32::try_from(value) {
                Ok(value) => Ok(Some(value.unsigned_abs())),
                Err(_) => Err(error::Error::Malformed(format!(
                    "`{what}` is {value}, and {} at most",
                    i32::MAX
                ))),
            },
        };
        Ok(Draft {
            format: match self.schema_type.as_deref().unwrap_or_default() {
                "" => Format::default(),
                word => word.parse()?,
            },
            text: self.schema.filter(|text| !text.trim().is_empty()).ok_or_else(empty)?,
            references: self.references.unwrap_or_default(),
            normalize,
            id: number(self.id, "id")?,
            version: number(self.version, "version")?,
        })
    }
}

/// The version that the path names second.
fn which(ask: &Ask<'_>) -> error::Result<Which> {
    Which::read(ask.names.at(1))
}

/// The id that the path names.
fn id(ask: &Ask<'_>) -> error::Result<u32> {
    let text = ask.names.at(0);
    let id = text.parse().ok().filter(|id| i32::try_from(*id).is_ok());
    id.ok_or_else(|| error::Error::NoId(text.chars().take(ID_SHOWN_MAX).collect()))
}

#[cfg(test)]
mod tests;
