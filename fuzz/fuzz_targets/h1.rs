//! Heads and chunks: what is read once is read the same again, and cuts change nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_wire::{
    Method,
    h1::{ChunkedDecoder, Decoded, HeadLimits, parse_request, parse_response},
};

const LIMITS: HeadLimits = HeadLimits { bytes_max: 4096, count_max: 32 };

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some(request)) = parse_request(bytes, LIMITS) {
        assert!(request.used <= bytes.len());
        let again = parse_request(&bytes[..request.used], LIMITS).unwrap().unwrap();
        assert_eq!((again.head, again.framing), (request.head, request.framing));
        assert!(matches!(parse_request(&bytes[..request.used - 1], LIMITS), Ok(None)));
    }
    if let Ok(Some(response)) = parse_response(bytes, &Method::Get, LIMITS) {
        assert!(response.used <= bytes.len());
        let again = parse_response(&bytes[..response.used], &Method::Get, LIMITS).unwrap().unwrap();
        assert_eq!((again.head, again.framing), (response.head, response.framing));
    }
    let whole = decoded(bytes, bytes.len());
    for step in [1, 2, 7] {
        let parts = decoded(bytes, step);
        // A piece at a time, body bytes come before a fault behind them is seen.
        assert_eq!(whole.1, parts.1);
        assert_eq!(whole.0, parts.0);
    }
});

/// The body, and whether it ended or broke, of chunks that arrive `step` bytes at a time.
fn decoded(bytes: &[u8], step: usize) -> (Vec<u8>, Option<bool>) {
    let mut decoder = ChunkedDecoder::default();
    let (mut body, mut held) = (Vec::new(), Vec::new());
    for piece in bytes.chunks(step.max(1)) {
        held.extend_from_slice(piece);
        loop {
            match decoder.decode(&held) {
                Err(_) => return (body, Some(false)),
                Ok(Decoded::More { skip }) => {
                    held.drain(..skip);
                    break;
                }
                Ok(Decoded::Data { skip, len }) => {
                    body.extend_from_slice(&held[skip..skip + len]);
                    held.drain(..skip + len);
                }
                Ok(Decoded::End { skip, .. }) => {
                    assert!(skip <= held.len() && decoder.is_done());
                    return (body, Some(true));
                }
            }
        }
    }
    (body, None)
}
