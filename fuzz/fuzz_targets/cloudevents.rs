//! Events in JSON: what is read is written, and reads the same in each binding.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_wire::{
    amqp::Properties,
    cloudevents::{amqp, http, json},
};

fuzz_target!(|bytes: &[u8]| {
    let Ok(events) = json::parse_batch(bytes, 64).or_else(|_| json::parse(bytes).map(|one| vec![one]))
    else {
        return;
    };
    for event in events {
        let mut out = Vec::new();
        json::write(&event, &mut out);
        assert_eq!(json::parse(&out).unwrap(), event);

        let mut fields: Vec<(String, String)> = Vec::new();
        http::write(&event, |name, value| fields.push((name.into(), value.into())));
        let pairs = fields.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        let again = http::parse(pairs, event.data.as_deref().unwrap_or_default()).unwrap();
        assert_eq!((&again.id, &again.source, &again.kind), (&event.id, &event.source, &event.kind));
        assert_eq!(again.extensions.len(), event.extensions.len());

        let mut raw = Vec::new();
        amqp::write(&event, &Properties::default(), &mut raw);
        let properties = Properties::parse(&raw).unwrap();
        let again = amqp::parse(&properties, event.data.as_deref().unwrap_or_default());
        assert_eq!(again.unwrap().unwrap().extensions, event.extensions);
    }
});
