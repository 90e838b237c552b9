//! Bodies through both directions, cut everywhere.

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::grpc::{FrameError, MESSAGE_BYTES_MAX};

fn frame(message: &[u8]) -> Vec<u8> {
    let mut frame = Prefix { flags: 0, len: message.len() as u32 }.bytes().to_vec();
    frame.extend_from_slice(message);
    frame
}

fn decoded(chunks: &[&[u8]]) -> Option<(Vec<u8>, bool)> {
    let (mut decoder, mut out) = (TextDecoder::default(), Vec::new());
    for chunk in chunks {
        decoder.push(chunk, &mut out).ok()?;
    }
    Some((out, decoder.is_whole()))
}

#[test]
fn text_is_decoded_with_padding_anywhere() {
    for (chunks, expect) in [
        (&[&b"aGVsbG8="[..]][..], Some((&b"hello"[..], true))),
        (&[b"aGVsbG8=d29ybGQ="], Some((b"helloworld", true))),
        (&[b"aGVs", b"bG8=", b"YQ==", b"YWI=YWJj"], Some((b"helloaababc", true))),
        (&[b"a", b"G", b"V", b"s", b"bG8", b"=aG", b"k="], Some((b"hellohi", true))),
        (&[b"aGVsb"], Some((b"hel", false))),
        (&[b""], Some((b"", true))),
        (&[b"===="], None),
        (&[b"a==="], None),
        (&[b"YQ=a"], None),
        (&[b"=aGk"], None),
        (&[b"YQ", b"=", b"a"], None),
        (&[b"aG k"], None),
        (&[b"aG\r\n"], None),
        (&[b"aG-_"], None),
    ] {
        let found = decoded(chunks);
        assert_eq!(found, expect.map(|(bytes, whole)| (bytes.to_vec(), whole)), "{chunks:?}");
    }
}

#[test]
fn trailers_have_lower_case_names_and_nothing_breaks_out() {
    let mut out = b"x".to_vec();
    write_trailers(
        [
            ("Grpc-Status", &b"5"[..]),
            ("grpc-message", b"no stock"),
            ("evil", b"a\r\ngrpc-status: 0"),
            ("bad name", b"1"),
            ("", b"1"),
        ],
        &mut out,
    );
    let text = b"grpc-status:5\r\ngrpc-message:no stock\r\n";
    assert_eq!(out[1..6], [0x80, 0, 0, 0, text.len() as u8]);
    assert_eq!(&out[6..], text);
}

#[test]
fn a_response_is_taken_apart_at_every_cut() {
    let mut body = frame(b"one");
    body.extend(frame(b""));
    body.extend(frame(b"three"));
    let messages = body.clone();
    write_trailers([("grpc-status", &b"0"[..]), ("x-thing", b"a:b")], &mut body);
    for cut in 0..=body.len() {
        let (mut splitter, mut out) = (Splitter::new(MESSAGE_BYTES_MAX), Vec::new());
        splitter.push(&body[..cut], &mut out).unwrap();
        let between = [0, 8, 13, messages.len(), body.len()].contains(&cut);
        assert_eq!(splitter.is_whole(), between, "{cut}");
        assert_eq!(splitter.trailers().is_some(), cut == body.len(), "{cut}");
        splitter.push(&body[cut..], &mut out).unwrap();
        assert_eq!(out, messages);
        let trailers = splitter.trailers().unwrap();
        assert_eq!(trailers.named("grpc-status"), Some(&b"0"[..]));
        assert_eq!(trailers.named("x-thing"), Some(&b"a:b"[..]));
        assert_eq!(splitter.push(b"x", &mut out), Err(SplitError::AfterTrailers));
    }
}

#[test]
fn broken_responses_are_refused() {
    let trailers = |text: &[u8]| {
        let mut body = Prefix { flags: TRAILERS, len: text.len() as u32 }.bytes().to_vec();
        body.extend_from_slice(text);
        body
    };
    for (body, expect) in [
        (trailers(b"no colon\r\n"), Err(SplitError::Trailers)),
        (trailers(b": 1\r\n"), Err(SplitError::Trailers)),
        (trailers(b"a b: 1\r\n"), Err(SplitError::Trailers)),
        (trailers(b"a: 1\0\r\n"), Err(SplitError::Trailers)),
        (trailers(b"a: 1\rb: 2"), Err(SplitError::Trailers)),
        (trailers(b""), Ok(())),
        (trailers(b"Grpc-Status: 0"), Ok(())),
        (vec![4, 0, 0, 0, 0], Err(FrameError::Flags(4).into())),
        (vec![0, 0, 0, 0, 9], Err(FrameError::TooLarge { len: 9, max: 8 }.into())),
        (
            vec![0x80, 0, 1, 0, 0],
            Err(FrameError::TooLarge { len: 65_536, max: TRAILER_BYTES_MAX }.into()),
        ),
    ] {
        let mut splitter = Splitter::new(8);
        assert_eq!(splitter.push(&body, &mut Vec::new()), expect, "{body:?}");
    }
}

fn cut<'a>(mut rest: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut chunks = Vec::new();
    let mut cuts = cuts.iter().cycle();
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(cuts.next().copied().unwrap_or(1).min(rest.len()));
        chunks.push(chunk);
        rest = after;
    }
    chunks
}

proptest! {
    #[test]
    fn text_survives_any_cuts_and_flushes(
        bytes in vec(any::<u8>(), 0..200),
        out_cuts in vec((1usize..9, any::<bool>()), 1..20),
        in_cuts in vec(1usize..9, 1..20),
    ) {
        let (mut encoder, mut text) = (TextEncoder::default(), Vec::new());
        let sizes: Vec<usize> = out_cuts.iter().map(|(size, _)| *size).collect();
        for (chunk, (_, flush)) in cut(&bytes, &sizes).into_iter().zip(out_cuts.iter().cycle()) {
            encoder.push(chunk, &mut text);
            if *flush {
                encoder.flush(&mut text);
            }
        }
        encoder.flush(&mut text);
        prop_assert_eq!(decoded(&cut(&text, &in_cuts)), Some((bytes, true)));
    }

    #[test]
    fn cuts_do_not_change_what_is_refused(text in "[A-Da-d=+/ ]{0,24}", cuts in vec(1usize..6, 1..8)) {
        let whole = decoded(&[text.as_bytes()]);
        prop_assert_eq!(decoded(&cut(text.as_bytes(), &cuts)), whole);
    }

    #[test]
    fn any_bytes_are_split_or_refused(chunks in vec(vec(any::<u8>(), 0..24), 0..8)) {
        let (mut splitter, mut out) = (Splitter::new(64), Vec::new());
        let mut total = 0;
        for chunk in &chunks {
            total += chunk.len();
            if splitter.push(chunk, &mut out).is_err() {
                break;
            }
        }
        prop_assert!(out.len() <= total);
    }
}
