//! Times as people write and read them: RFC 3339, to the millisecond.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use weft_kernel::{Error, Reason, Result};

/// Wall milliseconds as RFC 3339.
pub fn text(ms: u64) -> String {
    i64::try_from(ms)
        .ok()
        .and_then(|ms| Timestamp::from_millisecond(ms).ok())
        .map_or_else(String::new, |time| format!("{time:.3}"))
}

/// A time of RFC 3339 as wall milliseconds; what lies before 1970 is 1970.
pub fn parse(name: &str, text: &str) -> Result<u64> {
    let time: Timestamp = text.parse().map_err(|error: jiff::Error| {
        let say = format!("`{name}` is not a time such as 2026-01-31T00:00:00Z");
        Error::new(Reason::MalformedRequest, say).because(error)
    })?;
    Ok(u64::try_from(time.as_millisecond()).unwrap_or(0))
}

/// The wall-clock time in milliseconds.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_and_read() {
        assert_eq!(text(1_769_817_600_123), "2026-01-31T00:00:00.123Z");
        assert_eq!(parse("at", "2026-01-31T01:00:00.123+01:00").unwrap(), 1_769_817_600_123);
        assert_eq!(parse("at", "1900-01-01T00:00:00Z").unwrap(), 0);
        assert_eq!(text(u64::MAX), "");
        assert!(parse("at", "tomorrow").unwrap_err().said().contains("`at`"));
    }
}
