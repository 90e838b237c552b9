//! The `Proxy-Status` response field (RFC 9209): who in the chain failed the request, and how.
//!
//! One line is one list member, Weft's own; what other intermediaries wrote stands in lines before it.
//! Whatever text is given, the value that comes out is a structured field: printable ASCII alone.

use std::io::Write;

use weft_kernel::Reason;

/// The longest `details` that is written, in bytes; the rest is cut off.
pub const DETAILS_BYTES_MAX: usize = 256;

/// One member of the field.
#[derive(Clone, Copy, Debug)]
pub struct ProxyStatus<'a> {
    error: Option<Reason>,
    next_hop: &'a str,
    received: Option<u16>,
    details: &'a str,
}

impl<'a> ProxyStatus<'a> {
    /// A member that tells of an error.
    pub const fn error(reason: Reason) -> Self {
        Self { error: Some(reason), next_hop: "", received: None, details: "" }
    }

    /// A member that tells that the next hop's answer was passed on with this status.
    pub const fn received(status: u16) -> Self {
        Self { error: None, next_hop: "", received: Some(status), details: "" }
    }

    /// The endpoint that was asked. Leave it out where callers must not learn addresses.
    #[must_use]
    pub const fn next_hop(mut self, endpoint: &'a str) -> Self {
        self.next_hop = endpoint;
        self
    }

    /// What the caller may know beyond the error type. Without it, the reason's word is written.
    #[must_use]
    pub const fn details(mut self, details: &'a str) -> Self {
        self.details = details;
        self
    }

    /// Appends the field value to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"weft");
        if let Some(reason) = self.error {
            out.extend_from_slice(b"; error=");
            out.extend_from_slice(reason.proxy_status().as_bytes());
        }
        if !self.next_hop.is_empty() {
            out.extend_from_slice(b"; next-hop=");
            write_string(self.next_hop, out);
        }
        if let Some(status) = self.received {
            // Writing to a vector cannot fail.
            let _ = write!(out, "; received-status={status}");
        }
        let details = match self.error {
            Some(reason) if self.details.is_empty() => reason.word(),
            _ => self.details,
        };
        if !details.is_empty() {
            out.extend_from_slice(b"; details=");
            write_string(details, out);
        }
    }
}

/// Appends a structured-field string. What such a string cannot hold becomes `?`.
fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.chars().take(DETAILS_BYTES_MAX).map(|c| u8::try_from(c).unwrap_or(b'?')) {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0x20..=0x7e => out.push(byte),
            _ => out.push(b'?'),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::structured::{self, Bare, Member};

    fn written(status: ProxyStatus<'_>) -> String {
        let mut out = Vec::new();
        status.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn members() {
        for (status, expect) in [
            (
                ProxyStatus::error(Reason::ConnectTimeout),
                r#"weft; error=connection_timeout; details="connect_timeout""#,
            ),
            (
                ProxyStatus::error(Reason::ConnectRefused)
                    .next_hop("10.0.0.7:80")
                    .details("nobody \"home\""),
                r#"weft; error=connection_refused; next-hop="10.0.0.7:80"; details="nobody \"home\"""#,
            ),
            (ProxyStatus::received(503), "weft; received-status=503"),
            (
                ProxyStatus::error(Reason::UpstreamMalformed).details("é\r\nx: y"),
                r#"weft; error=http_protocol_error; details="???x: y""#,
            ),
        ] {
            assert_eq!(written(status), expect);
        }
    }

    #[test]
    fn every_reason_is_a_structured_field() {
        for reason in Reason::ALL {
            let text = written(ProxyStatus::error(*reason));
            let list = structured::parse_list(text.as_bytes()).unwrap();
            let [Member::Item(item)] = &list[..] else { panic!("{text}") };
            assert_eq!(item.value, Bare::Token("weft".into()));
            assert_eq!(item.params.get("error"), Some(&Bare::Token(reason.proxy_status().into())));
        }
    }

    proptest! {
        #[test]
        fn any_details_make_a_structured_field(text in "\\PC*|[\\x00-\\x7f]*") {
            let value = written(ProxyStatus::error(Reason::Internal).details(&text));
            let list = structured::parse_list(value.as_bytes());
            prop_assert!(list.is_ok(), "{}", value);
        }
    }
}
