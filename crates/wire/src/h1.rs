//! HTTP/1.1 heads and chunks (RFC 9112), strictly.
//!
//! httparse finds the tokens; what it lets pass for the sake of old peers is refused here, because two
//! readers that disagree about where a message ends are how requests are smuggled: a line that ends in
//! a bare LF, white space before a colon, folded lines, more than one `Host` or `Content-Length`,
//! `Content-Length` beside `Transfer-Encoding`, any coding but one `chunked`, and HTTP/1.0 with
//! chunks. Nothing here panics on input, and nothing is buffered: the caller gives the bytes it has and
//! is told how many were used.

mod chunked;
mod request;
mod response;

pub use chunked::{ChunkedDecoder, Decoded, encode_chunk_head};
pub use request::{ParsedRequest, encode_request, expects_continue, is_authority, parse_request};
pub use response::{ParsedResponse, encode_response, parse_response, reason_phrase};

use crate::{
    fields::{Fields, Known},
    head::Version,
};

/// How much a head may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Most bytes of the whole head.
    pub bytes_max: usize,
    /// Most field lines; 256 at most.
    pub count_max: usize,
}

/// The longest name of a method; the longest that is registered has 17 bytes.
pub const METHOD_MAX: usize = 32;

/// The most field lines that any limit can allow.
pub const COUNT_CEILING: usize = 256;

/// Why a message is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// Not the grammar of HTTP.
    #[error("{0}")]
    Malformed(&'static str),
    /// More bytes than allowed.
    #[error("the header section is larger than {0} bytes")]
    TooLarge(usize),
    /// More fields than allowed.
    #[error("the header section has more than {0} fields")]
    TooMany(usize),
    /// A transfer coding that is not offered.
    #[error("only the transfer coding `chunked` is supported")]
    Coding,
    /// A version that is not offered.
    #[error("only HTTP/1.0 and HTTP/1.1 are supported on this connection")]
    Version,
    /// A method with a name that is too long to be one.
    #[error("the name of the method is longer than {METHOD_MAX} bytes")]
    Method,
    /// An expectation that nobody here can meet.
    #[error("an expectation other than 100-continue")]
    Expectation,
}

/// How a body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// This many bytes.
    Length(u64),
    /// Chunks, then trailers.
    Chunked,
    /// Until the connection ends; responses only.
    Close,
}

/// Refuses what httparse lets pass: a line that does not end in CRLF.
fn check_line_ends(head: &[u8]) -> Result<(), HeadError> {
    let begins = head.first() == Some(&b'\n');
    // Looks at every byte rather than for the next LF: lines are short, and so it is done in wide steps.
    let pairs = head.iter().zip(head.iter().skip(1));
    let bare = pairs.fold(begins, |bare, (before, at)| bare | (*at == b'\n' && *before != b'\r'));
    if bare { Err(HeadError::Malformed("a line of the head ends in a bare LF")) } else { Ok(()) }
}

fn malformed(error: httparse::Error, limits: HeadLimits) -> HeadError {
    HeadError::Malformed(match error {
        httparse::Error::TooManyHeaders => return HeadError::TooMany(limits.count_max),
        httparse::Error::Version => return HeadError::Version,
        httparse::Error::HeaderName => "a field name is not a token",
        httparse::Error::HeaderValue => "a field value holds a control character",
        httparse::Error::NewLine => "a line of the head does not end in CRLF",
        httparse::Error::Status => "the status is not three digits",
        httparse::Error::Token => "the request line is malformed",
    })
}

/// The length of a head, once all of `seen` that belongs to it is there and every line ends in CRLF.
/// `seen` is cut at the limit, so a head that fills it and goes on is too large.
fn head_len(
    parsed: httparse::Result<usize>,
    seen: &[u8],
    limits: HeadLimits,
) -> Result<Option<usize>, HeadError> {
    match parsed {
        Ok(httparse::Status::Complete(used)) => {
            check_line_ends(&seen[..used])?;
            Ok(Some(used))
        }
        Ok(httparse::Status::Partial) => {
            check_line_ends(seen)?;
            if seen.len() >= limits.bytes_max {
                return Err(HeadError::TooLarge(limits.bytes_max));
            }
            Ok(None)
        }
        Err(error) => Err(malformed(error, limits)),
    }
}

fn version_of(minor: Option<u8>) -> Version {
    match minor {
        Some(1) => Version::Http11,
        _ => Version::Http10,
    }
}

