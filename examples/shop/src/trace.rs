//! Trace context that is handed on: what came with a request goes out with the calls it causes.
//!
//! The services open no spans of their own, so the header fields pass unchanged, which W3C Trace
//! Context (section 3.4) permits.

use http::{HeaderMap, HeaderName};

const FIELDS: [HeaderName; 3] = [
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("baggage"),
];

/// The trace context of one request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trace(HeaderMap);

impl Trace {
    /// What a request carries.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut kept = HeaderMap::new();
        for field in FIELDS {
            for value in headers.get_all(&field) {
                kept.append(&field, value.clone());
            }
        }
        Self(kept)
    }

    /// Puts it on a request that goes out.
    pub(crate) fn onto(&self, headers: &mut HeaderMap) {
        for (field, value) in &self.0 {
            headers.append(field, value.clone());
        }
    }

    /// The trace id, for the log.
    pub(crate) fn id(&self) -> &str {
        let parent = self.0.get(&FIELDS[0]).and_then(|value| value.to_str().ok());
        parent.and_then(|parent| parent.split('-').nth(1)).unwrap_or("-")
    }
}
