//! Next times, across leap years and daylight saving, and what is refused.

use super::*;
use proptest::prelude::*;

fn ms(text: &str) -> u64 {
    text.parse::<Timestamp>().unwrap().as_millisecond() as u64
}

fn next(expression: &str, zone: &str, after: &str) -> String {
    let next = Cron::new(expression, zone).unwrap().next(ms(after), 0).unwrap();
    Timestamp::from_millisecond(next as i64).unwrap().to_string()
}

#[test]
fn the_next_time_of_each_kind() {
    let after = "2026-11-21T10:50:31.250Z";
    for (expression, wanted) in [
        ("* * * * *", "2026-11-21T10:51:00Z"),
        ("* * * * * *", "2026-11-21T10:50:32Z"),
        ("*/15 * * * *", "2026-11-21T11:00:00Z"),
        ("30 9 * * *", "2026-11-22T09:30:00Z"),
        ("0 12 * * MON-FRI", "2026-11-23T12:00:00Z"),
        ("0 0 1 * *", "2026-12-01T00:00:00Z"),
        ("0 0 29 2 *", "2028-02-29T00:00:00Z"),
        ("0 0 29 2 5", "2027-02-05T00:00:00Z"),
        ("15,45 8-10/2 * * 7", "2026-11-22T08:15:00Z"),
        ("0 0 13 * 5", "2026-11-27T00:00:00Z"),
        ("5/20 10 * * *", "2026-11-22T10:05:00Z"),
        ("@hourly", "2026-11-21T11:00:00Z"),
        ("@daily", "2026-11-22T00:00:00Z"),
        ("@weekly", "2026-11-22T00:00:00Z"),
        ("@monthly", "2026-12-01T00:00:00Z"),
        ("@yearly", "2027-01-01T00:00:00Z"),
        ("0 0 1 jan ?", "2027-01-01T00:00:00Z"),
    ] {
        assert_eq!(next(expression, "", after), wanted, "{expression}");
    }
}

#[test]
fn a_skipped_time_fires_later_and_a_doubled_one_once() {
    let zone = "Europe/Berlin";
    // Skipped on 29 March 2026: 02:30 is 03:30 summer time.
    assert_eq!(next("30 2 * * *", zone, "2026-03-28T02:00:00Z"), "2026-03-29T01:30:00Z");
    assert_eq!(next("30 2 * * *", zone, "2026-03-29T01:30:00Z"), "2026-03-30T00:30:00Z");
    // A later hour that is there comes before a skipped one that moves behind it.
    assert_eq!(next("0,30 2,3 * * *", zone, "2026-03-29T00:59:00Z"), "2026-03-29T01:00:00Z");
    // Doubled on 25 October 2026: 02:30 summer time, and not again.
    assert_eq!(next("30 2 * * *", zone, "2026-10-24T12:00:00Z"), "2026-10-25T00:30:00Z");
    assert_eq!(next("30 2 * * *", zone, "2026-10-25T00:30:00Z"), "2026-10-26T01:30:00Z");
    // Every hour goes on through both.
    assert_eq!(next("30 * * * *", zone, "2026-10-25T00:30:00Z"), "2026-10-25T01:30:00Z");
    assert_eq!(next("30 * * * *", zone, "2026-03-29T00:30:00Z"), "2026-03-29T01:30:00Z");
}

#[test]
fn every_counts_from_the_beginning() {
    let cron = Cron::new("@every 1m30s", "").unwrap();
    assert_eq!(cron.next(1_000, 1_000), Some(91_000));
    assert_eq!(cron.next(91_000, 1_000), Some(181_000));
    assert_eq!(cron.next(90_999, 1_000), Some(91_000));
}

#[test]
fn what_is_wrong_is_named() {
    for (expression, zone, why) in [
        ("", "", "not a cron"),
        ("* * * *", "", "not a cron"),
        ("60 * * * *", "", "minute"),
        ("* 24 * * *", "", "hour"),
        ("* * 0 * *", "", "day"),
        ("* * * 13 *", "", "month"),
        ("* * * * 8", "", "weekday"),
        ("*/0 * * * *", "", "minute"),
        ("5-1 * * * *", "", "minute"),
        ("@every 1ms", "", "at least"),
        ("@every soon", "", "duration"),
        ("* * * * *", "Mars/Olympus", "time zone"),
    ] {
        let error = Cron::new(expression, zone).unwrap_err();
        assert!(error.said().contains(why), "{expression}: {error}");
    }
    assert_eq!(Cron::new("0 0 31 2 *", "").unwrap().next(0, 0), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_next_time_is_later_fits_and_none_is_left_out(
        minute in 0u32..60, hour in 0u32..24, after in 1_700_000_000u64..1_900_000_000,
    ) {
        let cron = Cron::new(&format!("{minute} {hour} * * *"), "America/New_York").unwrap();
        let next = cron.next(after * 1000, 0).unwrap();
        prop_assert!(next > after * 1000);
        // A day lasts 23 to 25 hours, and a skipped time moves by one.
        prop_assert!(next - after * 1000 <= 26 * 3_600_000);
    }

    #[test]
    fn no_text_brings_the_parser_down(text in "[0-9*/,?@a-zA-Z -]{0,40}") {
        if let Ok(cron) = Cron::new(&text, "") {
            cron.next(1_700_000_000_000, 0);
        }
    }
}
