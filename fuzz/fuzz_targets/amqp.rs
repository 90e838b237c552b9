//! Frames, methods, tables and properties of AMQP 0-9-1: what is read is written, and reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_wire::amqp::{ContentHeader, FrameKind, Method, Properties, Table, Value, frame};

fuzz_target!(|bytes: &[u8]| {
    let mut at = 0;
    while let Ok(Some((found, used))) = frame::parse(&bytes[at..], 4096) {
        assert!(used <= 4096 && at + used <= bytes.len());
        assert!(matches!(frame::parse(&bytes[at..at + used - 1], 4096), Ok(None)));
        at += used;
        match found.kind {
            FrameKind::Method => method(found.payload),
            FrameKind::Header => {
                if let Ok(header) = ContentHeader::parse(found.payload) {
                    same(&header.properties);
                }
            }
            FrameKind::Body | FrameKind::Heartbeat => {}
        }
    }
    method(bytes);
    if let Ok(properties) = Properties::parse(bytes) {
        same(&properties);
    }
    if let Ok(table) = Table::parse(bytes) {
        walk(table);
    }
});

fn method(payload: &[u8]) {
    let Ok(method) = Method::parse(payload) else { return };
    let mut out = Vec::new();
    method.write(1, &mut out);
    let (found, used) = frame::parse(&out, 0).unwrap().unwrap();
    assert_eq!(used, out.len());
    assert_eq!(Method::parse(found.payload), Ok(method));
}

fn same(properties: &Properties<'_>) {
    let mut out = Vec::new();
    properties.write(&mut out);
    let again = Properties::parse(&out).unwrap();
    assert_eq!(&again, properties);
    if let Some(headers) = again.headers {
        walk(headers);
    }
}

fn walk(table: Table<'_>) {
    let mut seen = 0;
    for (name, value) in table.iter() {
        seen += name.len() + 2;
        if let Value::Table(inner) = value {
            walk(inner);
        }
    }
    assert!(seen <= table.bytes().len());
}
