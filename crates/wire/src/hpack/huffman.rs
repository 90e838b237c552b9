//! The Huffman code of HPACK (RFC 7541 section 5.2 and appendix B).
//!
//! The code is canonical: within a length, and from one length to the next, codes count up in the order of
//! their symbols, so that the lengths alone make it.

use std::sync::LazyLock;

/// How many bits the code of each byte has; the last is that of the end of a string.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30,
    28, 28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5,
    5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6,
    6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23,
    22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23,
    24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22,
    23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27,
    26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21,
    22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27,
    27, 27, 27, 27, 26, 30,
];

/// The longest code.
const LONGEST: usize = 30;
/// The symbol that must not be there (RFC 7541 section 5.2).
const END: u16 = 256;
/// Codes of up to so many bits are found by one look.
const QUICK: usize = 8;

struct Code {
    /// By the next eight bits: a symbol, and the length of its code; 0 if that is longer.
    quick: [(u16, u8); 1 << QUICK],
    /// By length: the first code, how many there are, and where their symbols begin.
    longer: [(u32, u32, u32); LONGEST + 1],
    /// In the order of their codes.
    symbols: Vec<u16>,
}

static CODE: LazyLock<Code> = LazyLock::new(|| {
    let mut symbols: Vec<u16> = (0..=END).collect();
    symbols.sort_by_key(|symbol| (LENGTHS[usize::from(*symbol)], *symbol));
    let mut quick = [(0, 0); 1 << QUICK];
    let mut longer = [(0, 0, 0); LONGEST + 1];
    let (mut code, mut before) = (0_u32, 0_usize);
    for (at, symbol) in symbols.iter().enumerate() {
        let bits = LENGTHS[usize::from(*symbol)];
        let length = usize::from(bits);
        code <<= length - before;
        before = length;
        let place = &mut longer[length];
        if place.1 == 0 {
            *place = (code, 0, u32::try_from(at).unwrap_or_default());
        }
        place.1 += 1;
        if length <= QUICK {
            let first = (code as usize) << (QUICK - length);
            quick[first..first + (1 << (QUICK - length))].fill((*symbol, bits));
        }
        code += 1;
    }
    Code { quick, longer, symbols }
});

/// Appends what `coded` stands for to `out`; false if it is no code.
pub(super) fn decode(coded: &[u8], out: &mut Vec<u8>) -> bool {
    let code = &*CODE;
    // The next bits of the code, from the top.
    let (mut bits, mut have) = (0_u64, 0_u32);
    let mut rest = coded;
    let begun = out.len();
    // The shortest code has five bits.
    out.resize(begun + coded.len() * 8 / 5, 0);
    let mut at = begun;
    let whole = loop {
        if let Some((next, after)) = rest.split_first_chunk::<4>().filter(|_| have <= 32) {
            bits |= u64::from(u32::from_be_bytes(*next)) << (32 - have);
            have += 32;
            rest = after;
        } else if let Some((next, after)) = rest.split_first().filter(|_| have <= 56) {
            bits |= u64::from(*next) << (56 - have);
            have += 8;
            rest = after;
            continue;
        }
        // Short codes, for as long as all bits that are looked at are there.
        let is_longer = loop {
            if have < QUICK as u32 {
                break false;
            }
            let (symbol, length) = code.quick[(bits >> (64 - QUICK)) as usize];
            if length == 0 {
                break true;
            }
            let Some(place) = out.get_mut(at) else { break true };
            *place = symbol as u8;
            at += 1;
            bits <<= length;
            have -= u32::from(length);
        };
        if !is_longer && rest.is_empty() {
            break end(code, bits, have, out, &mut at);
        }
        if is_longer {
            if have < LONGEST as u32 && !rest.is_empty() {
                continue;
            }
            let Some((symbol, length)) = longer(code, bits, have) else { break false };
            let Some(place) = out.get_mut(at) else { break false };
            *place = symbol;
            at += 1;
            bits <<= length;
            have -= length;
        }
    };
    out.truncate(at);
    whole
}

/// The last bits, of which there are fewer than are looked at at once: one more short code perhaps, and then what must be
/// the beginning of the end's code: ones, fewer than eight.
fn end(code: &Code, mut bits: u64, mut have: u32, out: &mut [u8], at: &mut usize) -> bool {
    while have > 0 {
        // Past the end there are ones, which begin no short code.
        let (symbol, length) = code.quick[((bits | u64::MAX >> have) >> (64 - QUICK)) as usize];
        if length == 0 || u32::from(length) > have {
            break;
        }
        let Some(place) = out.get_mut(*at) else { return false };
        *place = symbol as u8;
        *at += 1;
        bits <<= length;
        have -= u32::from(length);
    }
    bits | u64::MAX >> have == u64::MAX
}

/// The symbol that a code of more bits than are looked at at once begins with, and how many it has.
fn longer(code: &Code, bits: u64, have: u32) -> Option<(u8, u32)> {
    for length in QUICK as u32 + 1..=have.min(LONGEST as u32) {
        let (first, count, at) = code.longer[length as usize];
        let shown = (bits >> (64 - length)) as u32;
        if count > 0 && shown >= first && shown - first < count {
            let symbol = code.symbols[(at + shown - first) as usize];
            return (symbol != END).then_some((symbol as u8, length));
        }
    }
    None
}

/// The bits of the code of a byte.
#[cfg(test)]
pub(super) fn code_of(byte: u8) -> Vec<bool> {
    let length = LENGTHS[usize::from(byte)];
    let lower = |other: &u16| {
        let its = LENGTHS[usize::from(*other)];
        (its, *other) < (length, u16::from(byte))
    };
    // By its share of all codes that come before it, as the code is a complete one.
    let before: u64 = (0..=END).filter(lower).map(|it| 1 << (32 - LENGTHS[usize::from(it)])).sum();
    (0..length).map(|at| before >> (31 - at) & 1 == 1).collect()
}
