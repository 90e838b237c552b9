//! Timeouts, messages, content types and frames: what is read is written back the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_wire::grpc::{
    ContentType, Messages, Status, decode_message, encode_message, format_timeout, parse_timeout,
};

fuzz_target!(|bytes: &[u8]| {
    if let Some(span) = parse_timeout(bytes) {
        let mut out = Vec::new();
        format_timeout(span, &mut out);
        assert_eq!(parse_timeout(&out), Some(span));
    }
    let text = decode_message(bytes);
    let mut out = Vec::new();
    encode_message(&text, &mut out);
    assert_eq!(decode_message(&out), text);
    let _ = Status::parse(bytes);
    if let Some(found) = ContentType::of(bytes) {
        let mut out = Vec::new();
        found.write_as(found.kind, &mut out);
        assert_eq!(ContentType::of(&out), Some(found));
    }

    // However a body is cut, the same messages are seen.
    let cut = bytes.first().map_or(0, |at| usize::from(*at) % (bytes.len() + 1));
    let (mut whole, mut parts) = (Messages::new(1024), Messages::new(1024));
    let first = whole.push(bytes);
    let second = parts.push(&bytes[..cut]).and_then(|()| parts.push(&bytes[cut..]));
    assert_eq!(first, second);
    assert_eq!((whole.count(), whole.is_whole()), (parts.count(), parts.is_whole()));
});
