//! When a recurring schedule fires: cron expressions of five or six fields, and `@every`.
//!
//! `minute hour day month weekday`, with a field of seconds before them if there are six. A field is
//! `*` or `?`, a number, a name (`JAN`, `MON`), a range `a-b`, a step `*/n` or `a-b/n`, or a list of
//! those. Weekdays go from 0 (Sunday) to 7 (Sunday again). As Vixie's cron has it, a day fits if the day
//! of the month or the weekday does when both are restricted. `@hourly`, `@daily`, `@midnight`,
//! `@weekly`, `@monthly`, `@yearly` and `@annually` are short for the obvious; `@every 90s` counts from
//! when the schedule was made.
//!
//! Daylight saving: a time that the clock skips fires as much later as the clock skips, one that it shows
//! twice fires the first time. Where every hour is wanted, time goes by as it elapses: nothing is skipped
//! and nothing falls out.

use std::time::Duration;

use jiff::{
    Timestamp, ToSpan,
    civil::{Date, DateTime, Time},
    tz::TimeZone,
};
use weft_kernel::{Error, Reason, Result, parse_duration};

/// How far ahead a next time is looked for; the 29th of February on a given weekday comes within 40 years.
const YEARS_MAX: i16 = 41;
/// The shortest interval of `@every`.
const EVERY_MIN: Duration = Duration::from_secs(1);

/// When a schedule fires.
#[derive(Clone, Debug)]
pub struct Cron {
    rule: Rule,
    zone: TimeZone,
}

#[derive(Clone, Debug)]
enum Rule {
    Every(Duration),
    Fields(Box<Fields>),
}

/// Bit n is set where n fits.
#[derive(Clone, Copy, Debug)]
struct Fields {
    seconds: u64,
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Whether day of the month, weekday are restricted.
    by_day: bool,
    by_weekday: bool,
}

const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
const ALL_HOURS: u64 = (1 << 24) - 1;

impl Cron {
    /// Reads an expression; `zone` is an IANA time zone such as `Europe/Berlin`, empty for UTC.
    ///
    /// # Errors
    /// [`Reason::MalformedRequest`] with the field that is wrong and what it may be.
    pub fn new(expression: &str, zone: &str) -> Result<Self> {
        let zone = if zone.is_empty() {
            TimeZone::UTC
        } else {
            TimeZone::get(zone).map_err(|error| {
                refuse(format!("`{zone}` is not a time zone: write one such as Europe/Berlin"))
                    .because(error)
            })?
        };
        let text = expression.trim();
        let rule = match text {
            "@hourly" => fields("0 0 * * * *")?,
            "@daily" | "@midnight" => fields("0 0 0 * * *")?,
            "@weekly" => fields("0 0 0 * * 0")?,
            "@monthly" => fields("0 0 0 1 * *")?,
            "@yearly" | "@annually" => fields("0 0 0 1 1 *")?,
            _ => match text.strip_prefix("@every ") {
                Some(span) => {
                    let span = parse_duration(span).map_err(|error| refuse(error.to_string()))?;
                    if span < EVERY_MIN {
                        return Err(refuse("@every: at least 1s".into()));
                    }
                    Rule::Every(span)
                }
                None => fields(text)?,
            },
        };
        Ok(Self { rule, zone })
    }

    /// The first time after `after_ms`; `None` if there is none within 40 years. Both are wall
    /// milliseconds, and `since_ms` is when the schedule was made.
    pub fn next(&self, after_ms: u64, since_ms: u64) -> Option<u64> {
        match &self.rule {
            Rule::Every(span) => {
                let span = u64::try_from(span.as_millis()).ok()?;
                // The clock may have been set back since the schedule was made.
                let ahead = match since_ms.checked_sub(after_ms) {
                    Some(ahead) if ahead > 0 => (ahead - 1) % span + 1,
                    _ => span - (after_ms - since_ms) % span,
                };
                after_ms.checked_add(ahead)
            }
            Rule::Fields(fields) => {
                let after = Timestamp::from_millisecond(i64::try_from(after_ms).ok()?).ok()?;
                let next = if fields.hours == ALL_HOURS {
                    self.elapsing(fields, after)
                } else {
                    self.by_the_clock(fields, after)
                };
                u64::try_from(next?.as_millisecond()).ok()
            }
        }
    }

    /// The next time as the clock on the wall shows it.
    fn by_the_clock(&self, fields: &Fields, after: Timestamp) -> Option<Timestamp> {
        // A day back, because a skipped time of yesterday may fire today.
        let mut date = self.zone.to_datetime(after).date().yesterday().ok()?;
        let last = date.year().checked_add(YEARS_MAX)?;
        while date.year() <= last {
            if !fields.has_month(date) {
                date = date.first_of_month().checked_add(1.month()).ok()?;
                continue;
            }
            if fields.has_day(date)
                && let Some(at) = self.first_of_day(fields, date, after)
            {
                return Some(at);
            }
            date = date.tomorrow().ok()?;
        }
        None
    }

