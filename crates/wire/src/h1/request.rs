//! Request heads: parsed from a client, written to a service.

use std::mem::MaybeUninit;

use super::{
    COUNT_CEILING, Framing, HeadError, HeadLimits, METHOD_MAX, collect, declared, encode_fields,
    head_len, keeps_alive, version_of,
};
use crate::{
    fields::{Known, is_token},
    head::{Method, RequestHead, Version},
};

/// A request head that was read, with its length and how its body is framed.
#[derive(Debug)]
pub struct ParsedRequest {
    /// The head.
    pub head: RequestHead,
    /// How many bytes it took.
    pub used: usize,
    /// How its body is framed.
    pub framing: Framing,
    /// Whether the connection may serve another request afterwards.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
}

/// Reads a request head from the beginning of `bytes`; `None` if it is not all there yet.
pub fn parse_request(bytes: &[u8], limits: HeadLimits) -> Result<Option<ParsedRequest>, HeadError> {
    // One empty line before a request is to be ignored (RFC 9112 section 2.2); more is not.
    let skipped = if bytes.starts_with(b"\r\n") { 2 } else { 0 };
    let bytes = &bytes[skipped..];
    if matches!(bytes.first(), Some(b'\r' | b'\n')) && bytes.len() > 1 {
        return Err(HeadError::Malformed("empty lines stand before the request line"));
    }
    let seen = &bytes[..bytes.len().min(limits.bytes_max)];
    let mut room = [const { MaybeUninit::uninit() }; COUNT_CEILING];
    let room = &mut room[..limits.count_max.min(COUNT_CEILING)];
    let mut request = httparse::Request::new(&mut []);
    let parsed = request.parse_with_uninit_headers(seen, room);
    if parsed == Err(httparse::Error::Version) && !names_version(seen) {
        return Err(HeadError::Malformed("the request line is not method, target and version"));
    }
    let Some(used) = head_len(parsed, seen, limits)? else { return Ok(None) };
    let version = version_of(request.version);
    let method = request.method.unwrap_or_default();
    if method.len() > METHOD_MAX {
        return Err(HeadError::Method);
    }
    let method = Method::of(method);
    let mut fields = collect(request.headers, used);
    let is_http10 = version == Version::Http10;
    let framing = declared(&fields, is_http10)?.unwrap_or(Framing::None);
    let keep_alive = keeps_alive(&fields, is_http10);
    let target = check_target(&method, request.path.unwrap_or_default(), &mut fields, is_http10)?;
    let asks = fields.has(Known::Upgrade) && !is_http10;
    let upgrade =
        if asks && super::connection_has(&fields, "upgrade") { upgrade(&fields) } else { None };
    let expects_continue = expects_continue(&fields)? && !is_http10;
    Ok(Some(ParsedRequest {
        head: RequestHead { method, target, version, fields, upgrade },
        used: used + skipped,
        framing,
        keep_alive,
        expects_continue,
    }))
}

/// The one protocol, in lower case, of those that a client would change to: a WebSocket before others, and
/// else the first. No version of HTTP and no TLS, by which it would speak past whoever stands between
/// (`h2c`, RFC 7540 section 3.2; `TLS/1.0`, RFC 2817), and nothing that is no protocol.
fn upgrade(fields: &crate::fields::Fields) -> Option<Box<str>> {
    let mut first = None;
    let tokens = fields.all(Known::Upgrade).flat_map(|line| line.split(|b| *b == b','));
    for token in tokens.map(<[u8]>::trim_ascii) {
        let mut parts = token.split(|b| *b == b'/');
        let is_protocol = parts.clone().count() <= 2
            && parts.clone().all(|part| !part.is_empty() && part.iter().all(|b| is_token(*b)));
        let name = parts.next().unwrap_or_default();
        let past = [&b"h2c"[..], b"h2", b"h3", b"http", b"http2", b"http2.0", b"tls"];
        if !is_protocol || past.iter().any(|past| name.eq_ignore_ascii_case(past)) {
            continue;
        }
        if token.eq_ignore_ascii_case(b"websocket") {
            return Some("websocket".into());
        }
        if first.is_none() {
            first = Some(String::from_utf8_lossy(token).to_ascii_lowercase().into());
        }
    }
    first
}

/// Whether a request line that names no version that is offered has the form of one that does.
fn names_version(seen: &[u8]) -> bool {
    let end = memchr::memchr2(b'\r', b'\n', seen).unwrap_or(seen.len());
    let mut parts = seen[..end].split(|b| *b == b' ');
    let version = parts.nth(2).and_then(|version| version.strip_prefix(b"HTTP/"));
    parts.next().is_none()
        && version.is_some_and(|version| version.iter().all(|b| b.is_ascii_digit() || *b == b'.'))
}

