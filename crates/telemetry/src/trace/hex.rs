//! Hexadecimal digits to numbers and back, without allocation.

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// The value of each byte as a digit; 255 for what is none.
const fn values(upper: bool) -> [u8; 256] {
    let mut values = [255; 256];
    let mut digit = 0;
    while digit < 16 {
        let byte = DIGITS[digit as usize];
        values[byte as usize] = digit;
        if upper {
            values[byte.to_ascii_uppercase() as usize] = digit;
        }
        digit += 1;
    }
    values
}

static LOWER: [u8; 256] = values(false);
static BOTH: [u8; 256] = values(true);

/// Reads 1 to 32 digits; `upper` says whether `A` to `F` count as digits.
pub(super) fn parse(digits: &[u8], upper: bool) -> Option<u128> {
    if digits.is_empty() || digits.len() > 32 {
        return None;
    }
    let values = if upper { &BOTH } else { &LOWER };
    let (high, low) = digits.split_at(digits.len().saturating_sub(16));
    Some((u128::from(half(high, values)?) << 64) | u128::from(half(low, values)?))
}

/// At most 16 digits; looks at all of them before it judges, which spares a branch for each.
fn half(digits: &[u8], values: &[u8; 256]) -> Option<u64> {
    let (mut value, mut worst) = (0, 0);
    for byte in digits {
        let digit = values[usize::from(*byte)];
        worst |= digit;
        value = (value << 4) | u64::from(digit & 15);
    }
    (worst < 16).then_some(value)
}

/// The low `4 × N` bits as N lower-case digits, an even number of them.
pub(super) fn write<const N: usize>(value: u128) -> [u8; N] {
    let bytes = value.to_be_bytes();
    let mut digits = [0; N];
    for (two, byte) in digits.rchunks_exact_mut(2).zip(bytes.iter().rev()) {
        two[0] = DIGITS[usize::from(byte >> 4)];
        two[1] = DIGITS[usize::from(byte & 15)];
    }
    digits
}
