//! A cookie's value is part of its line, and one that Weft sets is read back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_proxy::cookie::{Template, value};
use weft_wire::Fields;

fuzz_target!(|bytes: &[u8]| {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let name = lines.next().and_then(|name| std::str::from_utf8(name).ok()).unwrap_or("a");
    let mut fields = Fields::new();
    for line in lines {
        fields.append("cookie", line);
    }
    let found = value(&fields, name);
    if let Some(found) = found {
        assert!(!found.contains(&b';'));
        assert_eq!(found, found.trim_ascii());
    }
    let Ok(template) = Template::new(name, "/", None) else { return };
    let set = template.set(0x2a, true);
    let pair = set.split(';').next().unwrap_or_default();
    let was = found.map(<[u8]>::to_vec);
    assert!(fields.append("cookie", pair.as_bytes()));
    // The first one of a name counts.
    let expected = was.unwrap_or_else(|| b"000000000000002a".to_vec());
    assert_eq!(value(&fields, name), Some(&*expected));
});
