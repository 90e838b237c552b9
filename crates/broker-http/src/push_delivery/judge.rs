//! What a subscriber's answer says about a delivery.

use std::{
    borrow::Cow,
    time::{Duration, SystemTime},
};

use weft_broker::Verdict;
use weft_kernel::{Reason, Result, Retry};
use weft_proxy::{Answered, BodyEnd};
use weft_wire::Known;

use super::pace::Ended;

/// The longest wait that a subscriber can ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// What is to be done with a delivery, and what its end says of the subscriber.
///
/// 2xx accepts if its body ends, or is longer than anybody would read; 408, 425, 429 and 5xx fail, and
/// `Retry-After` may say to come again later than the back-off would; any other status rejects, also a
/// redirect, since nothing says that it would be safe to follow. If nothing has reached the subscriber,
/// the message is given back and no failure is counted against it.
///
/// The delay of a failure is the subscriber's hint alone, and not longer than [`RETRY_AFTER_MAX`].
pub(super) fn judge(answer: &Result<Answered>) -> (Verdict, Ended) {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return by_reason(error.reason()),
    };
    if let Some(reason) = answer.reason {
        return by_reason(reason);
    }
    let status = answer.status;
    match (status, answer.end) {
        // It broke off, or did not end in time: what the subscriber did is not known.
        (200..300, BodyEnd::Broken(reason)) => by_reason(reason),
        (200..300, _) => (Verdict::Accept, Ended::Answered),
        (408 | 425 | 429 | 500.., _) => {
            let reason = Cow::Owned(format!("status {status}"));
            let delay = answer.fields.get_str(Known::RetryAfter).and_then(retry_after);
            // Some say that it is too much; the others may be for this message alone.
            let is_strain = delay.is_some() || matches!(status, 408 | 425 | 429 | 502..=504);
            let ended = if is_strain { Ended::Strained } else { Ended::Failed };
            (Verdict::Fail { reason, delay }, ended)
        }
        _ => {
            let reason = Cow::Owned(format!("status {status}"));
            (Verdict::Reject { reason }, Ended::Answered)
        }
    }
}

/// Whether a request that ended so has reached nobody: it may be sent again, whatever it asks for.
pub(crate) fn never_began(reason: Reason) -> bool {
    reason.retry() == Retry::Safe || reason == Reason::Misconfigured
}

fn by_reason(reason: Reason) -> (Verdict, Ended) {
    if never_began(reason) {
        return (Verdict::Release, Ended::Unreachable);
    }
    match reason {
        Reason::MalformedRequest | Reason::HeadersTooLarge | Reason::BodyTooLarge => {
            (Verdict::Reject { reason: Cow::Borrowed(reason.word()) }, Ended::Answered)
        }
        _ => (Verdict::Fail { reason: Cow::Borrowed(reason.word()), delay: None }, Ended::Strained),
    }
}

