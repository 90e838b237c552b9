//! What a collector's answer means: taken, to be tried again, or refused (OTLP specification 1.x).

use std::time::Duration;

use http::{HeaderMap, StatusCode, header::RETRY_AFTER};
use prost::Message;

use super::message::{PartialSuccess, Response};

/// Why a try failed.
pub(super) enum Failure {
    /// It may be tried again, not before the given time if there is one.
    Again(String, Option<Duration>),
    /// It would fail again.
    Refused(String),
}

/// Reads an answer by the OTLP/HTTP specification: 429, 502, 503 and 504 may be tried again.
pub(super) fn http_answer(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<PartialSuccess, Failure> {
    if status.is_success() {
        let response = Response::decode(body).unwrap_or_default();
        return Ok(response.partial_success.unwrap_or_default());
    }
    let why = format!("the collector answered {status}");
    if matches!(status.as_u16(), 429 | 502 | 503 | 504) {
        let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        return Err(Failure::Again(why, seconds.map(Duration::from_secs)));
    }
    Err(Failure::Refused(why))
}

/// Reads an answer by the OTLP/gRPC specification's table of retryable codes.
pub(super) fn grpc_answer(trailers: &HeaderMap, body: &[u8]) -> Result<PartialSuccess, Failure> {
    let status =
        trailers.get("grpc-status").and_then(|value| value.to_str().ok()?.parse::<u8>().ok());
    let why = |status: u8| {
        let text = trailers.get("grpc-message").and_then(|value| value.to_str().ok());
        format!("the collector answered grpc-status {status}: {}", text.unwrap_or("no message"))
    };
    match status {
        Some(0) => {
            // Uncompressed, as nothing else was offered.
            let message = body.get(5..).unwrap_or_default();
            Ok(Response::decode(message).unwrap_or_default().partial_success.unwrap_or_default())
        }
        Some(status @ (1 | 4 | 10 | 11 | 14 | 15)) => Err(Failure::Again(why(status), None)),
        Some(status) => Err(Failure::Refused(why(status))),
        None => {
            Err(Failure::Again("the collector answered without a grpc-status".to_owned(), None))
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn answers() {
        let mut headers = HeaderMap::new();
        assert!(http_answer(StatusCode::OK, &headers, b"").is_ok());
        for (code, again) in [(429, true), (503, true), (500, false), (400, false), (404, false)] {
            let answer = http_answer(StatusCode::from_u16(code).unwrap(), &headers, b"");
            assert_eq!(matches!(answer, Err(Failure::Again(..))), again, "{code}");
        }
        headers.insert(RETRY_AFTER, HeaderValue::from_static("7"));
        let answer = http_answer(StatusCode::SERVICE_UNAVAILABLE, &headers, b"");
        assert!(matches!(answer, Err(Failure::Again(_, Some(after))) if after.as_secs() == 7));
        for (code, again) in [("14", true), ("4", true), ("3", false), ("16", false), ("x", true)] {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static(code));
            let answer = grpc_answer(&trailers, b"");
            assert_eq!(matches!(answer, Err(Failure::Again(..))), again, "{code}");
        }
    }
}
