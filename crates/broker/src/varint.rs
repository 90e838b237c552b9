//! Variable-length numbers and counted bytes of what the broker stores (LEB128, least significant
//! group first).

/// Appends a number.
pub(crate) fn put(into: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

/// Appends bytes after their count.
pub(crate) fn put_bytes(into: &mut Vec<u8>, bytes: &[u8]) {
    put(into, bytes.len() as u64);
    into.extend_from_slice(bytes);
}

/// The room that [`put_wide`] needs.
pub(crate) const WIDE: usize = 3;

/// Writes a number below 2^21 over three bytes that were kept free.
pub(crate) fn put_wide(at: &mut [u8], value: usize) {
    for (index, byte) in at.iter_mut().enumerate().take(WIDE) {
        let more = if index + 1 < WIDE { 0x80 } else { 0 };
        *byte = ((value >> (7 * index)) & 0x7f) as u8 | more;
    }
}

/// Takes a number off the front; `None` when it is cut short or does not fit.
pub(crate) fn take(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = from.split_first()?;
        *from = rest;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return None;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Takes counted bytes off the front.
pub(crate) fn take_bytes<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let count = usize::try_from(take(from)?).ok()?;
    let (bytes, rest) = from.split_at_checked(count)?;
    *from = rest;
    Some(bytes)
}

/// Takes counted UTF-8 off the front.
pub(crate) fn take_text<'a>(from: &mut &'a [u8]) -> Option<&'a str> {
    std::str::from_utf8(take_bytes(from)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_come_back(value: u64) {
            let mut bytes = Vec::new();
            put(&mut bytes, value);
            let mut rest = bytes.as_slice();
            prop_assert_eq!(take(&mut rest), Some(value));
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn anything_is_read_without_a_panic(bytes: Vec<u8>) {
            let mut rest = bytes.as_slice();
            take(&mut rest);
            take_bytes(&mut rest);
            take_text(&mut rest);
        }
    }

    #[test]
    fn wide_numbers_are_read_as_any_other() {
        for value in [0, 1, 127, 128, 70_000, (1 << 21) - 1] {
            let mut bytes = [0; WIDE];
            put_wide(&mut bytes, value);
            assert_eq!(take(&mut bytes.as_slice()), Some(value as u64));
        }
        assert_eq!(take(&mut [0xff; 10].as_slice()), None);
    }
}
