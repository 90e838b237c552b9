//! Hexadecimal digits to numbers and back, without allocation.

/// Reads exactly the given digits; `upper` says whether `A` to `F` count as digits.
pub(super) fn parse(digits: &[u8], upper: bool) -> Option<u128> {
    if digits.is_empty() || digits.len() > 32 {
        return None;
    }
    digits.iter().try_fold(0u128, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            b'A'..=b'F' if upper => digit - b'A' + 10,
            _ => return None,
        };
        Some((value << 4) | u128::from(digit))
    })
}

/// The low `4 × N` bits as N lower-case digits.
pub(super) fn write<const N: usize>(value: u128) -> [u8; N] {
    let mut digits = [0; N];
    for (at, digit) in digits.iter_mut().rev().enumerate() {
        *digit = b"0123456789abcdef"[((value >> (4 * at)) & 15) as usize];
    }
    digits
}
