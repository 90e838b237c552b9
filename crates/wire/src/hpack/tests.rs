//! The examples of RFC 7541 appendix C, and blocks that are none.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::*;

fn decode(decoder: &mut Decoder, hex: &str) -> Result<String, Broken> {
    let hex: Vec<u8> = hex.bytes().filter(|byte| *byte != b' ').collect();
    let block: Vec<u8> = hex
        .chunks(2)
        .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap())
        .collect();
    let mut lines = String::new();
    decoder.decode(&block, |name, value, ()| {
        lines += &format!("{}={};", String::from_utf8_lossy(name), String::from_utf8_lossy(value));
    })?;
    Ok(lines)
}

#[test]
fn requests_of_the_specification_are_read() {
    let texts = [
        ":method=GET;:scheme=http;:path=/;:authority=www.example.com;",
        ":method=GET;:scheme=http;:path=/;:authority=www.example.com;cache-control=no-cache;",
        ":method=GET;:scheme=https;:path=/index.html;:authority=www.example.com;custom-key=custom-value;",
    ];
    let plain = [
        "828684410f7777772e6578616d706c652e636f6d",
        "828684be58086e6f2d6361636865",
        "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
    ];
    let huffman = [
        "828684418cf1e3c2e5f23a6ba0ab90f4ff",
        "828684be5886a8eb10649cbf",
        "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
    ];
    for blocks in [plain, huffman] {
        let mut decoder = Decoder::default();
        for (block, text) in blocks.iter().zip(texts) {
            assert_eq!(decode(&mut decoder, block).as_deref(), Ok(text));
        }
        assert_eq!(decoder.size, 164);
    }
}

#[test]
fn a_small_table_lets_the_oldest_go() {
    let mut decoder = Decoder::default();
    decode(
        &mut decoder,
        "3fe1 01 4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d54\
         6e1768747470733a2f2f7777772e6578616d706c652e636f6d",
    )
    .unwrap();
    assert_eq!((decoder.most(), decoder.size, decoder.entries.len()), (256, 222, 4));
    let second = decode(&mut decoder, "4803333037c1c0bf").unwrap();
    assert!(second.starts_with(":status=307;cache-control=private;"), "{second}");
    assert_eq!((decoder.size, decoder.entries.len()), (222, 4));
    decode(&mut decoder, "20").unwrap();
    assert_eq!((decoder.size, decoder.entries.len()), (0, 0));
    assert_eq!(decode(&mut decoder, "be"), Err(Broken("a field is not in the tables")));
}

#[test]
fn a_field_of_a_table_is_judged_once() {
    static JUDGED: AtomicUsize = AtomicUsize::new(0);
    static VERDICTS: [usize; STATIC_LEN] = [7; STATIC_LEN];
    fn judge(_: &[u8], value: &[u8]) -> usize {
        JUDGED.fetch_add(1, Relaxed);
        value.len()
    }
    let mut decoder = Decoder::new(judge, &VERDICTS);
    let mut verdicts = Vec::new();
    // From the static table; new and kept; twice out of the table; new and not kept.
    let block = b"\x82\x40\x01x\x03abc\xbe\xbe\x00\x01x\x02ab";
    decoder.decode(block, |_, _, verdict| verdicts.push(verdict)).unwrap();
    assert_eq!((verdicts, JUDGED.load(Relaxed)), (vec![7, 3, 3, 3, 2], 2));
}

#[test]
fn what_cannot_be_decoded_is_refused() {
    for block in [
        "80",
        "be",
        "ff",
        "ffffffffff7f",
        "40",
        "4001",
        "400161",
        "40016105",
        "3fe2 1f",
        "8220",
        // Ends within a code, with zeros for padding, with eight ones, with the end's own code.
        "0001 61 81 f8 00",
        "0001 61 82 1fff",
        "0001 61 84 ffffffff",
    ] {
        let decoded = decode(&mut Decoder::default(), block);
        assert!(decoded.is_err() || block.starts_with("0001 61 81"), "{block}: {decoded:?}");
    }
}

#[test]
fn what_is_written_plainly_is_read_back() {
    for length in [0, 1, 126, 127, 128, 254, 255, 20_000] {
        let value = vec![b'v'; length];
        let mut block = Vec::new();
        encode_plain(b"x-name", &value, &mut block);
        let mut seen = 0;
        let mut decoder = Decoder::default();
        decoder
            .decode(&block, |name, text, ()| {
                assert_eq!((name, text), (&b"x-name"[..], &value[..]));
                seen += 1;
            })
            .unwrap();
        assert_eq!((seen, decoder.size), (1, 0));
    }
}

