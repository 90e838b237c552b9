//! Units as people write them: `250ms`, `1m30s`, `10MiB`.

use std::{fmt, str::FromStr, time::Duration};

/// A number of bytes, written `512`, `64KiB`, `10MiB`, `1GB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteSize(pub u64);

/// A text that is not a quantity of the unit that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseUnitError(String);

const SIZES: [(&str, u64); 10] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
];

impl ByteSize {
    /// The number of bytes, as a length in memory (saturating).
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for ByteSize {
    type Err = ParseUnitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = || {
            ParseUnitError(format!(
                "`{text}` is not a size: write a number with B, KiB, MiB, GiB, kB, MB or GB, such as 64KiB"
            ))
        };
        let trimmed = text.trim();
        let (number, factor) = SIZES
            .iter()
            .find_map(|(unit, factor)| Some((trimmed.strip_suffix(unit)?, *factor)))
            .unwrap_or((trimmed, 1));
        let number = number.trim();
        if let Ok(whole) = number.parse::<u64>() {
            return whole.checked_mul(factor).map(Self).ok_or_else(fail);
        }
        let number: f64 = number.parse().map_err(|_error: std::num::ParseFloatError| fail())?;
        let bytes = number * factor as f64;
        if !(0.0..=9e18).contains(&bytes) {
            return Err(fail());
        }
        Ok(Self(bytes as u64))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, factor) in
            [("TiB", 1u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)]
        {
            if self.0 >= factor && self.0.is_multiple_of(factor) {
                return write!(f, "{}{unit}", self.0 / factor);
            }
        }
        write!(f, "{}B", self.0)
    }
}

const SPANS: [(&str, u64); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// Parses a duration: one or more numbers with `ns`, `us`, `ms`, `s`, `m`, `h` or `d` (`1m30s`), or `0`.
pub fn parse_duration(text: &str) -> Result<Duration, ParseUnitError> {
    let fail = || {
        ParseUnitError(format!(
            "`{text}` is not a duration: write a number with ms, s, m, h or d, such as 250ms or 1m30s"
        ))
    };
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(fail());
    }
    let mut total = 0f64;
    let mut exact = 0u64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(fail)?;
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, next) = after.split_at(letters);
        let nanos = SPANS.iter().find(|(name, _)| *name == unit).ok_or_else(fail)?.1;
        match number.parse::<u64>() {
            Ok(whole) => {
                exact = whole
                    .checked_mul(nanos)
                    .and_then(|part| exact.checked_add(part))
                    .ok_or_else(fail)?;
            }
            Err(_) => {
                total +=
                    number.parse::<f64>().map_err(|_error: std::num::ParseFloatError| fail())?
                        * nanos as f64;
            }
        }
        rest = next;
    }
    if total > 9e18 {
        return Err(fail());
    }
    Ok(Duration::from_nanos(exact.checked_add(total as u64).ok_or_else(fail)?))
}

/// Writes a duration as [`parse_duration`] reads it, in the largest units that are exact.
pub fn format_duration(span: Duration) -> String {
    let mut nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
    if nanos == 0 {
        return "0s".into();
    }
    let mut text = String::new();
    for (unit, size) in SPANS.iter().rev() {
        if nanos >= *size {
            text.push_str(&format!("{}{unit}", nanos / size));
            nanos %= size;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("64KiB", 65_536),
            ("1.5 MiB", 1_572_864),
            ("1GB", 1_000_000_000),
        ] {
            assert_eq!(text.parse::<ByteSize>(), Ok(ByteSize(bytes)), "{text}");
        }
        for text in ["", "-1", "12 apples", "1e40GiB", "KiB", "NaN", "inf"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
        assert_eq!(ByteSize(65_536).to_string(), "64KiB");
        assert_eq!(ByteSize(1_000).to_string(), "1000B");
    }

    #[test]
    fn durations() {
        for (text, millis) in [
            ("0", 0),
            ("250ms", 250),
            ("1.5s", 1_500),
            ("1m30s", 90_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in
            ["", "10", "s", "-1s", "1 fortnight", "99999999999999999999s", "1..2s", "300000d"]
        {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        for millis in [1u64, 1_000, 90_500, 86_400_000, 86_461_001] {
            let span = Duration::from_millis(millis);
            assert_eq!(parse_duration(&format_duration(span)), Ok(span));
        }
    }
}
