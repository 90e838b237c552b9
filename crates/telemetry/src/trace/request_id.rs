//! The id by which people find one request in every log: taken from the caller if harmless, else made.

use weft_kernel::Rng;

use super::hex;

/// The longest `x-request-id` that is taken from a caller.
pub const BYTES_MAX: usize = 128;

/// A request id that Weft made: a UUID of version 7 (RFC 9562), which sorts by time.
pub type Made = [u8; 36];

/// The caller's id, if it is 1 to 128 visible ASCII characters; anything else is not passed on or logged.
pub fn accept(value: &[u8]) -> Option<&str> {
    let fits =
        !value.is_empty() && value.len() <= BYTES_MAX && value.iter().all(u8::is_ascii_graphic);
    if fits { str::from_utf8(value).ok() } else { None }
}

/// A new id; `wall_millis` is the time since 1970.
pub fn make(wall_millis: u64, rng: &mut Rng) -> Made {
    let random = (u128::from(rng.next_u64()) << 64) | u128::from(rng.next_u64());
    let mut value = (u128::from(wall_millis) << 80) | (random & ((1 << 80) - 1));
    value = (value & !(0xf << 76)) | (7 << 76);
    value = (value & !(0b11 << 62)) | (0b10 << 62);
    let digits: [u8; 32] = hex::write(value);
    let mut text = [b'-'; 36];
    for (to, from) in [(0, 0..8), (9, 8..12), (14, 12..16), (19, 16..20), (24, 20..32)] {
        text[to..to + from.len()].copy_from_slice(&digits[from]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_harmless_ids_are_taken() {
        for good in ["1", "a-b_c.d:e/f", &"x".repeat(128)] {
            assert_eq!(accept(good.as_bytes()), Some(good));
        }
        for bad in ["", " ", "a b", "a\n", "a\x1b[2J", "é", &"x".repeat(129)] {
            assert_eq!(accept(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn made_ids_are_version_7_and_sort_by_time() {
        let mut rng = Rng::seeded(5);
        let mut last = make(0, &mut rng);
        for millis in 1_700_000_000_000u64..1_700_000_000_500 {
            let id = make(millis, &mut rng);
            let text = str::from_utf8(&id).unwrap();
            let lengths: Vec<_> = text.split('-').map(str::len).collect();
            assert_eq!(lengths, [8, 4, 4, 4, 12]);
            assert_eq!(id[14], b'7');
            assert!(b"89ab".contains(&id[19]), "{text}");
            assert_eq!(accept(&id), Some(text));
            assert!(id > last);
            last = id;
        }
    }
}
