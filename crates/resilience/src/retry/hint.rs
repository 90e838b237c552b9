//! What a service says about another try: `Retry-After` and `grpc-retry-pushback-ms`.

use std::time::{Duration, SystemTime};

/// What a service says about another try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// Not before this much time has passed.
    After(Duration),
    /// Not at all.
    Never,
}

/// Reads a `Retry-After` field (RFC 9110 section 10.2.3): seconds, or a date in any of the three
/// HTTP formats, of which what is left at `wall` counts (zero once it has passed).
///
/// `None` if it is neither: the field is then as good as absent.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use weft_resilience::retry::{Hint, retry_after};
///
/// let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_770);
/// assert_eq!(retry_after("120", wall), Some(Hint::After(Duration::from_secs(120))));
/// let date = "Sun, 06 Nov 1994 08:49:37 GMT";
/// assert_eq!(retry_after(date, wall), Some(Hint::After(Duration::from_secs(7))));
/// assert_eq!(retry_after("soon", wall), None);
/// ```
pub fn retry_after(value: &str, wall: SystemTime) -> Option<Hint> {
    let value = value.trim_ascii();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit say "for ever" as clearly as any number.
        let seconds = value.parse().unwrap_or(u64::MAX);
        return Some(Hint::After(Duration::from_secs(seconds)));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(Hint::After(date.duration_since(wall).unwrap_or(Duration::ZERO)))
}

/// Reads a `grpc-retry-pushback-ms` field (gRFC A6): what is negative or unreadable means no retry.
pub fn pushback(value: &str) -> Hint {
    match value.trim_ascii().parse::<i32>().map(u64::try_from) {
        Ok(Ok(millis)) => Hint::After(Duration::from_millis(millis)),
        _ => Hint::Never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &str, expect: Option<u64>) {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_770);
        let expect = expect.map(|seconds| Hint::After(Duration::from_secs(seconds)));
        assert_eq!(retry_after(value, wall), expect, "{value:?}");
    }

    #[test]
    fn retry_after_takes_seconds_and_the_three_dates() {
        check("0", Some(0));
        check(" 30 ", Some(30));
        check("99999999999999999999999999", Some(u64::MAX));
        check("Sun, 06 Nov 1994 08:49:37 GMT", Some(7));
        check("Sunday, 06-Nov-94 08:49:37 GMT", Some(7));
        check("Sun Nov  6 08:49:37 1994", Some(7));
        check("Sun, 06 Nov 1994 08:49:00 GMT", Some(0));
        for bad in
            ["", " ", "-1", "+1", "1.5", "0x10", "soon", "Sun, 99 Nov 1994 08:49:37 GMT", "١٢"]
        {
            check(bad, None);
        }
    }

    #[test]
    fn pushback_is_a_number_or_a_refusal() {
        assert_eq!(pushback("250"), Hint::After(Duration::from_millis(250)));
        assert_eq!(pushback("0"), Hint::After(Duration::ZERO));
        for never in ["-1", "", "x", "99999999999", "1.5"] {
            assert_eq!(pushback(never), Hint::Never, "{never:?}");
        }
    }
}
