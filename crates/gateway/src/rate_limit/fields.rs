//! What a client is told of limits: structured fields (RFC 9651) of draft-ietf-httpapi-ratelimit-headers.

use std::{fmt::Write as _, time::Duration};

use weft_resilience::rate::Verdict;

use super::{Kind, Limit};

/// What `RateLimit-Policy` says: the quota `q` of each limit, and its window `w` in seconds, or its unit `qu` if it
/// has no window.
pub(super) fn policy<'a>(limits: impl Iterator<Item = &'a Limit>) -> String {
    let mut text = String::new();
    for limit in limits {
        let separator = if text.is_empty() { "" } else { ", " };
        let _ = write!(text, "{separator}\"{}\"", limit.name);
        let _ = match &limit.kind {
            Kind::Rate { rate, .. } | Kind::Bandwidth { rate, .. } => {
                let (quota, window) = (bounded(rate.units.get()), seconds(rate.per).max(1));
                write!(text, ";q={quota};w={window}")
            }
            Kind::Concurrency(most) => write!(text, ";q={most};qu=\"concurrent-requests\""),
        };
    }
    text
}

/// What `RateLimit` says: the units `r` that are left of each limit, and the seconds `t` until all are back, at most the
/// window that the policy names: a burst above the quota takes longer than that to come back, and no client waits for it.
pub(super) fn left<'a>(said: impl Iterator<Item = (&'a Limit, &'a Verdict)>) -> String {
    let mut text = String::with_capacity(48);
    let mut digits = itoa::Buffer::new();
    for (limit, verdict) in said {
        text.push_str(if text.is_empty() { "\"" } else { ", \"" });
        text.push_str(&limit.name);
        text.push_str("\";r=");
        text.push_str(digits.format(bounded(verdict.remaining)));
        // Who is refused is told when to come again, as `Retry-After` says it.
        let (Kind::Rate { rate, .. } | Kind::Bandwidth { rate, .. }) = &limit.kind else {
            continue;
        };
        let time = match (verdict.granted, verdict.retry_after) {
            (false, Some(wait)) => wait,
            _ => verdict.reset.min(rate.per),
        };
        text.push_str(";t=");
        text.push_str(digits.format(seconds(time)));
    }
    text
}

/// Seconds, rounded up.
fn seconds(of: Duration) -> u64 {
    bounded(of.as_secs() + u64::from(of.subsec_nanos() > 0))
}

/// As much as an integer of a structured field holds.
fn bounded(number: u64) -> u64 {
    number.min(999_999_999_999_999)
}
