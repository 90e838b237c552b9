//! Problem details as JSON (RFC 9457), so that every refusal says what, whose fault, and whether a
//! retry helps.
//!
//! The JSON is written by hand into a buffer that the caller keeps: no tree, no reflection, and the
//! members always in the same order. What the operator alone should know ([`Error::detail`]) never
//! enters: `detail` is [`Error::said`].

use std::io::Write;

use weft_kernel::{Error, Reason, Retry};

/// The media type of [`Problem::write`].
pub const CONTENT_TYPE: &str = "application/problem+json";

/// What a problem's `type` begins with; the reason's word follows.
pub const TYPE_PREFIX: &str = "urn:weft:problem:";

/// A problem that is about to be written.
#[derive(Clone, Copy, Debug)]
pub struct Problem<'a> {
    reason: Reason,
    retry: Retry,
    detail: &'a str,
    instance: &'a str,
    status: u16,
}

impl<'a> Problem<'a> {
    /// The problem of an error.
    pub fn of(error: &'a Error) -> Self {
        Self {
            reason: error.reason(),
            retry: error.retryable(),
            detail: error.said(),
            instance: "",
            status: error.reason().http(),
        }
    }

    /// Names the occurrence: the request id.
    #[must_use]
    pub const fn instance(mut self, request_id: &'a str) -> Self {
        self.instance = request_id;
        self
    }

    /// Goes with another status than that of its reason.
    #[must_use]
    pub const fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// The HTTP status that goes with it.
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// Appends the JSON object to `out`.
    ///
    /// `retryable` tells whether sending the request again can help; `retry` then says which requests
    /// may be sent again: `any`, or only the `idempotent`.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"type\":\"");
        out.extend_from_slice(TYPE_PREFIX.as_bytes());
        out.extend_from_slice(self.reason.word().as_bytes());
        out.extend_from_slice(b"\",\"title\":");
        write_json_string(title(self.reason), out);
        // Writing to a vector cannot fail.
        let _ = write!(out, ",\"status\":{}", self.status());
        if !self.detail.is_empty() {
            out.extend_from_slice(b",\"detail\":");
            write_json_string(self.detail, out);
        }
        if !self.instance.is_empty() {
            out.extend_from_slice(b",\"instance\":");
            write_json_string(self.instance, out);
        }
        out.extend_from_slice(b",\"code\":\"");
        out.extend_from_slice(self.reason.code().word().as_bytes());
        out.extend_from_slice(b"\",\"side\":\"");
        out.extend_from_slice(self.reason.side().word().as_bytes());
        out.extend_from_slice(match self.retry {
            Retry::No => b"\",\"retryable\":false}" as &[u8],
            Retry::Safe | Retry::After(_) => b"\",\"retryable\":true,\"retry\":\"any\"}",
            Retry::Idempotent => b"\",\"retryable\":true,\"retry\":\"idempotent\"}",
        });
    }
}

/// The `title` of a reason: the same for every occurrence, without the full stop.
fn title(reason: Reason) -> &'static str {
    reason.about().trim().trim_end_matches('.')
}

/// Appends a text as a JSON string (RFC 8259 section 7), quotes included.
pub fn write_json_string(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut plain = 0;
    for (at, byte) in bytes.iter().copied().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[plain..at]);
        plain = at + 1;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(byte >> 4)]);
                out.push(HEX[usize::from(byte & 15)]);
            }
        }
    }
    out.extend_from_slice(&bytes[plain..]);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn written(problem: Problem<'_>) -> Value {
        let mut out = Vec::new();
        problem.write(&mut out);
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn an_error_becomes_a_problem_with_every_member() {
        let error = Error::new(Reason::TryTimeout, "no answer after 2s: \"slow\"")
            .note("10.0.0.7:80 is slow")
            .at("service orders");
        assert_eq!(
            written(Problem::of(&error).instance("req-1")),
            json!({
                "type": "urn:weft:problem:try_timeout",
                "title": "Timeout of one try: the endpoint did not answer",
                "status": 504,
                "detail": "no answer after 2s: \"slow\"",
                "instance": "req-1",
                "code": "deadline",
                "side": "upstream",
                "retryable": true,
                "retry": "idempotent",
            })
        );
    }

    #[test]
    fn every_reason_has_a_title_and_a_status() {
        for reason in Reason::ALL {
            let problem = written(Problem::of(&Error::new(*reason, "")));
            assert_eq!(problem["status"], reason.http());
            assert_eq!(problem["type"], format!("urn:weft:problem:{}", reason.word()));
            assert_eq!(problem["retryable"], reason.retry() != Retry::No);
            let title = problem["title"].as_str().unwrap();
            assert!(
                title.len() > 10 && !title.ends_with('.') && !title.starts_with(' '),
                "{title}"
            );
            assert!(problem.get("detail").is_none() && problem.get("instance").is_none());
        }
    }

    #[test]
    fn the_retry_of_the_error_wins_over_that_of_its_reason() {
        let error =
            Error::new(Reason::Overload, "too much").retry(Retry::After(Duration::from_secs(1)));
        assert_eq!(written(Problem::of(&error))["retry"], "any");
        let error = Error::new(Reason::Overload, "too much").retry(Retry::No);
        assert_eq!(written(Problem::of(&error))["retryable"], false);
    }

    proptest! {
        #[test]
        fn any_text_survives_as_json(text in "\\PC*|[\\x00-\\x7f]*") {
            let mut out = Vec::new();
            write_json_string(&text, &mut out);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
    }
}
