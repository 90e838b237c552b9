//! Hellos built byte by byte, cut everywhere, and broken in every way.

use proptest::{collection::vec, prelude::*};

use super::*;

fn vector16(body: &[u8]) -> Vec<u8> {
    let mut out = (body.len() as u16).to_be_bytes().to_vec();
    out.extend_from_slice(body);
    out
}

fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    let mut out = kind.to_be_bytes().to_vec();
    out.extend(vector16(body));
    out
}

fn sni(names: &[(u8, &[u8])]) -> Vec<u8> {
    let mut list = Vec::new();
    for (kind, name) in names {
        list.push(*kind);
        list.extend(vector16(name));
    }
    extension(0, &vector16(&list))
}

fn message(extensions: Option<&[Vec<u8>]>) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0]);
    body.extend(vector16(&[0x13, 0x01]));
    body.extend([1, 0]);
    if let Some(extensions) = extensions {
        body.extend(vector16(&extensions.concat()));
    }
    let mut out = vec![1];
    out.extend(&(body.len() as u32).to_be_bytes()[1..]);
    out.extend(body);
    out
}

fn records(message: &[u8], sizes: &[usize]) -> Vec<u8> {
    let mut out = Vec::new();
    let (mut rest, mut sizes) = (message, sizes.iter().cycle());
    while !rest.is_empty() {
        let size = sizes.next().copied().unwrap_or(rest.len()).min(rest.len());
        out.extend([22, 3, 1]);
        out.extend(vector16(&rest[..size]));
        rest = &rest[size..];
    }
    out
}

fn named(name: &[u8]) -> Vec<u8> {
    message(Some(&[
        extension(43, &[2, 3, 4]),
        sni(&[(0, name)]),
        extension(16, &[0, 3, 2, b'h', b'2']),
    ]))
}

fn sni_of(message: &[u8]) -> Hello {
    server_name(&records(message, &[]))
}

#[test]
fn names() {
    let found = |name: &str| Hello::Sni(Some(name.to_owned()));
    let no_host = |name: &str| Hello::NoHost(name.to_owned());
    for (hello, expect) in [
        (named(b"a.example"), found("a.example")),
        (named(b"Shop.EXAMPLE"), found("shop.example")),
        (named(b"_x-1.a"), found("_x-1.a")),
        (message(None), Hello::Sni(None)),
        (message(Some(&[])), Hello::Sni(None)),
        (message(Some(&[extension(16, b"x")])), Hello::Sni(None)),
        (message(Some(&[sni(&[(9, b"what"), (0, b"a")])])), found("a")),
        (message(Some(&[sni(&[(9, b"what")])])), Hello::Sni(None)),
        (message(Some(&[sni(&[(0, b"a"), (0, b"b")])])), Hello::NotTls),
        (message(Some(&[sni(&[(0, b"a")]), sni(&[(0, b"b")])])), Hello::NotTls),
        (message(Some(&[sni(&[])])), Hello::NotTls),
        (message(Some(&[extension(0, b"")])), Hello::NotTls),
        (message(Some(&[extension(0, &[0, 9, 0])])), Hello::NotTls),
        (named(b""), no_host("")),
        (named(b"a."), Hello::Sni(Some("a".into()))),
        (named(b"a.."), no_host("a..")),
        (named(b".a"), no_host(".a")),
        (named(b"a b"), no_host("a b")),
        (named(b"a\0b"), no_host("a\\x00b")),
        (named("é.example".as_bytes()), no_host("\\xc3\\xa9.example")),
        (named(&[b'a'; 64]), no_host(&"a".repeat(64))),
        (named(&[b"a.".repeat(127), b"aa".to_vec()].concat()), no_host(&"a.".repeat(127)[..253])),
    ] {
        assert_eq!(sni_of(&hello), expect, "{hello:?}");
    }
}

#[test]
fn other_protocols_are_told_by_their_first_byte() {
    for bytes in [
        &b"G"[..],
        b"GET / HTTP/1.1\r\n",
        b"PRI * HTTP/2.0",
        b"SSH-2.0",
        b"\x80\x2e\x01",
        b"\0",
        b"\x16\x02",
        b"\x16\x03\x05",
        b"\x16\x03\x01\0\0",
        b"\x16\x03\x01\x40\x01",
        b"\x16\x03\x01\0\x01\x02",
        b"\x15\x03\x01",
    ] {
        assert_eq!(server_name(bytes), Hello::NotTls, "{bytes:?}");
    }
    for bytes in [&b""[..], b"\x16", b"\x16\x03", b"\x16\x03\x01\0", b"\x16\x03\x01\0\x05\x01"] {
        assert_eq!(server_name(bytes), Hello::Incomplete, "{bytes:?}");
    }
}

#[test]
fn large_hellos_are_refused_without_waiting_for_them() {
    let padded = |len: usize| message(Some(&[extension(21, &vec![0; len]), sni(&[(0, b"a")])]));
    assert_eq!(sni_of(&padded(8_000)), Hello::Sni(Some("a".into())));
    let large = records(&padded(16_300), &[4_000]);
    assert!(large.len() > HELLO_BYTES_MAX);
    assert_eq!(server_name(&large), Hello::NotTls);
    assert_eq!(server_name(&large[..HELLO_BYTES_MAX]), Hello::NotTls);
    assert_eq!(server_name(&large[..HELLO_BYTES_MAX - 1]), Hello::Incomplete);
    // A declared length beyond the bound is told at once.
    assert_eq!(server_name(&[22, 3, 1, 0, 9, 1, 1, 0, 0]), Hello::NotTls);
}

#[test]
fn what_follows_the_hello_does_not_matter() {
    let mut bytes = records(&named(b"a.example"), &[]);
    bytes.extend(b"\x14\x03\x03\0\x01\x01 and then anything");
    assert_eq!(server_name(&bytes), Hello::Sni(Some("a.example".into())));
}

proptest! {
    #[test]
    fn every_cut_is_incomplete_until_the_last_byte(sizes in vec(1usize..40, 0..8)) {
        let bytes = records(&named(b"a.example"), &sizes);
        for cut in 0..bytes.len() {
            prop_assert_eq!(server_name(&bytes[..cut]), Hello::Incomplete, "{}", cut);
        }
        prop_assert_eq!(server_name(&bytes), Hello::Sni(Some("a.example".into())));
    }

    #[test]
    fn one_wrong_byte_never_panics(at in 0usize..120, byte in any::<u8>(), sizes in vec(1usize..40, 0..4)) {
        let mut bytes = records(&named(b"a.example"), &sizes);
        let index = at % bytes.len();
        bytes[index] = byte;
        if let Hello::Sni(Some(name)) = server_name(&bytes) {
            prop_assert!(is_host(name.as_bytes()) && !name.bytes().any(|b| b.is_ascii_uppercase()));
        }
    }

    #[test]
    fn any_bytes_have_an_answer(bytes in vec(any::<u8>(), 0..80), after in vec(any::<u8>(), 0..8)) {
        let mut started = vec![22, 3, 1, 0, 70, 1, 0, 0, 60];
        started.extend(&bytes);
        for mut input in [bytes, started] {
            let first = server_name(&input);
            input.extend(&after);
            // An answer does not change with what comes later.
            if first != Hello::Incomplete {
                prop_assert_eq!(server_name(&input), first);
            }
        }
    }
}