/// `Retry-After`: seconds, or an HTTP date in any of its three forms (RFC 9110 sections 5.6.7 and 10.2.3).
fn retry_after(text: &str) -> Option<Duration> {
    let text = text.trim();
    let span = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More than a number holds is longer than the longest.
        text.parse().map_or(RETRY_AFTER_MAX, Duration::from_secs)
    } else {
        let date = httpdate::parse_http_date(text).ok()?;
        date.duration_since(SystemTime::now()).unwrap_or_default()
    };
    Some(span.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use weft_wire::Fields;

    use super::*;

    fn answer(status: u16, retry_after: Option<&str>, reason: Option<Reason>) -> Result<Answered> {
        let mut fields = Fields::new();
        if let Some(text) = retry_after {
            fields.add(Known::RetryAfter, text.as_bytes());
        }
        let (body, end) = (Bytes::new(), BodyEnd::Whole);
        Ok(Answered { status, fields, body, trailers: None, end, reason })
    }

    fn failed(reason: &'static str, delay: Option<u64>) -> Verdict {
        Verdict::Fail { reason: reason.into(), delay: delay.map(Duration::from_secs) }
    }

    #[test]
    fn statuses_settle() {
        let rejected = |reason: &'static str| Verdict::Reject { reason: reason.into() };
        for (status, after, verdict, ended) in [
            (200, None, Verdict::Accept, Ended::Answered),
            (204, Some("5"), Verdict::Accept, Ended::Answered),
            (301, None, rejected("status 301"), Ended::Answered),
            (400, None, rejected("status 400"), Ended::Answered),
            (404, Some("5"), rejected("status 404"), Ended::Answered),
            (408, None, failed("status 408", None), Ended::Strained),
            (429, Some("7"), failed("status 429", Some(7)), Ended::Strained),
            (500, None, failed("status 500", None), Ended::Failed),
            (500, Some("7"), failed("status 500", Some(7)), Ended::Strained),
            (501, None, failed("status 501", None), Ended::Failed),
            (502, None, failed("status 502", None), Ended::Strained),
            (503, Some("99999"), failed("status 503", Some(3600)), Ended::Strained),
            (
                503,
                Some("Sun, 06 Nov 1994 08:49:37 GMT"),
                failed("status 503", Some(0)),
                Ended::Strained,
            ),
            (503, Some("soon"), failed("status 503", None), Ended::Strained),
        ] {
            assert_eq!(judge(&answer(status, after, None)), (verdict, ended), "{status} {after:?}");
        }
    }

    #[test]
    fn nothing_is_counted_against_a_message_that_reached_nobody() {
        for reason in Reason::ALL {
            let (verdict, ended) = judge(&answer(503, None, Some(*reason)));
            let released = verdict == Verdict::Release;
            assert_eq!(released, ended == Ended::Unreachable, "{reason:?}");
            if released {
                assert!(never_began(*reason), "{reason:?}");
            }
        }
        for (reason, released) in [
            (Reason::NoEndpoint, true),
            (Reason::NoHealthyEndpoint, true),
            (Reason::ConnectRefused, true),
            (Reason::BreakerOpen, true),
            (Reason::Draining, true),
            (Reason::UpstreamClosed, false),
            (Reason::TryTimeout, false),
            (Reason::RequestTimeout, false),
        ] {
            let (verdict, _) = judge(&answer(503, None, Some(reason)));
            assert_eq!(verdict == Verdict::Release, released, "{reason:?}");
        }
    }

    #[test]
    fn an_answer_that_does_not_end_is_a_failure_and_one_that_is_too_long_is_not() {
        let ended = |status, end| {
            judge(&Ok(Answered {
                trailers: None,
                status,
                fields: Fields::new(),
                body: Bytes::new(),
                end,
                reason: None,
            }))
        };
        assert_eq!(ended(200, BodyEnd::Cut), (Verdict::Accept, Ended::Answered));
        for reason in [Reason::UpstreamIncomplete, Reason::RequestTimeout, Reason::StreamIdle] {
            let broken = BodyEnd::Broken(reason);
            assert_eq!(ended(204, broken), (failed(reason.word(), None), Ended::Strained));
            // What another status says, it says without a body.
            for end in [broken, BodyEnd::Cut] {
                assert_eq!(ended(503, end), (failed("status 503", None), Ended::Strained));
                let rejected = Verdict::Reject { reason: "status 400".into() };
                assert_eq!(ended(400, end), (rejected, Ended::Answered));
            }
        }
    }

    #[test]
    fn every_form_of_a_hint_is_read() {
        let in_90_s = SystemTime::now() + Duration::from_secs(90);
        let time = jiff::Timestamp::try_from(in_90_s).unwrap().to_zoned(jiff::tz::TimeZone::UTC);
        for form in
            ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"]
        {
            let text = time.strftime(form).to_string();
            let span = retry_after(&text).unwrap_or_else(|| panic!("{text}")).as_secs();
            assert!((80..=90).contains(&span), "{text}: {span}");
        }
        let max = Some(RETRY_AFTER_MAX);
        for (text, span) in [
            ("0", Some(Duration::ZERO)),
            (" 7 ", Some(Duration::from_secs(7))),
            ("3601", max),
            ("18446744073709551615", max),
            ("99999999999999999999999999", max),
            ("Fri, 31 Dec 9999 23:59:59 GMT", max),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(Duration::ZERO)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(Duration::ZERO)),
            ("Sun Nov  6 08:49:37 1994", Some(Duration::ZERO)),
            ("", None),
            ("+5", None),
            ("-5", None),
            ("1.5", None),
            ("5s", None),
            ("1994-11-06T08:49:37Z", None),
        ] {
            assert_eq!(retry_after(text), span, "{text}");
        }
    }
}