/// Whether a request waits for `100 Continue`; an error for any other expectation (RFC 9110 section
/// 10.1.1).
pub fn expects_continue(fields: &crate::fields::Fields) -> Result<bool, HeadError> {
    let mut all = fields.all(Known::Expect);
    match all.all(|value| value.eq_ignore_ascii_case(b"100-continue")) {
        true => Ok(fields.has(Known::Expect)),
        false => Err(HeadError::Expectation),
    }
}

/// Brings the four forms of a request target (RFC 9112 section 3.2) to path and query, and makes sure
/// of one `Host` field that is a host.
fn check_target(
    method: &Method,
    target: &str,
    fields: &mut crate::fields::Fields,
    is_http10: bool,
) -> Result<String, HeadError> {
    if fields.all(Known::Host).nth(1).is_some() {
        return Err(HeadError::Malformed("Host is there more than once"));
    }
    match fields.get(Known::Host) {
        Some(host) if !is_authority(host) => {
            return Err(HeadError::Malformed("Host is not a host"));
        }
        None if !is_http10 => return Err(HeadError::Malformed("Host is missing")),
        _ => {}
    }
    if *method == Method::Connect {
        if !is_authority(target.as_bytes()) || !target.contains(':') {
            return Err(HeadError::Malformed("CONNECT needs host and port"));
        }
        fields.set(Known::Host, target.as_bytes());
        return Ok(target.into());
    }
    if target.starts_with('/') {
        return Ok(target.into());
    }
    if target == "*" {
        return match method {
            Method::Options => Ok("*".into()),
            _ => Err(HeadError::Malformed("the target * is for OPTIONS alone")),
        };
    }
    let rest = ["http://", "https://"]
        .iter()
        .find_map(|scheme| {
            let (head, rest) = target.split_at_checked(scheme.len())?;
            head.eq_ignore_ascii_case(scheme).then_some(rest)
        })
        .ok_or(HeadError::Malformed("the request target is neither a path nor a URL"))?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.is_empty() || !is_authority(authority.as_bytes()) {
        return Err(HeadError::Malformed("the URL of the request has no host"));
    }
    // The authority of the target wins over the field (RFC 9112 section 3.2.2).
    fields.set(Known::Host, authority.as_bytes());
    if path.is_empty() && *method == Method::Options {
        // For the server as a whole (RFC 9112 section 3.2.4).
        return Ok("*".into());
    }
    Ok(if path.starts_with('/') { path.into() } else { format!("/{path}") })
}

/// The bytes of a name that is a host.
static OF_HOST: [bool; 256] = {
    let mut of_host = [false; 256];
    let mut at = 0_usize;
    while at < 256 {
        let byte = at as u8;
        of_host[at] =
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'!' | b'*');
        at += 1;
    }
    of_host
};

/// Whether bytes are a host with an optional port: no user, no path, no space, and nothing that is written
/// as `%73`, since the same host could then be spelt in many ways.
pub fn is_authority(bytes: &[u8]) -> bool {
    if bytes.is_empty() || bytes.len() > 255 + 6 {
        return false;
    }
    let (host, port) = if bytes[0] == b'[' {
        let Some(end) = memchr::memchr(b']', bytes) else { return false };
        let inside = &bytes[1..end];
        if !inside.iter().all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.'))
            || inside.is_empty()
        {
            return false;
        }
        (&bytes[..=end], &bytes[end + 1..])
    } else {
        let end = memchr::memchr(b':', bytes).unwrap_or(bytes.len());
        if !bytes[..end].iter().all(|byte| OF_HOST[usize::from(*byte)]) {
            return false;
        }
        (&bytes[..end], &bytes[end..])
    };
    let port_is_fine = match port {
        [] => true,
        [b':', digits @ ..] => {
            let port = |digits: &[u8]| {
                digits.iter().fold(0, |port: u32, digit| port * 10 + u32::from(digit & 15))
            };
            // Five digits fit.
            digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit) && port(digits) <= 65_535
        }
        _ => false,
    };
    !host.is_empty() && port_is_fine
}

/// Writes a request head for an HTTP/1.1 peer. The fields are written as they are, since hop-by-hop fields
/// are the caller's to strip, but for those that frame the body: `framing` alone decides what is said of
/// it. A request that could have a body and has none says so (RFC 9110 section 8.6).
pub fn encode_request(head: &RequestHead, framing: Framing, out: &mut Vec<u8>) {
    out.reserve(head.target.len() + head.fields.wire_len() + 96);
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(head.target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let length = match framing {
        Framing::Length(length) => Some(length),
        Framing::None => {
            let says = head.fields.has(Known::ContentLength) || head.method.may_have_body();
            (says && head.upgrade.is_none()).then_some(0)
        }
        Framing::Chunked | Framing::Close => None,
    };
    encode_fields(&head.fields, length, out);
    if let Some(protocol) = &head.upgrade {
        out.extend_from_slice(b"connection: upgrade\r\nupgrade: ");
        out.extend_from_slice(protocol.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    if framing == Framing::Chunked {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    out.extend_from_slice(b"\r\n");
}
