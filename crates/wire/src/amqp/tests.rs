//! Tables, properties and hostile input for the codec.

use proptest::prelude::*;

use super::{content::write_header, frame, method::IDS, *};

fn framed(method: &Method<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    method.write(7, &mut out);
    out
}

/// One method of each kind of field, and all whose bits or odd numbers deserve a look.
fn samples() -> Vec<Method<'static>> {
    let table = Table::parse(b"\x01at\x01").unwrap();
    vec![
        Method::ConnectionStart {
            version_major: 0,
            version_minor: 9,
            server_properties: table,
            mechanisms: b"PLAIN AMQPLAIN",
            locales: b"en_US",
        },
        Method::ConnectionTune { channel_max: 2047, frame_max: 131_072, heartbeat: 60 },
        Method::ConnectionOpen { virtual_host: "/", capabilities: "", insist: true },
        Method::ConnectionCloseOk {},
        Method::ChannelOpenOk { reserved: b"" },
        Method::ExchangeDeclare {
            ticket: 0,
            exchange: "x",
            kind: "topic",
            passive: false,
            durable: true,
            auto_delete: false,
            internal: true,
            no_wait: true,
            arguments: table,
        },
        Method::ExchangeUnbindOk {},
        Method::QueueDelete {
            ticket: 1,
            queue: "q",
            if_unused: false,
            if_empty: true,
            no_wait: false,
        },
        Method::BasicDeliver {
            consumer_tag: "c",
            delivery_tag: u64::MAX,
            redelivered: true,
            exchange: "",
            routing_key: "k",
        },
        Method::BasicNack { delivery_tag: 3, multiple: true, requeue: false },
    ]
}

#[test]
fn methods_are_written_and_read() {
    for method in samples() {
        let bytes = framed(&method);
        let (frame, used) = frame::parse(&bytes, FRAME_BYTES_MIN).unwrap().unwrap();
        assert_eq!((frame.kind, frame.channel, used), (FrameKind::Method, 7, bytes.len()));
        assert_eq!(Method::parse(frame.payload), Ok(method));
        for cut in 0..frame.payload.len() {
            assert!(Method::parse(&frame.payload[..cut]).is_err(), "{method:?} cut at {cut}");
        }
        let longer = [frame.payload, &[0]].concat();
        assert_eq!(Method::parse(&longer), Err(DecodeError::Length("method")));
    }
}

#[test]
fn numbers_of_methods_are_those_of_the_specification() {
    let mut ids = IDS.to_vec();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), IDS.len());
    assert_eq!(ids.len(), 66);
    assert_eq!(
        Method::parse(&[0, 60, 0, 200]),
        Err(DecodeError::Method { class: 60, method: 200 })
    );
    assert_eq!(
        framed(&Method::BasicPublish {
            ticket: 0,
            exchange: "e",
            routing_key: "rk",
            mandatory: true,
            immediate: false
        }),
        b"\x01\x00\x07\x00\x00\x00\x0c\x00\x3c\x00\x28\x00\x00\x01e\x02rk\x01\xce"
    );
    assert_eq!(
        framed(&Method::BasicAck { delivery_tag: 258, multiple: true }),
        b"\x01\x00\x07\x00\x00\x00\x0d\x00\x3c\x00\x50\x00\x00\x00\x00\x00\x00\x01\x02\x01\xce"
    );
}

#[test]
fn greetings() {
    assert_eq!(parse_greeting(b""), Greeting::Incomplete);
    assert_eq!(parse_greeting(b"AMQP\0\0"), Greeting::Incomplete);
    assert_eq!(parse_greeting(b"AMQP\0\0\x09\x01\x01"), Greeting::Amqp091);
    assert_eq!(parse_greeting(b"AMQP\x01\x01\x00\x09"), Greeting::Amqp091);
    for other in [&b"GET / HT"[..], b"AMQP\0\x01\0\0", b"AMQP\x03\x01\0\0", b"\x16\x03\x01"] {
        assert_eq!(parse_greeting(other), Greeting::Other, "{other:?}");
    }
}

