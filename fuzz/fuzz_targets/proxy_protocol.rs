//! A header that is read is written, and reads the same again; a verdict does not need what follows.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_wire::proxy_protocol::{Parsed, encode, parse};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Parsed::Complete(header, used)) = parse(bytes) {
        assert!(used <= bytes.len());
        assert_eq!(parse(&bytes[..used]), Ok(Parsed::Complete(header, used)));
        assert_eq!(parse(&bytes[..used - 1]), Ok(Parsed::Incomplete));
        let mut out = Vec::new();
        encode(&header, &mut out);
        let Ok(Parsed::Complete(again, _)) = parse(&out) else { panic!("{out:?}") };
        assert_eq!(again.ends, header.ends);
    }
});
