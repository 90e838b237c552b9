//! Schemas that were spoiled at random, from a seed: reading and comparing ends, and what is kept is the same schema.

use weft_kernel::Rng;
use weft_schemas::{Format, Schema};

const SAMPLES: &[(Format, &str)] = &[
    (
        Format::Avro,
        r#"{"type":"record","name":"a.R","aliases":["S"],"fields":[{"name":"a","type":["null",{"type":"array","items":"R"}],"default":null},
        {"name":"e","type":{"type":"enum","name":"E","symbols":["A","B"],"default":"A"}},{"name":"f","type":{"type":"fixed","name":"F","size":2}},
        {"name":"m","type":{"type":"map","values":{"type":"long","logicalType":"timestamp-millis"}}}]}"#,
    ),
    (
        Format::Json,
        r##"{"$id":"http://x/y","type":["object","null"],"required":["a"],"properties":{"a":{"$ref":"#/$defs/x"},"b":{"enum":[1,"2",null]}},
        "patternProperties":{"^p":{"minimum":1}},"additionalProperties":{"type":"string"},"$defs":{"x":{"anyOf":[{"maxLength":3},
        {"items":[{"$ref":"#"},{"not":{"const":1}}],"additionalItems":false}]}},"allOf":[{"minProperties":1}],"dependencies":{"a":["b"]}}"##,
    ),
    (
        Format::Protobuf,
        r#"syntax = "proto3"; package p.q; import "google/protobuf/any.proto"; option go_package = "x\"y";
        message M { oneof o { int32 a = 1; N b = 2; } map<string, N> c = 3; optional bytes d = 4 [deprecated = true, json_name = "D"];
        reserved 9, 11 to 12; reserved "z"; google.protobuf.Any any = 8; message N { repeated E e = 1 [packed = false]; } enum E { Z = 0; Y = -1; } }
        service S { rpc R (M) returns (stream M.N); }"#,
    ),
    (
        Format::Protobuf,
        r#"syntax = "proto2"; message M { required string a = 1 [default = "\x01'\""]; optional double d = 2 [default = inf];
        extensions 100 to max; optional bytes b = 3 [default = "\377"]; enum E { option allow_alias = true; A = 1; B = 1; } optional E e = 4 [default = B]; }
        extend M { optional int32 x = 100; }"#,
    ),
];

fn spoiled(text: &str, rng: &mut Rng) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let mut any = |below: usize| rng.next_u64() as usize % below.max(1);
    for _ in 0..=any(3) {
        let (from, to) = (any(bytes.len()), any(bytes.len()));
        match any(4) {
            0 => bytes[from] = b"{}[]\"0,:;az$#"[any(13)],
            1 => drop(bytes.remove(from)),
            2 => {
                let part = bytes[from.min(to)..from.max(to)].to_vec();
                bytes.truncate(from.max(to));
                bytes.extend_from_slice(&part[..part.len().min(40)]);
            }
            _ => {
                // A word in place of another.
                let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric()).collect();
                let (one, other) = (words[any(words.len())], words[any(words.len())]);
                let now = String::from_utf8_lossy(&bytes).replacen(one, other, 1);
                bytes = now.into_bytes();
            }
        }
        if bytes.is_empty() {
            break;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn nothing_makes_it_panic_and_what_is_kept_is_the_same() {
    let mut rng = Rng::seeded(7);
    let mut read = 0;
    for (format, text) in SAMPLES {
        let whole = Schema::read(*format, text, &[]).unwrap();
        assert_eq!(whole.issues(&whole), [], "{text}");
        for _ in 0..400 {
            let spoiled = spoiled(text, &mut rng);
            let Ok(schema) = Schema::read(*format, &spoiled, &[]) else { continue };
            read += 1;
            let kept = schema.text(false);
            let again = Schema::read(*format, &kept, &[]);
            let again = again.unwrap_or_else(|error| panic!("{error}\n{spoiled}\n{kept}"));
            assert_eq!(again.canonical(false), schema.canonical(false), "{spoiled}");
            if let Some(packed) = schema.serialized() {
                let packed = Schema::read(*format, &packed, &[]);
                let packed = packed.unwrap_or_else(|error| panic!("{error}\n{spoiled}"));
                let printed = Schema::read(*format, &packed.text(false), &[]);
                let printed =
                    printed.unwrap_or_else(|error| panic!("{error}\n{}", packed.text(false)));
                assert_eq!(printed.issues(&packed), [], "{spoiled}");
            }
            let _ = (schema.issues(&whole), whole.issues(&schema));
            let _ = (schema.check(b"\x00\x02\x00", true), schema.check(b"{\"a\":[1]}", false));
        }
    }
    assert!(read > 100, "{read}");
}
