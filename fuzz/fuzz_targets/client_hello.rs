//! A verdict never changes with what arrives later, and a name is a host name.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_wire::client_hello::{Hello, server_name};

fuzz_target!(|bytes: &[u8]| {
    let verdict = server_name(bytes);
    if let Hello::Sni(Some(name)) = &verdict {
        assert!(name.len() <= 253);
        assert!(name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.')));
    }
    let earlier = server_name(&bytes[..bytes.len() / 2]);
    if earlier != Hello::Incomplete {
        assert_eq!(earlier, verdict);
    }
});