    /// The first time of a day that comes after `after`.
    fn first_of_day(&self, fields: &Fields, date: Date, after: Timestamp) -> Option<Timestamp> {
        let mut first: Option<Timestamp> = None;
        for hour in bits(fields.hours) {
            // Skipped times move, so a later hour may come first.
            let last = self.at(date, hour, top(fields.minutes), top(fields.seconds))?;
            if last <= after {
                continue;
            }
            let found = bits(fields.minutes)
                .filter(|minute| {
                    self.at(date, hour, *minute, top(fields.seconds)).is_some_and(|at| at > after)
                })
                .flat_map(|minute| bits(fields.seconds).map(move |second| (minute, second)))
                .filter_map(|(minute, second)| self.at(date, hour, minute, second))
                .find(|at| *at > after);
            first = match (first, found) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            };
        }
        first
    }

    fn at(&self, date: Date, hour: i8, minute: i8, second: i8) -> Option<Timestamp> {
        let time = Time::new(hour, minute, second, 0).ok()?;
        let civil = DateTime::from_parts(date, time);
        // Compatible: what is skipped moves on by what is skipped, what comes twice is the first.
        self.zone.to_ambiguous_timestamp(civil).compatible().ok()
    }

    /// The next time as time elapses.
    fn elapsing(&self, fields: &Fields, after: Timestamp) -> Option<Timestamp> {
        let mut at = Timestamp::from_second(after.as_second().checked_add(1)?).ok()?;
        let last = self.zone.to_datetime(at).year().checked_add(YEARS_MAX)?;
        loop {
            let civil = self.zone.to_datetime(at);
            if civil.year() > last {
                return None;
            }
            if !fields.has_month(civil.date()) || !fields.has_day(civil.date()) {
                let next = if fields.has_month(civil.date()) {
                    civil.date().tomorrow().ok()?
                } else {
                    civil.date().first_of_month().checked_add(1.month()).ok()?
                };
                at = self.at(next, 0, 0, 0)?;
                continue;
            }
            let step = if fields.minutes >> civil.minute() & 1 == 0 {
                60 - i64::from(civil.second())
            } else if fields.seconds >> civil.second() & 1 == 0 {
                1
            } else {
                return Some(at);
            };
            at = Timestamp::from_second(at.as_second().checked_add(step)?).ok()?;
        }
    }
}

impl Fields {
    fn has_month(&self, date: Date) -> bool {
        self.months >> date.month() & 1 == 1
    }

    fn has_day(&self, date: Date) -> bool {
        let day = self.days >> date.day() & 1 == 1;
        let weekday = self.weekdays >> date.weekday().to_sunday_zero_offset() & 1 == 1;
        if self.by_day && self.by_weekday { day || weekday } else { day && weekday }
    }
}

fn bits(set: u64) -> impl Iterator<Item = i8> {
    (0..60).filter(move |bit| set >> bit & 1 == 1)
}

/// The highest bit that is set.
fn top(set: u64) -> i8 {
    63i8.saturating_sub(set.leading_zeros() as i8)
}

fn refuse(why: String) -> Error {
    Error::new(Reason::MalformedRequest, why)
}

fn fields(text: &str) -> Result<Rule> {
    let parts: Vec<&str> = text.split_ascii_whitespace().collect();
    let (second, rest) = match parts.as_slice() {
        [minute, hour, day, month, weekday] => ("0", [*minute, *hour, *day, *month, *weekday]),
        [second, minute, hour, day, month, weekday] => {
            (*second, [*minute, *hour, *day, *month, *weekday])
        }
        _ => {
            return Err(refuse(format!(
                "`{text}` is not a cron expression: write five fields (minute hour day month weekday), six with seconds first, or @every, @hourly, @daily, @weekly, @monthly, @yearly"
            )));
        }
    };
    let [minute, hour, day, month, weekday] = rest;
    let mut weekdays = field("weekday", weekday, 0, 7, &WEEKDAYS)?;
    if weekdays >> 7 & 1 == 1 {
        weekdays |= 1;
    }
    Ok(Rule::Fields(Box::new(Fields {
        seconds: field("second", second, 0, 59, &[])?,
        minutes: field("minute", minute, 0, 59, &[])?,
        hours: field("hour", hour, 0, 23, &[])?,
        days: field("day", day, 1, 31, &[])?,
        months: field("month", month, 1, 12, &MONTHS)?,
        weekdays,
        by_day: restricted(day),
        by_weekday: restricted(weekday),
    })))
}

fn restricted(field: &str) -> bool {
    !field.starts_with(['*', '?'])
}

fn field(what: &str, text: &str, min: u32, max: u32, names: &[&str]) -> Result<u64> {
    let wrong = || {
        refuse(format!("`{text}` is not a {what}: from {min} to {max}, `*`, a-b, */n, or a list"))
    };
    let number = |text: &str| -> Result<u32> {
        let named = names.iter().position(|name| name.eq_ignore_ascii_case(text));
        let value = match named {
            // Months count from 1, weekdays from 0.
            Some(at) => at as u32 + u32::from(names.len() == MONTHS.len()),
            None => text.parse().map_err(|_error| wrong())?,
        };
        if (min..=max).contains(&value) { Ok(value) } else { Err(wrong()) }
    };
    let mut set = 0u64;
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, step.parse().map_err(|_error| wrong())?),
            None => (part, 1u32),
        };
        if step == 0 || step > max.max(1) {
            return Err(wrong());
        }
        let (first, last) = match range {
            "*" | "?" => (min, max),
            _ => match range.split_once('-') {
                Some((first, last)) => (number(first)?, number(last)?),
                // `5/10` goes on to the end, as in most crons.
                None if part.contains('/') => (number(range)?, max),
                None => (number(range)?, number(range)?),
            },
        };
        if first > last {
            return Err(wrong());
        }
        (first..=last).step_by(step as usize).for_each(|value| set |= 1 << value);
    }
    Ok(set)
}

#[cfg(test)]
mod tests;
