//! `grpc-timeout`: at most eight digits and a unit.

use std::time::Duration;

const UNITS: [(u8, u64); 6] = [
    (b'n', 1),
    (b'u', 1_000),
    (b'm', 1_000_000),
    (b'S', 1_000_000_000),
    (b'M', 60_000_000_000),
    (b'H', 3_600_000_000_000),
];

const DIGITS_MAX: usize = 8;
const VALUE_MAX: u64 = 99_999_999;

/// Reads a `grpc-timeout`; `None` if it is malformed. Zero is a deadline that has passed.
pub fn parse_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    let nanos = UNITS.iter().find(|(letter, _)| letter == unit)?.1;
    if digits.is_empty() || digits.len() > DIGITS_MAX || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count = digits.iter().fold(0u64, |count, digit| count * 10 + u64::from(digit - b'0'));
    // 99,999,999 hours are more nanoseconds than 64 bits hold.
    let total = u128::from(count) * u128::from(nanos);
    let secs = u64::try_from(total / 1_000_000_000).ok()?;
    Some(Duration::new(secs, u32::try_from(total % 1_000_000_000).ok()?))
}

/// Appends a `grpc-timeout` in the finest unit that holds the span in eight digits. It is rounded down,
/// so that nobody further on believes to have longer than there is; more than 99,999,999 hours are cut
/// to that.
pub fn format_timeout(span: Duration, out: &mut Vec<u8>) {
    let nanos = span.as_nanos();
    let (unit, count) = UNITS
        .iter()
        .map(|(unit, size)| (*unit, nanos / u128::from(*size)))
        .find(|(_, count)| *count <= u128::from(VALUE_MAX))
        .unwrap_or((b'H', u128::from(VALUE_MAX)));
    let mut count = u32::try_from(count).unwrap_or(u32::MAX);
    let mut digits = [0u8; 10];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (count % 10) as u8;
        count /= 10;
        if count == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
    out.push(unit);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn formatted(span: Duration) -> Vec<u8> {
        let mut out = Vec::new();
        format_timeout(span, &mut out);
        out
    }

    #[test]
    fn every_unit_is_read() {
        for (text, expect) in [
            ("1n", Duration::from_nanos(1)),
            ("2u", Duration::from_micros(2)),
            ("3m", Duration::from_millis(3)),
            ("4S", Duration::from_secs(4)),
            ("5M", Duration::from_secs(300)),
            ("6H", Duration::from_secs(21_600)),
            ("0S", Duration::ZERO),
            ("00000001S", Duration::from_secs(1)),
            ("99999999H", Duration::from_secs(99_999_999 * 3600)),
        ] {
            assert_eq!(parse_timeout(text.as_bytes()), Some(expect), "{text}");
        }
        for text in [
            "",
            "S",
            "1",
            "1s",
            "1h",
            "100000000n",
            "000000001n",
            "-1S",
            "+1S",
            "1.5S",
            " 1S",
            "1S ",
            "1SS",
            "é",
        ] {
            assert_eq!(parse_timeout(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn spans_are_written_in_the_finest_unit_that_fits() {
        for (span, expect) in [
            (Duration::ZERO, "0n"),
            (Duration::from_nanos(99_999_999), "99999999n"),
            (Duration::from_millis(100), "100000u"),
            (Duration::from_secs(15), "15000000u"),
            (Duration::from_secs(100), "100000m"),
            (Duration::from_secs(99_999_999), "99999999S"),
            (Duration::from_secs(100_000_000), "1666666M"),
            (Duration::MAX, "99999999H"),
        ] {
            assert_eq!(String::from_utf8(formatted(span)).unwrap(), expect);
        }
    }

    proptest! {
        #[test]
        fn a_span_loses_less_than_a_millionth(nanos in any::<u64>()) {
            let span = Duration::from_nanos(nanos);
            let back = parse_timeout(&formatted(span)).unwrap();
            prop_assert!(back <= span);
            prop_assert!(span - back <= span / 1_000_000);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            if let Some(span) = parse_timeout(&bytes) {
                prop_assert_eq!(parse_timeout(&formatted(span)), Some(span));
            }
        }
    }
}
