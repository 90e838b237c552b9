//! Units as people write them: `250ms`, `1m30s`, `10MiB`.

use std::{fmt, str::FromStr, time::Duration};

/// A number of bytes, written `512`, `64KiB`, `10MiB`, `1GB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteSize(pub u64);

/// A text that is not a quantity of the unit that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseUnitError(String);

/// The units of sizes, each with its number of bytes.
pub const SIZE_UNITS: [(&str, u64); 10] = [
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

/// The largest size: as much as a fraction may name.
pub const SIZE_MAX: u64 = 9_000_000_000_000_000_000;

/// The most digits behind a point.
pub const FRACTION_DIGITS: usize = 9;

/// A decimal number at the start of a text, without needless zeros, and what follows it.
fn decimal(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, after) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').map_or((number, None), |(w, f)| (w, Some(f)));
    let fits = !whole.is_empty()
        && whole.len() <= 19
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(|digits| {
            (1..=FRACTION_DIGITS).contains(&digits.len()) && !digits.contains('.')
        });
    fits.then_some((number, after))
}

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
        let (number, unit) = decimal(text).ok_or_else(fail)?;
        let unit = unit.strip_prefix(' ').filter(|unit| !unit.is_empty()).unwrap_or(unit);
        let factor = match unit {
            // A part of a byte is none.
            "" if number.contains('.') => return Err(fail()),
            "" => 1,
            unit => SIZE_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(fail)?.1,
        };
        if let Ok(whole) = number.parse::<u64>() {
            return whole.checked_mul(factor).map(Self).ok_or_else(fail);
        }
        let number: f64 = number.parse().map_err(|_error: std::num::ParseFloatError| fail())?;
        let bytes = number * factor as f64;
        if !(0.0..=SIZE_MAX as f64).contains(&bytes) {
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

/// The units of durations, the largest first, each with its nanoseconds.
pub const DURATION_UNITS: [(&str, u64); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Parses a duration: one number with `d`, `h`, `m`, `s`, `ms`, `us` or `ns`, whole or with a fraction
/// (`90s`, `1.5h`); or whole numbers with descending units, each below the next larger one (`1m30s`);
/// or `0`.
///
/// # Errors
/// What is wrong with it.
pub fn parse_duration(text: &str) -> Result<Duration, ParseUnitError> {
    let fail = || {
        ParseUnitError(format!(
            "`{text}` is not a duration: write a number with ms, s, m, h or d, such as 250ms or 1m30s"
        ))
    };
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if text.is_empty() {
        return Err(fail());
    }
    let (mut rest, mut last, mut nanos) = (text, None, 0u64);
    while !rest.is_empty() {
        let (number, after) = decimal(rest).ok_or_else(fail)?;
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, next) = after.split_at(letters);
        let place = DURATION_UNITS.iter().position(|(name, _)| *name == unit).ok_or_else(fail)?;
        let size = DURATION_UNITS[place].1;
        let first = last.is_none();
        let part = match number.parse::<u64>() {
            Ok(whole) => {
                let below =
                    place.checked_sub(1).map_or(u64::MAX, |above| DURATION_UNITS[above].1 / size);
                let in_order = last.is_none_or(|last| place > last && whole < below);
                // What is followed by smaller units is more than nothing of its own.
                if !in_order || (first && !next.is_empty() && whole == 0) {
                    return Err(ParseUnitError(format!(
                        "`{text}` is not a duration: units follow each other from the largest, each \
                         below the next larger one, as in 1h30m"
                    )));
                }
                whole.checked_mul(size).ok_or_else(fail)?
            }
            Err(_) if first && next.is_empty() => {
                let span =
                    number.parse::<f64>().map_err(|_error: std::num::ParseFloatError| fail())?
                        * size as f64;
                if span > 9e18 {
                    return Err(fail());
                }
                span as u64
            }
            // A fraction stands alone.
            Err(_) => return Err(fail()),
        };
        nanos = nanos.checked_add(part).ok_or_else(fail)?;
        (last, rest) = (Some(place), next);
    }
    Ok(Duration::from_nanos(nanos))
}

/// Parses a share or a factor: a number (`0.2`), or a percentage (`20%`).
///
/// # Errors
/// What is wrong with it.
pub fn parse_share(text: &str) -> Result<f64, ParseUnitError> {
    let fail =
        || ParseUnitError(format!("`{text}` is not a number: write one such as 0.2, or 20%"));
    let number = match text.strip_suffix('%') {
        Some(percent) => match decimal(percent.strip_suffix(' ').unwrap_or(percent)) {
            Some((number, "")) => number.parse::<f64>().map(|percent| percent / 100.0),
            _ => return Err(fail()),
        },
        None => text.parse::<f64>(),
    };
    number.ok().filter(|number| number.is_finite()).ok_or_else(fail)
}

/// Writes a duration as [`parse_duration`] reads it, in the largest units that are exact.
pub fn format_duration(span: Duration) -> String {
    let mut nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
    if nanos == 0 {
        return "0s".into();
    }
    let mut text = String::new();
    for (unit, size) in &DURATION_UNITS {
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
        for text in [
            "",
            "10",
            "s",
            "-1s",
            "1 fortnight",
            "99999999999999999999s",
            "1..2s",
            "300000d",
            "30s1m",
            "1m90s",
            "1m1.5s",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        for millis in [1u64, 1_000, 90_500, 86_400_000, 86_461_001] {
            let span = Duration::from_millis(millis);
            assert_eq!(parse_duration(&format_duration(span)), Ok(span));
        }
        // What is written is read again, however small its parts are.
        for nanos in [1u64, 1_500, 1_500_000, 60_000_000_001, 999_999_999] {
            let span = Duration::from_nanos(nanos);
            assert_eq!(parse_duration(&format_duration(span)), Ok(span));
        }
    }

    #[test]
    fn shares() {
        for (text, share) in
            [("0.2", 0.2), ("20%", 0.2), ("12.5%", 0.125), ("100 %", 1.0), ("2", 2.0)]
        {
            assert_eq!(parse_share(text), Ok(share), "{text}");
        }
        for text in ["", "%", "05%", "-1%", "many", "NaN", "inf"] {
            assert!(parse_share(text).is_err(), "{text}");
        }
    }
}