#[test]
fn frames_that_are_cut_wait_and_frames_that_break_the_rules_are_refused() {
    let mut bytes = Vec::new();
    frame::write(FrameKind::Body, 3, &mut bytes, |out| out.extend_from_slice(b"body"));
    for cut in 0..bytes.len() {
        assert_eq!(frame::parse(&bytes[..cut], 4096), Ok(None), "cut at {cut}");
    }
    assert!(frame::parse(&bytes, 12).unwrap().is_some());
    // Eight bytes too many are what a client sends that takes the limit for one of the payload.
    assert!(frame::parse(&bytes, 4).unwrap().is_some());
    let size = DecodeError::FrameSize { kind: 3, bytes: 4, max: 0 };
    assert_eq!(frame::parse(&bytes, 3), Err(size));
    let giant = [3, 0, 1, 0xff, 0xff, 0xff, 0xff];
    assert_eq!(
        frame::parse(&giant, 131_072),
        Err(DecodeError::FrameSize { kind: 3, bytes: u32::MAX, max: 131_064 })
    );
    assert_eq!(frame::parse(&giant, 0), Ok(None));
    *bytes.last_mut().unwrap() = 0;
    assert_eq!(frame::parse(&bytes, 4096), Err(DecodeError::FrameEnd { kind: 3, octet: 0 }));
    for kind in [0, 4, 5, 6, 7, 9, b'A'] {
        assert_eq!(frame::parse(&[kind], 0), Err(DecodeError::FrameKind(kind)));
    }
    let beat = frame::parse(&frame::HEARTBEAT, 4096).unwrap().unwrap();
    assert_eq!((beat.0.kind, beat.0.payload.len(), beat.1), (FrameKind::Heartbeat, 0, 8));
}

#[test]
fn bodies_are_split_by_the_frame_size() {
    for (length, frames) in [(0, 0), (1, 1), (4088, 1), (4089, 2), (10_000, 3)] {
        let body: Vec<u8> = (0..length).map(|index| index as u8).collect();
        let mut out = Vec::new();
        let method = Method::BasicGetEmpty { cluster_id: "" };
        write_content(1, &method, &[0, 0], &body, 4096, &mut out);
        let (mut at, mut pieces, mut joined) = (0, 0, Vec::new());
        while let Some((frame, used)) = frame::parse(&out[at..], 4096).unwrap() {
            at += used;
            match frame.kind {
                FrameKind::Header => {
                    let header = ContentHeader::parse(frame.payload).unwrap();
                    assert_eq!((header.body_bytes, header.raw), (length as u64, &[0, 0][..]));
                }
                FrameKind::Body => {
                    pieces += 1;
                    joined.extend_from_slice(frame.payload);
                }
                _ => assert_eq!(Method::parse(frame.payload), Ok(method)),
            }
        }
        assert_eq!((at, pieces), (out.len(), frames));
        assert_eq!(joined, body);
    }
}

#[test]
fn tables_are_bounded_in_depth_and_length() {
    let nested = |depth: usize| {
        let mut inner = Vec::new();
        for _ in 1..depth {
            let mut outer = vec![1, b'n', b'F'];
            outer.extend((inner.len() as u32).to_be_bytes());
            outer.extend(&inner);
            inner = outer;
        }
        inner
    };
    assert!(Table::parse(&nested(TABLE_DEPTH_MAX)).is_ok());
    assert_eq!(Table::parse(&nested(TABLE_DEPTH_MAX + 1)), Err(DecodeError::Depth));
    assert_eq!(Table::parse(&nested(100_000 / 8)), Err(DecodeError::Depth));
    let check = |bytes: &[u8], error| assert_eq!(Table::parse(bytes), Err(error), "{bytes:?}");
    check(b"\x01aS\xff\xff\xff\xff", DecodeError::Length("table"));
    check(b"\x01aA\x00\x00\x00\x02S\x00", DecodeError::Length("array"));
    check(b"\x01a", DecodeError::Length("table"));
    check(b"\x05a", DecodeError::Length("table"));
    check(b"\x01a?\x01", DecodeError::FieldType(b'?'));
}

