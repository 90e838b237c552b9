//! Reading a schema ends, what is kept of it is the same schema, comparing it ends, and payloads are judged.
//!
//! The first byte says the format, A, J or P; a NUL stands between schema and payload.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_schemas::{Format, Schema};

fuzz_target!(|data: &[u8]| {
    let Some((which, rest)) = data.split_first() else { return };
    let format = match which {
        b'J' => Format::Json,
        b'P' => Format::Protobuf,
        _ => Format::Avro,
    };
    let mut parts = rest.splitn(2, |byte| *byte == 0);
    let text = parts.next().and_then(|text| std::str::from_utf8(text).ok());
    let (Some(text), payload) = (text, parts.next().unwrap_or_default()) else { return };
    let Ok(schema) = Schema::read(format, text, &[]) else { return };
    let again = Schema::read(format, &schema.text(false), &[]).expect("what is kept can be read");
    assert_eq!(again.canonical(false), schema.canonical(false));
    let _ = schema.issues(&again);
    let _ = schema.check(payload, true);
    let _ = schema.check(payload, false);
});
