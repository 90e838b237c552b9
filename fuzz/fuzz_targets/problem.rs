//! Whatever text is reported, JSON strings end where they should and `Proxy-Status` is a structured field.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_kernel::Reason;
use weft_wire::{problem::write_json_string, proxy_status::ProxyStatus, structured};

fuzz_target!(|text: &str| {
    let mut out = Vec::new();
    write_json_string(text, &mut out);
    let inner = &out[1..out.len() - 1];
    assert!(inner.iter().all(|byte| *byte >= 0x20));
    let mut escaped = false;
    for byte in inner {
        assert!(escaped || *byte != b'"');
        escaped = !escaped && *byte == b'\\';
    }
    assert!(!escaped);

    out.clear();
    ProxyStatus::error(Reason::Internal).details(text).next_hop(text).write(&mut out);
    assert!(structured::parse_list(&out).is_ok());
});
