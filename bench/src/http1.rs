//! Requests and responses of HTTP/1.1 as bytes, for clients that do as little as they can.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};

/// Writes a request.
pub(crate) fn request(
    out: &mut Vec<u8>,
    host: SocketAddr,
    method: &str,
    path: &str,
    field: &str,
    body: &[u8],
) {
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {host}\r\n{field}\r\ncontent-length: {length}\r\n\r\n"
    );
    out.extend(head.as_bytes());
    out.extend(body);
}

/// A response's head: its status, the bytes it takes, and its body's length unless that comes in chunks.
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) size: usize,
    pub(crate) length: Option<usize>,
}

/// The head of the next response, once it is wholly there.
pub(crate) fn head(bytes: &[u8]) -> Result<Option<Head>> {
    let mut fields = [httparse::EMPTY_HEADER; 40];
    let mut response = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(size) = response.parse(bytes)? else { return Ok(None) };
    let status = response.code.context("a response without a status")?;
    let length = response.headers.iter().find(|f| f.name.eq_ignore_ascii_case("content-length"));
    let length = match length {
        Some(field) => Some(std::str::from_utf8(field.value)?.trim().parse()?),
        None if status == 204 => Some(0),
        None => None,
    };
    Ok(Some(Head { status, size, length }))
}

/// The body of the next response, which must be one of success, once it is wholly there; the bytes it
/// takes in all.
pub(crate) fn response(bytes: &[u8]) -> Result<Option<(&[u8], usize)>> {
    let Some(head) = head(bytes)? else { return Ok(None) };
    let length = head.length.context("a response whose length is not told")?;
    let Some(body) = bytes.get(head.size..head.size + length) else { return Ok(None) };
    if !(200..300).contains(&head.status) {
        bail!("status {}: {}", head.status, body.escape_ascii());
    }
    Ok(Some((body, head.size + length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_responses_when_they_are_whole() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 503 No\r\n";
        for cut in 0..41 {
            assert!(response(&text[..cut]).expect("not yet").is_none(), "{cut}");
        }
        assert_eq!(response(text).expect("whole"), Some((&b"abc"[..], 41)));
        assert!(response(b"HTTP/1.1 409 No\r\ncontent-length: 2\r\n\r\n{}").is_err());
        assert!(response(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
    }
}
