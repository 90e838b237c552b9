//! The registry on routes: the API below a path, which is the base URL of clients.

use weft_api::Row;
use weft_kernel::Result;
use weft_schemas::Registry;
use weft_wire::{Known, problem};

use super::{MEDIA, ROOT, Refusal, SCHEMA_OPERATIONS, written};
use crate::{
    below::{Below, BelowTargets},
    response::{Content, Response},
};

/// The handler of routes that offer schemas; its settings are an [`ApiPath`](crate::ApiPath).
pub const SCHEMAS: &str = "schemas";

/// The local handler of schemas.
pub type SchemaTargets = BelowTargets<Registry>;

impl Below for Registry {
    const HANDLER: &'static str = SCHEMAS;

    fn rows() -> &'static [Row<Self>] {
        SCHEMA_OPERATIONS
    }

    /// Clients know nothing of where the rows stand.
    fn row_path(path: String) -> String {
        format!("{ROOT}{}", path.trim_end_matches('/'))
    }

    fn worded(response: Response) -> Result<Response> {
        in_words(response)
    }
}

/// A problem in the words of the registry's own refusals.
pub(super) fn in_words(response: Response) -> Result<Response> {
    let is_problem = response.fields.get_str(Known::ContentType) == Some(problem::CONTENT_TYPE);
    let (Content::Whole(body), true) = (&response.content, is_problem) else {
        return Ok(response);
    };
    let told: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let said = told["detail"].as_str().or_else(|| told["title"].as_str()).unwrap_or("refused");
    let code = u32::from(response.status);
    // Of Confluent's codes these are those of the store.
    let code = if code >= 500 { code * 100 + 1 } else { code };
    let refusal = Refusal { error_code: code, message: said.to_owned() };
    let mut told = written(response.status, &refusal)?;
    for name in ["allow", "retry-after"] {
        if let Some(value) = response.fields.named(name) {
            told.fields.append(name, value);
        }
    }
    debug_assert_eq!(told.fields.get_str(Known::ContentType), Some(MEDIA));
    Ok(told)
}
