//! Position in the write-ahead log of a PostgreSQL server, as it is written: `16/B374D848`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Position in the write-ahead log: bytes from its beginning.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Bytes from an earlier position to this one; 0 if that is not earlier.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl FromStr for Lsn {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (high, low) = text.split_once('/').ok_or(())?;
        let half = |text: &str| {
            let is_hex = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            let number = is_hex.then(|| u32::from_str_radix(text, 16).ok()).flatten();
            number.map(u64::from).ok_or(())
        };
        Ok(Self(half(high)? << 32 | half(low)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_is_written() {
        for (text, number) in
            [("0/0", 0), ("0/16B3748", 0x16B_3748), ("16/B374D848", 0x16_B374_D848)]
        {
            assert_eq!(text.parse(), Ok(Lsn(number)), "{text}");
            assert_eq!(Lsn(number).to_string(), text);
        }
        for text in ["", "0", "/", "0/", "0/G", "+1/0", "0/1/2", "0/123456789"] {
            assert!(text.parse::<Lsn>().is_err(), "{text}");
        }
    }
}