#[test]
fn every_byte_has_its_code() {
    // Written by hand from appendix B: `0`, `a`, `~`, NUL, 0xff.
    for (coded, text) in
        [(&[0x07][..], &b"0"[..]), (&[0x1f], b"a"), (&[0xff, 0xef], b"~"), (&[0xff, 0xc7], b"\0")]
    {
        let mut out = Vec::new();
        assert!(super::huffman::decode(coded, &mut out), "{text:?}");
        assert_eq!(out, text);
    }
}

/// Text in the code, with ones behind it up to a whole byte.
fn coded(text: &[u8]) -> Vec<u8> {
    let bits: Vec<bool> = text.iter().flat_map(|byte| super::huffman::code_of(*byte)).collect();
    let byte = |bits: &[bool]| {
        (0..8).fold(0, |byte, at| byte << 1 | u8::from(*bits.get(at).unwrap_or(&true)))
    };
    bits.chunks(8).map(byte).collect()
}

#[test]
fn what_stands_behind_a_code_is_the_beginning_of_the_end() {
    let decode = |coded: &[u8]| super::huffman::decode(coded, &mut Vec::new());
    for text in [&b"a"[..], b"0123456", b"aaaaaaaa", b"~~", b"\0\xff"] {
        let whole = coded(text);
        assert!(decode(&whole));
        // Eight ones more are a whole byte of padding.
        assert!(!decode(&[&whole[..], &[0xff]].concat()), "{text:?}");
    }
    for bad in [&[0x1e][..], &[0x18], &[0xff], &[0xff; 4], &[0xff; 9], &[0x1f, 0xff]] {
        assert!(!decode(bad), "{bad:x?}");
    }
    assert!(decode(&[]));
}

/// The fields of blocks that a decoder reads one after another, each said to be `authorization`, `cookie` or
/// `etag` and kept out of the table, and how often one was judged.
fn judged(sent: &[(u8, &[u8])]) -> usize {
    static VERDICTS: [(); STATIC_LEN] = [(); STATIC_LEN];
    thread_local!(static JUDGED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) });
    JUDGED.set(0);
    let mut decoder = Decoder::new(|_, _| JUDGED.set(JUDGED.get() + 1), &VERDICTS);
    for (name, value) in sent {
        let coded = coded(value);
        let mut block = vec![0x1f, name - 15, 0xff];
        let mut left = coded.len() - 0x7f;
        while left >= 0x80 {
            block.push(left as u8 | 0x80);
            left >>= 7;
        }
        block.push(left as u8);
        block.extend_from_slice(&coded);
        let mut seen = Vec::new();
        decoder
            .decode(&block, |name, value, ()| seen.push((name.to_vec(), value.to_vec())))
            .unwrap();
        let name = STATIC[usize::from(name - 1)].0.as_bytes().to_vec();
        assert_eq!(seen, [(name, value.to_vec())]);
    }
    JUDGED.get()
}

#[test]
fn a_long_value_that_comes_again_is_decoded_once() {
    let [token, other, session] = [b'a', b'b', b'c'].map(|byte| vec![byte; 300]);
    let (authorization, cookie, etag) = (23, 32, 34);
    // Each of its own field, for as long as it stays what it was.
    assert_eq!(
        judged(&[
            (authorization, &token),
            (cookie, &session),
            (authorization, &token),
            (cookie, &session)
        ]),
        2
    );
    assert_eq!(judged(&[(authorization, &token), (cookie, &token), (authorization, &token)]), 2);
    assert_eq!(
        judged(&[(authorization, &token), (authorization, &other), (authorization, &token)]),
        3
    );
    // A third field takes the place of one of two, which takes the place of the other.
    let three = [(authorization, &*token), (cookie, &session), (etag, &other)];
    assert_eq!(judged(&[&three[..], &three[..]].concat()), 4);
    // What is too long to be held is decoded each time.
    let long = vec![b'a'; 20_000];
    assert_eq!(judged(&[(cookie, &long), (cookie, &long)]), 2);
}

proptest::proptest! {
    #[test]
    fn what_is_coded_is_read_back(text in proptest::collection::vec(proptest::num::u8::ANY, 0..300), before in 0_usize..3) {
        let mut out = vec![7; before];
        proptest::prop_assert!(super::huffman::decode(&coded(&text), &mut out));
        proptest::prop_assert_eq!(&out[before..], &text[..]);
        let plain: Vec<u8> = text.iter().map(|byte| b'a' + byte % 26).collect();
        let mut out = Vec::new();
        proptest::prop_assert!(super::huffman::decode(&coded(&plain), &mut out));
        proptest::prop_assert_eq!(out, plain);
    }

    #[test]
    fn nothing_panics(blocks in proptest::collection::vec(proptest::collection::vec(proptest::num::u8::ANY, 0..64), 0..8)) {
        let mut decoder = Decoder::default();
        for block in blocks {
            let _ = decoder.decode(&block, |_, _, ()| {});
            proptest::prop_assert!(decoder.size <= TABLE_MAX);
        }
    }
}
