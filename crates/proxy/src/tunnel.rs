//! Upgrades: WebSocket over HTTP/1.1 and, from the client, over HTTP/2 (RFC 8441).
//!
//! The service is always asked by HTTP/1.1. A client that came by HTTP/2 with extended CONNECT has no
//! key to be answered, so Weft makes one and checks the service's answer to it itself.

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use weft_kernel::{Error, Reason, Result, Retry, Rng};
use weft_wire::{Fields, Known, Method, RequestHead, Version};

/// What RFC 6455 section 1.3 appends to a key.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Makes an upgrade ready to be asked for by HTTP/1.1; gives the key that the service must answer, if
/// Weft made it.
pub(crate) fn prepare(head: &mut RequestHead, rng: &mut Rng) -> Result<Option<String>> {
    let Some(protocol) = &head.upgrade else { return Ok(None) };
    if head.version != Version::Http2 {
        return Ok(None);
    }
    if &**protocol != "websocket" {
        return Err(Error::new(
            Reason::NotSupported,
            format!("extended CONNECT for `{protocol}` is not offered"),
        ));
    }
    head.method = Method::Get;
    let mut key = [0u8; 16];
    key[..8].copy_from_slice(&rng.next_u64().to_le_bytes());
    key[8..].copy_from_slice(&rng.next_u64().to_le_bytes());
    let key = STANDARD.encode(key);
    head.fields.set(Known::SecWebSocketKey, key.as_bytes());
    if !head.fields.has(Known::SecWebSocketVersion) {
        head.fields.add(Known::SecWebSocketVersion, b"13");
    }
    Ok(Some(key))
}

/// Why an answer that switches no protocol is kept from a client that asked by extended CONNECT: to that any
/// 2xx says that the tunnel stands (RFC 8441 section 5).
pub(crate) fn refused(by_service: bool) -> Error {
    if by_service {
        let say = "the service answered a handshake as done without switching protocols";
        return Error::new(Reason::UpstreamMalformed, say).retry(Retry::No);
    }
    Error::new(Reason::NotSupported, "no protocol is switched to here")
}

/// Checks the service's answer to a key that Weft made.
pub(crate) fn check(fields: &mut Fields, key: &str) -> Result<()> {
    let mut text = key.as_bytes().to_vec();
    text.extend_from_slice(GUID);
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &text);
    let expected = STANDARD.encode(hash.as_ref());
    if fields.get(Known::SecWebSocketAccept) != Some(expected.as_bytes()) {
        return Err(Error::new(
            Reason::UpstreamMalformed,
            "the service answered the WebSocket handshake wrongly",
        ));
    }
    // What stays is the client's to read: by HTTP/2 there is no key to answer.
    fields.remove(Known::SecWebSocketAccept);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(version: Version, method: Method, protocol: &str) -> RequestHead {
        RequestHead {
            method,
            target: "/ws".into(),
            version,
            fields: Fields::new(),
            upgrade: Some(protocol.into()),
        }
    }

    #[test]
    fn extended_connect_becomes_a_handshake() {
        let mut head = head(Version::Http2, Method::Connect, "websocket");
        let key = prepare(&mut head, &mut Rng::seeded(1)).unwrap().unwrap();
        assert_eq!(head.method, Method::Get);
        assert_eq!(head.fields.get(Known::SecWebSocketKey), Some(key.as_bytes()));
        let mut wrong = Fields::new();
        wrong.add(Known::SecWebSocketAccept, b"no");
        assert!(check(&mut wrong, &key).is_err());
    }

    #[test]
    fn the_example_of_the_rfc() {
        let mut fields = Fields::new();
        fields.add(Known::SecWebSocketAccept, b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        check(&mut fields, "dGhlIHNhbXBsZSBub25jZQ==").unwrap();
        assert!(fields.is_empty());
    }

    #[test]
    fn other_protocols_are_refused_over_http2() {
        for protocol in ["connect-udp", "h2c"] {
            let mut odd = head(Version::Http2, Method::Connect, protocol);
            assert!(prepare(&mut odd, &mut Rng::seeded(1)).is_err());
        }
    }
}