/// Whether the sender means the connection to outlive the message (RFC 9112 section 9.3).
fn keeps_alive(fields: &Fields, is_http10: bool) -> bool {
    match fields.has(Known::Connection) {
        true if connection_has(fields, "close") => false,
        true if is_http10 => connection_has(fields, "keep-alive"),
        _ => !is_http10,
    }
}

fn collect(headers: &[httparse::Header<'_>], bytes: usize) -> Fields {
    let mut fields = Fields::with_capacity(headers.len() + 6, bytes + 256);
    for header in headers {
        fields.push_checked(header.name.as_bytes(), header.value);
    }
    fields
}

/// What `Content-Length` and `Transfer-Encoding` say together, if they agree.
fn declared(fields: &Fields, is_http10: bool) -> Result<Option<Framing>, HeadError> {
    let mut framing = None;
    if fields.has(Known::TransferEncoding) {
        if is_http10 {
            return Err(HeadError::Malformed("Transfer-Encoding does not exist in HTTP/1.0"));
        }
        if fields.has(Known::ContentLength) {
            return Err(HeadError::Malformed(
                "both Transfer-Encoding and Content-Length are there",
            ));
        }
        check_codings(fields)?;
        framing = Some(Framing::Chunked);
    }
    if fields.has(Known::ContentLength) {
        let mut lengths = fields.all(Known::ContentLength);
        let one = lengths.next().unwrap_or_default();
        if lengths.next().is_some() {
            return Err(HeadError::Malformed("Content-Length is there more than once"));
        }
        framing = Some(Framing::Length(parse_length(one)?));
    }
    Ok(framing)
}

/// Makes sure that `chunked` is the only coding. One before it is well formed and not offered; one after
/// it, or without it, leaves the end of the message unknown (RFC 9112 section 6.3).
fn check_codings(fields: &Fields) -> Result<(), HeadError> {
    let mut codings =
        fields.all(Known::TransferEncoding).flat_map(|value| value.split(|b| *b == b','));
    let is_chunked = |coding: &[u8]| coding.trim_ascii().eq_ignore_ascii_case(b"chunked");
    let (mut count, mut chunked, mut last) = (0, 0, false);
    for coding in &mut codings {
        last = is_chunked(coding);
        count += 1;
        chunked += usize::from(last);
    }
    match (count, chunked, last) {
        (1, 1, true) => Ok(()),
        (_, 1, true) => Err(HeadError::Coding),
        _ => Err(HeadError::Malformed("the transfer coding does not end in `chunked`, once")),
    }
}

/// Writes the fields of a head with `length` as the one length that they declare, whatever they say
/// themselves: what frames a message is the body that is sent with it, not what came with another.
fn encode_fields(fields: &Fields, length: Option<u64>, out: &mut Vec<u8>) {
    let says = fields.has(Known::ContentLength);
    let agrees = match length {
        None => !says,
        Some(length) => says && states(fields, length),
    };
    if agrees && !fields.has(Known::TransferEncoding) {
        return fields.encode(out);
    }
    fields.encode_without(&[Known::ContentLength, Known::TransferEncoding], out);
    if let Some(length) = length {
        out.extend_from_slice(b"content-length: ");
        push_decimal(out, length);
        out.extend_from_slice(b"\r\n");
    }
}

/// Whether there is one `Content-Length`, and it is this number as anybody would write it.
fn states(fields: &Fields, length: u64) -> bool {
    let mut all = fields.all(Known::ContentLength);
    let one = all.next().unwrap_or_default();
    let plain = one.len() == 1 || one.first().is_some_and(|digit| *digit != b'0');
    plain && parse_length(one) == Ok(length) && all.next().is_none()
}

/// The value of a `Content-Length` field: digits alone.
pub fn parse_length(text: &[u8]) -> Result<u64, HeadError> {
    if text.is_empty() || text.len() > 19 || !text.iter().all(u8::is_ascii_digit) {
        return Err(HeadError::Malformed("Content-Length is not a number"));
    }
    Ok(text.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

/// Whether a `Connection` field holds this option.
pub fn connection_has(fields: &Fields, option: &str) -> bool {
    fields.all(Known::Connection).any(|value| {
        value
            .split(|b| *b == b',')
            .any(|one| one.trim_ascii().eq_ignore_ascii_case(option.as_bytes()))
    })
}

/// Appends a decimal number.
pub fn push_decimal(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests;