#[test]
fn every_type_of_field_that_rabbitmq_reads_is_read_and_copied_byte_for_byte() {
    let long = |octet: u8, inside: &[u8]| {
        let mut out = vec![octet];
        reader::put_long(inside, &mut out);
        out
    };
    let inner = b"\x01nL\xff\xff\xff\xff\xff\xff\xff\xfe\x01tt\x05";
    let array = [&b"L\0\0\x01\0\0\0\0\0Vs\xff\xff"[..], &long(b'F', inner)].concat();
    let values: &[(&[u8], Value<'_>)] = &[
        // Any octet but zero is true.
        (b"t\x05", Value::Bool(true)),
        (b"b\xff", Value::I8(-1)),
        (b"B\xff", Value::U8(255)),
        (b"s\xff\xff", Value::I16(-1)),
        (b"u\xff\xff", Value::U16(65_535)),
        (b"I\xff\xff\xff\xff", Value::I32(-1)),
        (b"i\xff\xff\xff\xff", Value::U32(u32::MAX)),
        (b"l\xff\xff\xff\xff\xff\xff\xff\xff", Value::I64(-1)),
        // Signed, like the other one.
        (b"L\xff\xff\xff\xff\xff\xff\xff\xff", Value::I64(-1)),
        (b"f\x3f\x80\0\0", Value::F32(1.0)),
        (b"d\x3f\xf0\0\0\0\0\0\0", Value::F64(1.0)),
        (b"D\x02\0\0\x01\0", Value::Decimal(2, 256)),
        (b"T\0\0\0\0\0\0\0\x07", Value::Timestamp(7)),
        (b"V", Value::Void),
        (&long(b'S', b"\xff\0x"), Value::Long(b"\xff\0x")),
        (&long(b'x', b"\xff\0x"), Value::Bytes(b"\xff\0x")),
        (&long(b'F', inner), Value::Table(Table::parse(inner).unwrap())),
        (&long(b'A', &array), Value::Array(Array(&array))),
    ];
    // A name may be any bytes, none, or one that is there already.
    let names: [&[u8]; 4] = [b"name", b"\xe9\xff", b"", b"name"];
    for (bytes, value) in values {
        let mut whole = Vec::new();
        for name in names {
            whole.push(name.len() as u8);
            whole.extend_from_slice(name);
            whole.extend_from_slice(bytes);
        }
        let table = Table::parse(&whole).unwrap();
        assert_eq!(table.get("name"), Some(*value), "{bytes:?}");
        assert_eq!(table.entries().map(|entry| entry.name).collect::<Vec<_>>(), names);
        assert_eq!(table.iter().count(), 3, "a name that is no text has none");
        let mut again = Vec::new();
        {
            let mut writer = TableWriter::new(&mut again);
            for entry in table.entries() {
                writer.copy(entry);
            }
        }
        assert_eq!(again[4..], whole, "{bytes:?}");
        // And in an array.
        let list = [bytes, &b"V"[..]].concat();
        let within = [&b"\x01l"[..], &long(b'A', &list)].concat();
        let Some(Value::Array(read)) = Table::parse(&within).unwrap().get("l") else { panic!() };
        assert_eq!(read.iter().collect::<Vec<_>>(), [*value, Value::Void]);
    }
}

#[test]
fn the_writer_of_tables_nests() {
    let mut out = Vec::new();
    TableWriter::new(&mut out)
        .text("product", "Weft")
        .table("capabilities", |table| {
            table.entry("basic.nack", Value::Bool(true));
        })
        .array("list", |array| {
            array.value(Value::I64(-1)).table_value(|table| {
                table.entry("n", Value::Void);
            });
        });
    let table = Table::parse(&out[4..]).unwrap();
    assert_eq!(out[..4], ((out.len() - 4) as u32).to_be_bytes());
    assert_eq!(table.get("product").and_then(|value| value.text()), Some("Weft"));
    let Some(Value::Table(inner)) = table.get("capabilities") else { panic!("{table:?}") };
    assert_eq!(inner.get("basic.nack"), Some(Value::Bool(true)));
    let Some(Value::Array(list)) = table.get("list") else { panic!("{table:?}") };
    assert_eq!(list.iter().next(), Some(Value::I64(-1)));
    assert_eq!(list.iter().count(), 2);
    assert_eq!(table.get("none"), None);
}

#[test]
fn properties_with_flags_that_do_not_exist_are_refused() {
    assert_eq!(Properties::parse(&[0, 1]), Err(DecodeError::Flags(1)));
    assert_eq!(Properties::parse(&[0, 2]), Err(DecodeError::Flags(2)));
    assert_eq!(Properties::parse(&[0]), Err(DecodeError::Length("properties")));
    assert_eq!(Properties::parse(&[0, 0, 9]), Err(DecodeError::Length("properties")));
    let mut out = Vec::new();
    write_header(1, 5, &[0x10, 0, 2], &mut out);
    let (frame, _) = frame::parse(&out, 4096).unwrap().unwrap();
    let header = ContentHeader::parse(frame.payload).unwrap();
    assert_eq!(header.properties.delivery_mode, Some(2));
    let mut other = frame.payload.to_vec();
    other[1] = 61;
    assert_eq!(ContentHeader::parse(&other), Err(DecodeError::Class(61)));
}

#[test]
fn reply_codes_have_distinct_numbers_and_names() {
    let mut numbers: Vec<_> = ReplyCode::ALL.iter().map(|code| code.number()).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), ReplyCode::ALL.len());
    let hard: Vec<_> = ReplyCode::ALL.iter().filter(|code| code.closes_connection()).collect();
    assert_eq!(hard.len(), 11);
}

