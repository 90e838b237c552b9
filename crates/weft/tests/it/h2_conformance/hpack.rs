//! Header compression: every way to write a field, and blocks that cannot be read (RFC 7541).

use weft_testkit::frames::{self, END_HEADERS, END_STREAM, HEADERS};

use super::{COMPRESSION, Expect, case, frame, hold, settings};

const UNREADABLE: Expect = Expect::Ended(COMPRESSION);

/// A GET whose block ends with these bytes.
fn ending(bytes: &[u8]) -> Vec<u8> {
    whole(1, &[&frames::get("/"), bytes])
}

/// A request of this block.
fn whole(stream: u32, parts: &[&[u8]]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, parts.concat())
}

#[test]
fn representations() {
    // Out of the static table: GET, http, /, and an authority with an indexed name.
    let indexed: &[u8] = &[0x82, 0x86, 0x84, 0x01, 4, b't', b'e', b's', b't'];
    let added: &[u8] = &[0x40, 3, b'x', b'-', b'a', 1, b'1'];
    // 62 is the newest entry of the dynamic table (section 2.3.3).
    let newest: &[u8] = &[0xbe];
    // "www.example.com" by the code (RFC 7541 section C.4.1).
    let coded: &[u8] =
        &[0x01, 0x8c, 0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
    let answered = |about, bytes| case(about, bytes, Expect::Answered(1));
    hold(vec![
        answered("6.1: indexed fields", whole(1, &[indexed])),
        answered("6.2.1: a name that is added", whole(1, &[indexed, added])),
        answered("6.2.1: a known name with a value that is added", ending(&[0x7a, 1, b'1'])),
        answered("6.2.2: a name that is not", ending(&[0x00, 3, b'x', b'-', b'a', 1, b'1'])),
        answered("6.2.2: a known name", ending(&[0x0f, 0x2b, 1, b'1'])),
        answered(
            "6.2.3: a name that is never to be",
            ending(&[0x10, 3, b'x', b'-', b'a', 1, b'1']),
        ),
        answered("6.2.3: a known name, never", ending(&[0x1f, 0x2b, 1, b'1'])),
        case(
            "2.3.2: the table is kept between requests",
            [whole(1, &[indexed, added]), whole(3, &[indexed, newest])].concat(),
            Expect::Answered(3),
        ),
        answered("5.2: a value by the code", whole(1, &[&indexed[..3], coded])),
        answered("6.3: another size at the beginning", whole(1, &[&[0x20], indexed])),
        answered("6.3: two at the beginning", whole(1, &[&[0x20, 0x3f, 0xe1, 0x1f], indexed])),
    ]);
}

#[test]
fn blocks_that_cannot_be_read() {
    let unread = |about, bytes: &[u8]| case(about, ending(bytes), UNREADABLE);
    hold(vec![
        unread("6.1: index 0", &[0x80]),
        unread("2.3.3: an index beyond the tables", &[0xc6]),
        unread("2.3.3: one entry too far", &[0xbe]),
        unread("2.3.3: a name beyond the tables", &[0x7f, 0x20, 1, b'1']),
        unread(
            "5.1: a number that does not end",
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        ),
        unread("5.1: a number that is cut short", &[0xff]),
        unread("5.2: a name that is cut short", &[0x00, 9, b'x']),
        unread("5.2: a value that is cut short", &[0x00, 1, b'x', 9, b'1']),
        unread("5.2: padding longer than 7 bits", &[0x00, 1, b'x', 0x84, 0x49, 0x50, 0x9f, 0xff]),
        unread("5.2: padding that is not all ones", &[0x00, 1, b'x', 0x83, 0x49, 0x50, 0x90]),
        unread("5.2: the end-of-string symbol", &[0x00, 1, b'x', 0x84, 0xff, 0xff, 0xff, 0xff]),
        unread("4.2: another size at the end", &[0x20]),
        case(
            "6.3: a size above what was allowed",
            whole(1, &[&[0x3f, 0xe2, 0x1f], &frames::get("/")]),
            UNREADABLE,
        ),
        case(
            "4.2: a smaller table of ours is said back",
            [settings(&[(1, 0)]), ending(&[])].concat(),
            Expect::Answered(1),
        ),
        case(
            "2.2: the table is left in order by a request that is refused",
            [
                whole(1, &[&[0x40, 3, b'x', b'-', b'a', 1, b'1']]),
                whole(3, &[&frames::get("/"), &[0xbe]]),
            ]
            .concat(),
            Expect::Answered(3),
        ),
    ]);
}
