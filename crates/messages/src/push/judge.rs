//! What a subscriber's answer says about a delivery.

use std::{borrow::Cow, time::Duration};

use weft_broker::Verdict;
use weft_kernel::{Reason, Result, Retry};
use weft_proxy::Answered;
use weft_wire::Known;

use super::pace::Ended;
use crate::time;

/// The longest wait that a subscriber can ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// What is to be done with a delivery, and what its end says of the subscriber.
///
/// 2xx accepts; 408, 425, 429 and 5xx fail, and `Retry-After` says when to come again; any other status
/// rejects, also a redirect, since nothing says that it would be safe to follow. If nothing has reached
/// the subscriber, the message is given back and no failure is counted against it.
pub(super) fn judge(answer: &Result<Answered>) -> (Verdict, Ended) {
    let answer = match answer {
        Ok(answer) => answer,
        // The answer broke off: what the subscriber did is not known.
        Err(error) => return by_reason(error.reason()),
    };
    if let Some(reason) = answer.reason {
        return by_reason(reason);
    }
    let status = answer.status;
    match status {
        200..300 => (Verdict::Accept, Ended::Answered),
        408 | 425 | 429 | 500.. => {
            let reason = Cow::Owned(format!("status {status}"));
            let delay = answer.fields.get_str(Known::RetryAfter).and_then(retry_after);
            (Verdict::Fail { reason, delay }, Ended::Strained)
        }
        _ => {
            let reason = Cow::Owned(format!("status {status}"));
            (Verdict::Reject { reason }, Ended::Answered)
        }
    }
}

fn by_reason(reason: Reason) -> (Verdict, Ended) {
    let untouched = reason.retry() == Retry::Safe || reason == Reason::Misconfigured;
    if untouched {
        return (Verdict::Release, Ended::Unreachable);
    }
    match reason {
        Reason::MalformedRequest | Reason::HeadersTooLarge | Reason::BodyTooLarge => {
            (Verdict::Reject { reason: Cow::Borrowed(reason.word()) }, Ended::Answered)
        }
        _ => (Verdict::Fail { reason: Cow::Borrowed(reason.word()), delay: None }, Ended::Strained),
    }
}

/// `Retry-After`: seconds or an HTTP date (RFC 9110 section 10.2.3).
fn retry_after(text: &str) -> Option<Duration> {
    let span = match text.parse::<u64>() {
        Ok(secs) => Duration::from_secs(secs),
        Err(_not_a_number) => {
            let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp().as_millisecond();
            let now = i64::try_from(time::now_ms()).ok()?;
            Duration::from_millis(u64::try_from(date.saturating_sub(now)).unwrap_or(0))
        }
    };
    Some(span.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use weft_kernel::Error;
    use weft_wire::Fields;

    use super::*;

    fn answer(status: u16, retry_after: Option<&str>, reason: Option<Reason>) -> Result<Answered> {
        let mut fields = Fields::new();
        if let Some(text) = retry_after {
            fields.add(Known::RetryAfter, text.as_bytes());
        }
        Ok(Answered { status, fields, body: Bytes::new(), reason })
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
            (500, None, failed("status 500", None), Ended::Strained),
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
                let safe = reason.retry() == Retry::Safe || *reason == Reason::Misconfigured;
                assert!(safe, "{reason:?}");
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
    fn an_answer_that_breaks_off_is_a_failure() {
        let broken = Err(Error::new(Reason::UpstreamIncomplete, "broke off"));
        assert_eq!(judge(&broken), (failed("upstream_incomplete", None), Ended::Strained));
    }
}
