//! Days, weeks and months of a time zone, as spans of the wall clock.

use jiff::{Timestamp, ToSpan, civil::Date, tz::TimeZone};

/// How long a quota lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Every {
    /// From midnight to midnight.
    Day,
    /// From Monday to Monday (ISO 8601).
    Week,
    /// From the first of a month to the first of the next.
    Month,
}

impl Every {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }
}

/// A span of the wall clock, in milliseconds since 1970: from `start`, until just before `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Period {
    /// Its first millisecond.
    pub start: u64,
    /// The first millisecond after it.
    pub end: u64,
}

impl Period {
    /// Whether a time is within it.
    pub const fn contains(&self, now_ms: u64) -> bool {
        self.start <= now_ms && now_ms < self.end
    }

    /// Whether it is over at a time. One that has not begun is not: a clock that is set back gives nothing anew.
    pub const fn is_over(&self, now_ms: u64) -> bool {
        now_ms >= self.end
    }
}

/// The days, weeks or months of a time zone.
#[derive(Clone, Debug, PartialEq)]
pub struct Calendar {
    /// How long each lasts.
    pub every: Every,
    /// Where it is midnight at their beginning.
    pub zone: TimeZone,
}

impl Calendar {
    /// The period of a time. Days are as long as the clocks of the zone make them.
    pub fn period(&self, now_ms: u64) -> Period {
        self.reckon(now_ms).unwrap_or_else(|| {
            // Beyond the years that the calendar knows: a day is a day.
            const DAY: u64 = 86_400_000;
            let start = now_ms - now_ms % DAY;
            Period { start, end: start.saturating_add(DAY) }
        })
    }

    fn reckon(&self, now_ms: u64) -> Option<Period> {
        let now = Timestamp::from_millisecond(i64::try_from(now_ms).ok()?).ok()?;
        let today = now.to_zoned(self.zone.clone()).date();
        let (first, next) = match self.every {
            Every::Day => (today, today.tomorrow().ok()?),
            Every::Week => {
                let back = i64::from(today.weekday().to_monday_zero_offset());
                let first = today.checked_sub(back.days()).ok()?;
                (first, first.checked_add(7.days()).ok()?)
            }
            Every::Month => {
                let first = today.first_of_month();
                (first, first.checked_add(1.month()).ok()?)
            }
        };
        Some(Period { start: self.midnight(first)?, end: self.midnight(next)? })
    }

    /// The first moment of a day, which is not midnight where the clock skips that.
    fn midnight(&self, day: Date) -> Option<u64> {
        let start = day.to_zoned(self.zone.clone()).ok()?.timestamp();
        u64::try_from(start.as_millisecond()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> u64 {
        u64::try_from(text.parse::<Timestamp>().unwrap().as_millisecond()).unwrap()
    }

    #[track_caller]
    fn check(every: Every, zone: &str, now: &str, start: &str, end: &str) {
        let calendar = Calendar { every, zone: TimeZone::get(zone).unwrap() };
        let expected = Period { start: ms(start), end: ms(end) };
        assert_eq!(calendar.period(ms(now)), expected, "{every:?} of {zone} at {now}");
        assert_eq!(calendar.period(expected.start), expected);
        assert_eq!(calendar.period(expected.end - 1), expected);
        assert_eq!(calendar.period(expected.end).start, expected.end);
    }

    #[test]
    fn periods_begin_at_midnight_of_the_zone() {
        let now = "2026-11-30T23:30:00Z";
        check(Every::Day, "UTC", now, "2026-11-30T00:00:00Z", "2026-12-01T00:00:00Z");
        check(Every::Day, "Europe/Berlin", now, "2026-11-30T23:00:00Z", "2026-12-01T23:00:00Z");
        check(Every::Month, "UTC", now, "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z");
        check(Every::Month, "Europe/Berlin", now, "2026-11-30T23:00:00Z", "2026-12-31T23:00:00Z");
        check(Every::Week, "UTC", now, "2026-11-30T00:00:00Z", "2026-12-07T00:00:00Z");
        let sunday = "2026-11-29T12:00:00Z";
        check(Every::Week, "UTC", sunday, "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z");
        check(
            Every::Month,
            "UTC",
            "2028-02-29T12:00:00Z",
            "2028-02-01T00:00:00Z",
            "2028-03-01T00:00:00Z",
        );
    }

    #[test]
    fn a_day_is_as_long_as_its_clocks_make_it() {
        let (spring, autumn) = ("2026-03-29T12:00:00Z", "2026-10-25T12:00:00Z");
        check(Every::Day, "Europe/Berlin", spring, "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z");
        check(Every::Day, "Europe/Berlin", autumn, "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z");
        // Where summer time begins at midnight the day begins at one.
        let day = "2026-04-24T12:00:00Z";
        check(Every::Day, "Africa/Cairo", day, "2026-04-23T22:00:00Z", "2026-04-24T21:00:00Z");
    }

    #[test]
    fn a_clock_of_any_year_has_a_period() {
        let calendar = Calendar { every: Every::Month, zone: TimeZone::UTC };
        for now in [0, 1, u64::MAX, u64::MAX - 1, 253_402_207_200_000] {
            let period = calendar.period(now);
            assert!(period.start <= now && (period.end > now || now == u64::MAX), "{now}");
        }
    }
}
