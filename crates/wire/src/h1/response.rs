//! Response heads: parsed from a service, written to a client.

use std::mem::MaybeUninit;

use super::{
    COUNT_CEILING, Framing, HeadError, HeadLimits, collect, declared, encode_fields, head_len,
    keeps_alive, version_of,
};
use crate::fields::Known;
use crate::head::{Method, ResponseHead, Version};

/// A response head that was read, with its length and how its body is framed.
#[derive(Debug)]
pub struct ParsedResponse {
    /// The head.
    pub head: ResponseHead,
    /// How many bytes it took.
    pub used: usize,
    /// How its body is framed.
    pub framing: Framing,
    /// Whether the connection may carry another request afterwards.
    pub keep_alive: bool,
    /// The version of the peer.
    pub version: Version,
}

/// Reads the head of the response to a request of `method` from the beginning of `bytes`; `None` if it
/// is not all there yet.
pub fn parse_response(
    bytes: &[u8],
    method: &Method,
    limits: HeadLimits,
) -> Result<Option<ParsedResponse>, HeadError> {
    let seen = &bytes[..bytes.len().min(limits.bytes_max)];
    let mut room = [const { MaybeUninit::uninit() }; COUNT_CEILING];
    let room = &mut room[..limits.count_max.min(COUNT_CEILING)];
    match parse_within(seen, room, method, limits) {
        Err(HeadError::TooMany(_)) if limits.count_max > COUNT_CEILING => {
            // A line takes at least four bytes, so that the bytes bound their number too.
            let most = limits.count_max.min(seen.len() / 4 + 1);
            let mut room: Vec<_> = (0..most).map(|_| MaybeUninit::uninit()).collect();
            parse_within(seen, &mut room, method, limits)
        }
        parsed => parsed,
    }
}

fn parse_within<'a>(
    seen: &'a [u8],
    room: &mut [MaybeUninit<httparse::Header<'a>>],
    method: &Method,
    limits: HeadLimits,
) -> Result<Option<ParsedResponse>, HeadError> {
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut response,
        seen,
        room,
    );
    let Some(used) = head_len(parsed, seen, limits)? else { return Ok(None) };
    let version = version_of(response.version);
    let status = response.code.unwrap_or_default();
    if !(100..=999).contains(&status) {
        return Err(HeadError::Malformed("the status is not three digits"));
    }
    let fields = collect(response.headers, used);
    let is_http10 = version == Version::Http10;
    let declared = declared(&fields, is_http10)?;
    let framing = match ResponseHead::may_have_body(status, method) {
        true => declared.unwrap_or(Framing::Close),
        false => Framing::None,
    };
    let keep_alive = keeps_alive(&fields, is_http10);
    Ok(Some(ParsedResponse {
        head: ResponseHead { status, fields },
        used,
        framing,
        keep_alive: keep_alive && framing != Framing::Close,
        version,
    }))
}

/// Writes a response head for an HTTP/1.1 client. The fields are written as they are, but for those that
/// frame the body: `framing` decides what is said of it, and `connection` what becomes of the connection.
/// Without a body the length that the fields declare stays, as for HEAD (RFC 9110 section 8.6).
pub fn encode_response(
    head: &ResponseHead,
    framing: Framing,
    connection: Option<&str>,
    out: &mut Vec<u8>,
) {
    out.reserve(head.fields.wire_len() + 96);
    if head.status == 200 {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    } else {
        out.extend_from_slice(b"HTTP/1.1 ");
        super::push_decimal(out, u64::from(head.status));
        out.push(b' ');
        out.extend_from_slice(reason_phrase(head.status).as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    match framing {
        Framing::None => head.fields.encode_without(&[Known::TransferEncoding], out),
        Framing::Length(length) => encode_fields(&head.fields, Some(length), out),
        Framing::Chunked | Framing::Close => encode_fields(&head.fields, None, out),
    }
    if let Some(option) = connection {
        out.extend_from_slice(b"connection: ");
        out.extend_from_slice(option.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    if framing == Framing::Chunked {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// The phrase of a status in the IANA registry; empty for one that is not there.
pub const fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        207 => "Multi-Status",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}
