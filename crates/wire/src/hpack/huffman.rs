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
    let (mut bits, mut have) = (0_u64, 0_usize);
    let mut rest = coded.iter();
    loop {
        while have <= 56 - QUICK {
            let Some(byte) = rest.next() else { break };
            bits = bits << 8 | u64::from(*byte);
            have += 8;
        }
        if have == 0 {
            return true;
        }
        // Past the end there are ones, which begin no short code.
        let window = |len: usize| {
            let shown = if have >= len {
                bits >> (have - len)
            } else {
                (bits << (len - have)) | ((1 << (len - have)) - 1)
            };
            shown & ((1 << len) - 1)
        };
        let (symbol, length) = code.quick[window(QUICK) as usize];
        if length != 0 && usize::from(length) <= have {
            out.push(symbol as u8);
            have -= usize::from(length);
            continue;
        }
        if have < QUICK {
            // What is left must be the beginning of the end's code: ones, fewer than eight.
            return bits & ((1 << have) - 1) == (1 << have) - 1;
        }
        let mut found = None;
        for length in QUICK + 1..=LONGEST.min(have) {
            let (first, count, at) = code.longer[length];
            let shown = window(length) as u32;
            if count > 0 && shown >= first && shown - first < count {
                found = Some((code.symbols[(at + shown - first) as usize], length));
                break;
            }
        }
        match found {
            Some((symbol, length)) if symbol != END => {
                out.push(symbol as u8);
                have -= length;
            }
            _ => return false,
        }
    }
}