/// A value that owns what it holds, for generating.
#[derive(Clone, Debug)]
enum Owned {
    Plain(Value<'static>),
    Long(Vec<u8>),
    Bytes(Vec<u8>),
    Array(Vec<Owned>),
    Table(Vec<(String, Owned)>),
}

impl Owned {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Plain(value) => value.write(out),
            Self::Long(bytes) => Value::Long(bytes).write(out),
            Self::Bytes(bytes) => Value::Bytes(bytes).write(out),
            Self::Array(values) => {
                out.push(b'A');
                let start = out.len();
                out.extend([0; 4]);
                values.iter().for_each(|value| value.write(out));
                let length = (out.len() - start - 4) as u32;
                out[start..start + 4].copy_from_slice(&length.to_be_bytes());
            }
            Self::Table(entries) => {
                out.push(b'F');
                let bytes = table(entries);
                out.extend((bytes.len() as u32).to_be_bytes());
                out.extend(bytes);
            }
        }
    }
}

fn table(entries: &[(String, Owned)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in entries {
        reader::put_short(name, &mut out);
        value.write(&mut out);
    }
    out
}

/// Writes again what is read, value by value.
fn rewritten(table: Table<'_>, out: &mut Vec<u8>) {
    for (name, value) in table.iter() {
        reader::put_short(name, out);
        value.write(out);
    }
}

fn any_value() -> impl Strategy<Value = Owned> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(|v| Owned::Plain(Value::Bool(v))),
        any::<i8>().prop_map(|v| Owned::Plain(Value::I8(v))),
        any::<u8>().prop_map(|v| Owned::Plain(Value::U8(v))),
        any::<i16>().prop_map(|v| Owned::Plain(Value::I16(v))),
        any::<u16>().prop_map(|v| Owned::Plain(Value::U16(v))),
        any::<i32>().prop_map(|v| Owned::Plain(Value::I32(v))),
        any::<u32>().prop_map(|v| Owned::Plain(Value::U32(v))),
        any::<i64>().prop_map(|v| Owned::Plain(Value::I64(v))),
        any::<f32>().prop_map(|v| Owned::Plain(Value::F32(v))),
        any::<f64>().prop_map(|v| Owned::Plain(Value::F64(v))),
        any::<(u8, u32)>().prop_map(|(p, n)| Owned::Plain(Value::Decimal(p, n))),
        any::<u64>().prop_map(|v| Owned::Plain(Value::Timestamp(v))),
        Just(Owned::Plain(Value::Void)),
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(Owned::Long),
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(Owned::Bytes),
    ];
    leaf.prop_recursive(4, 24, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Owned::Array),
            proptest::collection::vec((".{0,8}", inner), 0..6).prop_map(Owned::Table),
        ]
    })
}

