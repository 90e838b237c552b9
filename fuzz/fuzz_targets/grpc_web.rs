//! Both directions of gRPC-Web: cuts change nothing, and base64 comes back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_wire::grpc_web::{Splitter, TextDecoder, TextEncoder};

fuzz_target!(|bytes: &[u8]| {
    let cut = bytes.first().map_or(0, |at| usize::from(*at) % (bytes.len() + 1));
    let (head, tail) = bytes.split_at(cut);

    let (mut encoder, mut text) = (TextEncoder::default(), Vec::new());
    encoder.push(head, &mut text);
    if cut % 2 == 0 {
        encoder.flush(&mut text);
    }
    encoder.push(tail, &mut text);
    encoder.flush(&mut text);
    let (mut decoder, mut back) = (TextDecoder::default(), Vec::new());
    let (first, second) = text.split_at(cut.min(text.len()));
    decoder.push(first, &mut back).unwrap();
    decoder.push(second, &mut back).unwrap();
    assert!(decoder.is_whole());
    assert_eq!(back, bytes);

    let (mut one, mut two) = (TextDecoder::default(), TextDecoder::default());
    let (mut first, mut second) = (Vec::new(), Vec::new());
    let whole = one.push(bytes, &mut first);
    let parts = two.push(head, &mut second).and_then(|()| two.push(tail, &mut second));
    assert_eq!(whole, parts);
    if whole.is_ok() {
        assert_eq!(first, second);
    }

    let (mut one, mut two) = (Splitter::new(1024), Splitter::new(1024));
    let (mut first, mut second) = (Vec::new(), Vec::new());
    let whole = one.push(bytes, &mut first);
    let parts = two.push(head, &mut second).and_then(|()| two.push(tail, &mut second));
    assert_eq!(whole, parts);
    if whole.is_ok() {
        assert_eq!((first, one.is_whole()), (second, two.is_whole()));
    }
});
