//! What the admin API says when it does not do what was asked (RFC 9457).

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;
use weft_kernel::Code;

/// Something that was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) code: Code,
    pub(crate) detail: String,
}

impl Problem {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }

    /// There is no such thing, by its noun and name.
    pub(crate) fn no(noun: &str, name: &str) -> Self {
        Self::new(Code::NotFound, format!("there is no {noun} `{name}`"))
    }
}

const fn title(code: Code) -> &'static str {
    match code {
        Code::Invalid => "The request cannot be understood",
        Code::Unauthenticated => "The token is missing or wrong",
        Code::Denied => "The request is not allowed",
        Code::NotFound => "There is no such thing",
        Code::MethodNotAllowed => "The method is not offered here",
        Code::Conflict => "The state does not allow it",
        Code::TooLarge => "The body is too large",
        _ => "It could not be done",
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.code.http();
        let body = json!({
            "type": format!("urn:weft:problem:{}", self.code.word()),
            "title": title(self.code),
            "status": status,
            "detail": self.detail,
            "code": self.code.word(),
        });
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let media = HeaderValue::from_static("application/problem+json");
        let mut response = (status, body.to_string()).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, media);
        if self.code == Code::Unauthenticated {
            let scheme = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}
