//! Messages as a server of PostgreSQL 15 sends them, and what is none.

use super::*;

fn bytes(parts: &[&[u8]]) -> Bytes {
    parts.concat().into()
}

fn insert() -> Bytes {
    let head: &[u8] = &[b'I', 0, 0, 0x40, 1, b'N', 0, 3];
    bytes(&[head, b"n", b"u", b"t\x00\x00\x00\x03\xc3\xa4x"])
}

#[test]
fn messages_are_read() {
    let begin = bytes(&[b"B", &7u64.to_be_bytes(), &9i64.to_be_bytes(), &5u32.to_be_bytes()]);
    let expect = Begin { commit: Lsn(7), at: 9, xid: 5 };
    assert_eq!(read(&begin), Ok(Output::Begin(expect)));
    let commit = bytes(&[b"C\0", &7u64.to_be_bytes(), &8u64.to_be_bytes(), &9i64.to_be_bytes()]);
    assert_eq!(read(&commit), Ok(Output::Commit(Commit { commit: Lsn(7), end: Lsn(8) })));
    let relation = bytes(&[
        &[b'R', 0, 0, 0x40, 1],
        b"public\0outbox\0d\0\x01",
        b"\x01id\0\0\0\x0b\x86\xff\xff\xff\xff",
    ]);
    let columns = vec![Column { name: "id".into(), kind: 2950 }];
    let expect = Relation { id: 0x4001, schema: "public".into(), name: "outbox".into(), columns };
    assert_eq!(read(&relation), Ok(Output::Relation(expect)));
    let text = Value::Text(Bytes::from_static("äx".as_bytes()));
    let values = vec![Value::Null, Value::Unchanged, text];
    assert_eq!(read(&insert()), Ok(Output::Insert { relation: 0x4001, values }));
    let message = bytes(&[b"M\x01", &7u64.to_be_bytes(), b"weft\0\0\0\0\x02{}"]);
    let content = Bytes::from_static(b"{}");
    let expect = Logical { transactional: true, prefix: "weft".into(), content };
    assert_eq!(read(&message), Ok(Output::Message(expect)));
    assert_eq!(read(&Bytes::from_static(b"T and whatever follows")), Ok(Output::Other));
}

#[test]
fn what_is_cut_or_goes_on_is_no_message() {
    let whole = insert();
    for end in 0..whole.len() {
        assert_eq!(read(&whole.slice(..end)), Err(Malformed), "{end}");
    }
    assert_eq!(read(&bytes(&[&whole, b"x"])), Err(Malformed));
    // Lengths and counts that lie.
    let long: &[u8] = &[b'I', 0, 0, 0, 1, b'N', 0, 1, b't', 0xff, 0xff, 0xff, 0xff, 1];
    assert_eq!(read(&bytes(&[long])), Err(Malformed));
    let many: &[u8] = &[b'I', 0, 0, 0, 1, b'N', 0xff, 0xff];
    assert_eq!(read(&bytes(&[many])), Err(Malformed));
    assert_eq!(read(&Bytes::from_static(b"?")), Err(Malformed));
}