proptest! {
    #[test]
    fn tables_are_written_and_read(
        entries in proptest::collection::vec((".{0,12}", any_value()), 0..8),
    ) {
        let bytes = table(&entries);
        let read = Table::parse(&bytes).unwrap();
        prop_assert_eq!(read.iter().count(), entries.len());
        let mut again = Vec::new();
        rewritten(read, &mut again);
        prop_assert_eq!(again, bytes);
    }

    #[test]
    fn properties_are_written_and_read(
        texts in proptest::collection::vec(proptest::option::of(".{0,40}"), 11),
        octets in any::<(Option<u8>, Option<u8>, Option<u64>)>(),
        headers in proptest::option::of(
            proptest::collection::vec((".{0,12}", any_value()), 0..4)
        ),
    ) {
        let headers = headers.map(|entries| table(&entries));
        let text = |index: usize| texts[index].as_deref();
        let properties = Properties {
            content_type: text(0),
            content_encoding: text(1),
            headers: headers.as_deref().map(|bytes| Table::parse(bytes).unwrap()),
            delivery_mode: octets.0,
            priority: octets.1,
            correlation_id: text(2),
            reply_to: text(3),
            expiration: text(4),
            message_id: text(5),
            timestamp: octets.2,
            kind: text(6),
            user_id: text(7),
            app_id: text(8),
            cluster_id: text(9),
        };
        let mut bytes = Vec::new();
        properties.write(&mut bytes);
        let read = Properties::parse(&bytes).unwrap();
        let mut again = Vec::new();
        read.write(&mut again);
        prop_assert_eq!(&again, &bytes);
        for cut in 0..bytes.len() {
            prop_assert!(Properties::parse(&bytes[..cut]).is_err());
        }
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let _ = frame::parse(&bytes, 4096);
        let _ = Properties::parse(&bytes);
        let _ = ContentHeader::parse(&bytes);
        if let Ok(method) = Method::parse(&bytes) {
            let written = framed(&method);
            let (frame, _) = frame::parse(&written, 0).unwrap().unwrap();
            prop_assert_eq!(Method::parse(frame.payload), Ok(method));
        }
    }

    #[test]
    fn every_method_survives_noise(which in any::<proptest::sample::Index>(),
        noise in proptest::collection::vec(0u8..4, 0..60)) {
        let (class, id) = IDS[which.index(IDS.len())];
        let bytes = [&class.to_be_bytes()[..], &id.to_be_bytes()[..], &noise].concat();
        if let Ok(method) = Method::parse(&bytes) {
            prop_assert_eq!(method.id(), (class, id));
            let written = framed(&method);
            let (frame, _) = frame::parse(&written, 0).unwrap().unwrap();
            prop_assert_eq!(Method::parse(frame.payload), Ok(method));
        }
    }
}
