//! A key in quotes is the string of structured fields, the same without them is the same key, and no two requests of
//! different routes, scopes or keys are one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_gateway::idempotency::{EntryKey, KEY_BYTES_MAX, key_of};
use weft_wire::{
    Fields,
    structured::{Bare, Item, Params, parse_item, write_item},
};

fn read(value: &[u8]) -> Option<String> {
    let mut fields = Fields::new();
    fields.append("idempotency-key", value).then(|| key_of(&fields).ok().flatten())?
}

fuzz_target!(|bytes: &[u8]| {
    let said = parse_item(bytes);
    let found = read(bytes);
    if let Ok(Item { value: Bare::String(text), .. }) = &said
        && (1..=KEY_BYTES_MAX).contains(&text.len())
    {
        assert_eq!(found.as_deref(), Some(&**text));
    }
    let Some(key) = found else { return };
    assert!(
        (1..=KEY_BYTES_MAX).contains(&key.len())
            && key.bytes().all(|byte| (b' '..=b'~').contains(&byte))
    );
    let mut quoted = Vec::new();
    let item = Item { value: Bare::String(key.clone()), params: Params::default() };
    write_item(&item, &mut quoted).unwrap();
    assert_eq!(read(&quoted).as_ref(), Some(&key));
    let mut twice = Fields::new();
    twice.append("idempotency-key", &quoted);
    twice.append("idempotency-key", &quoted);
    assert!(key_of(&twice).is_err());

    let entry = EntryKey::new("route", "consumer:ada", &key);
    assert_eq!(entry.parts(), ["route", "consumer:ada", &key]);
    // By the text that names it, its scope has no colon.
    let plain = EntryKey::new("route", "ada", &key);
    assert_eq!(EntryKey::parse(&format!("route:ada:{key}")), Some(plain));
});
