//! API keys that the node draws: a prefix, 30 letters and digits drawn by chance (178 bits), and a checksum, so
//! that what scans repositories and logs for leaks knows one by its looks, as it knows GitHub's.
//!
//! `weft_` + 30 of `0-9A-Za-z` + 6 of the same, which are the CRC-32 (that of gzip) of what stands before.

use aws_lc_rs::rand;

/// Letters and digits drawn by chance.
const DRAWN: usize = 30;
/// Letters and digits of the checksum.
const CHECKED: usize = 6;
/// The longest prefix, in bytes.
pub const PREFIX_BYTES_MAX: usize = 20;

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Whether keys may begin with this: letters, digits and underscores.
pub fn is_prefix(prefix: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=PREFIX_BYTES_MAX).contains(&prefix.len()) && prefix.bytes().all(legal)
}

/// Draws a key; `None` if the system gives no chance.
pub fn draw(prefix: &str) -> Option<String> {
    let mut key = format!("{prefix}_");
    key.push_str(&letters(DRAWN)?);
    key.push_str(&checksum(&key));
    Some(key)
}

/// So many letters and digits drawn by chance.
pub fn letters(count: usize) -> Option<String> {
    let mut text = String::with_capacity(count);
    let mut bytes = [0; 64];
    while text.len() < count {
        rand::fill(&mut bytes).ok()?;
        // Beyond 4 * 62 some letters would come more often than others.
        let fair = bytes.iter().filter(|byte| **byte < 248).take(count - text.len());
        text.extend(fair.map(|byte| char::from(DIGITS[usize::from(byte % 62)])));
    }
    Some(text)
}

/// Whether a text looks like a key that was drawn with a prefix, and nothing in it was mistyped.
pub fn is_drawn(prefix: &str, text: &str) -> bool {
    let Some(rest) = text.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('_')) else {
        return false;
    };
    rest.len() == DRAWN + CHECKED
        && rest.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && text.ends_with(&checksum(&text[..text.len() - CHECKED]))
}

fn checksum(text: &str) -> String {
    let mut number = crc32(text.as_bytes());
    let mut digits = [b'0'; CHECKED];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[(number % 62) as usize];
        number /= 62;
    }
    digits.map(char::from).iter().collect()
}

/// CRC-32 of ISO 3309, as in gzip. Keys are drawn now and then, so that it needs no table.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg());
    let byte = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc));
    !bytes.iter().fold(u32::MAX, byte)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn keys_are_known_by_their_looks() {
        // The check value of the catalogue of CRCs.
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        let keys: HashSet<String> = (0..1_000).map(|_| draw("weft").unwrap()).collect();
        assert_eq!(keys.len(), 1_000);
        for key in &keys {
            assert!(key.len() == 41 && is_drawn("weft", key), "{key}");
            assert!(!is_drawn("other", key));
            let other = if key.ends_with('a') { "b" } else { "a" };
            assert!(!is_drawn("weft", &format!("{}{other}", &key[..40])), "{key}");
        }
        let seen: HashSet<u8> = keys.iter().flat_map(|key| key.bytes().skip(5)).collect();
        assert_eq!(seen.len(), 62);
        for text in ["", "weft_", "weft_é", &"weft_0".repeat(7)] {
            assert!(!is_drawn("weft", text), "{text}");
        }
        assert!(
            is_prefix("my_shop2")
                && !is_prefix("")
                && !is_prefix("a-b")
                && !is_prefix(&"a".repeat(21))
        );
    }
}
