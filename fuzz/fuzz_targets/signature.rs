//! A signature that nobody could make is none, and one by RFC 9421 over components of any request is good, until one of
//! them is changed. The lines are a target, `Signature-Input`, `Signature`, components, and fields.
#![no_main]

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_lc_rs::hmac;
use libfuzzer_sys::fuzz_target;
use weft_gateway::{
    Signature, SignatureKey,
    signature::{COMPONENTS_MAX, FIELD_BYTES_MAX, Message, is_component, verify},
};
use weft_identity::token::{Algorithm, KeySet};
use weft_kernel::Name;
use weft_wire::{
    RequestHead,
    structured::{Bare, Item, Params, write_item},
};

const SECRET: [u8; 32] = [7; 32];
const MADE: u64 = 1_700_000_000;

fn is_good(head: &RequestHead, target: &str, settings: &Signature) -> bool {
    let name = Name::new("k").unwrap();
    let key = SignatureKey {
        name: name.clone(),
        id: "k".into(),
        consumer: name,
        algorithm: Algorithm::Hs256,
        key: Arc::new(KeySet::of_secret(&SECRET, &[Algorithm::Hs256]).unwrap()),
    };
    let message =
        Message { head, target, host: "Shop.example:443", is_secure: true, has_body: false };
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(MADE);
    let verified = verify(settings, |id| (id == "k").then_some(&key), &message, wall);
    verified.is_ok_and(|found| found.is_some())
}

/// What a component is, as RFC 9421 has it.
fn component(head: &RequestHead, target: &str, name: &str) -> Option<Vec<u8>> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Some(match name {
        "@method" => b"GET".to_vec(),
        "@authority" => b"shop.example".to_vec(),
        "@scheme" => b"https".to_vec(),
        "@path" => path.into(),
        "@query" => format!("?{query}").into(),
        "@request-target" => target.into(),
        "@target-uri" => format!("https://shop.example{target}").into(),
        _ => {
            let lines: Vec<&[u8]> = head.fields.all_named(name).map(<[u8]>::trim_ascii).collect();
            let between: &[u8] = if name == "cookie" { b"; " } else { b", " };
            (!lines.is_empty()).then(|| lines.join(between))?
        }
    })
}

fuzz_target!(|bytes: &[u8]| {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let target = lines.next().and_then(|line| std::str::from_utf8(line).ok()).unwrap_or("/");
    let (input, signature) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let components =
        lines.next().and_then(|line| std::str::from_utf8(line).ok()).unwrap_or_default();
    let mut head = RequestHead { target: target.to_owned(), ..RequestHead::none() };
    for line in lines {
        let Some(at) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = String::from_utf8_lossy(&line[..at]).to_ascii_lowercase();
        if !["signature", "signature-input"].contains(&&*name) {
            head.fields.append(&name, &line[at + 1..]);
        }
    }
    let settings = Signature { components: Vec::new(), ..Signature::default() };

    let mut forged = head.clone();
    forged.fields.append("signature-input", input);
    forged.fields.append("signature", signature);
    assert!(!is_good(&forged, target, &settings), "nobody else has the secret");
    assert!(!is_good(&forged, target, &Signature { nonce: true, ..settings.clone() }));

    let names: Vec<&str> = components.split(' ').filter(|name| is_component(name)).collect();
    let is_fit = names.len() <= COMPONENTS_MAX
        && names.iter().collect::<HashSet<_>>().len() == names.len()
        && !names.contains(&"content-digest")
        && components.len() < FIELD_BYTES_MAX / 2;
    let values: Option<Vec<_>> = names.iter().map(|name| component(&head, target, name)).collect();
    let (true, Some(values)) = (is_fit, values) else { return };
    let quoted: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    let parameters = format!("({});created={MADE};keyid=\"k\"", quoted.join(" "));
    let mut base = Vec::new();
    for (name, value) in quoted.iter().zip(&values) {
        base.extend_from_slice(&[name.as_bytes(), b": ", value, b"\n"].concat());
    }
    base.extend_from_slice(format!("\"@signature-params\": {parameters}").as_bytes());
    let key = hmac::Key::new(hmac::HMAC_SHA256, &SECRET);
    let made = Bare::Bytes(hmac::sign(&key, &base).as_ref().to_vec());
    let mut written = b"s=".to_vec();
    write_item(&Item { value: made, params: Params::default() }, &mut written).unwrap();
    head.fields.append("signature-input", format!("s={parameters}").as_bytes());
    head.fields.append("signature", &written);
    assert!(is_good(&head, target, &settings), "{parameters}");

    for name in names.iter().filter(|name| !name.starts_with('@')) {
        let mut changed = head.clone();
        changed.fields.append(name, b"more");
        assert!(!is_good(&changed, target, &settings), "{name} is covered");
    }
    if names.iter().any(|name| ["@target-uri", "@request-target", "@query"].contains(name)) {
        let more = if target.contains('?') { "&more" } else { "?more" };
        assert!(!is_good(&head, &format!("{target}{more}"), &settings), "the query is covered");
    }
});
