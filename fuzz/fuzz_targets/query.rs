//! Reading a parameter ends, gives no more than is there, and an untouched pair is read as it stands.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_proxy::query::values;

fuzz_target!(|text: &str| {
    let (name, query) = text.split_once('\n').unwrap_or(("a", text));
    let found: Vec<_> = values(query, name).collect();
    assert!(found.len() <= query.split('&').count());
    assert!(found.iter().map(|value| value.len()).sum::<usize>() <= query.len());

    // One more at the end is read, and changes nothing before it.
    let escaped: String = name.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let more = format!("{query}&{escaped}=x%20y+z");
    let again: Vec<_> = values(&more, name).collect();
    assert_eq!(again.len(), found.len() + 1);
    assert_eq!(again[..found.len()], found);
    assert_eq!(again.last().map(AsRef::as_ref), Some(&b"x y z"[..]));
});
