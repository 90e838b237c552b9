//! What a client asks for with `Prefer` (RFC 7240).

use std::time::Duration;

use weft_wire::Fields;

/// How long a client would wait for the answer itself, if it gives a time: `wait=N`, seconds.
///
/// The first `wait` counts (section 2); one that is no number is as good as none.
pub(super) fn wait(fields: &Fields) -> Option<Duration> {
    fields
        .all_named("prefer")
        .flat_map(|value| value.split(|byte| *byte == b','))
        .filter_map(|preference| {
            let first = preference.split(|byte| *byte == b';').next()?;
            let at = first.iter().position(|byte| *byte == b'=')?;
            let (name, value) = first.split_at(at);
            name.trim_ascii().eq_ignore_ascii_case(b"wait").then_some(&value[1..])
        })
        .map(|value| std::str::from_utf8(value).unwrap_or_default().trim().trim_matches('"'))
        .next()?
        .parse::<u32>()
        .ok()
        .map(|secs| Duration::from_secs(secs.into()))
}

/// Whether a client asks to be answered later: `Prefer: respond-async` (section 4.1).
pub(crate) fn is_wanted(fields: &Fields) -> bool {
    fields.all_named("prefer").any(|value| {
        value.split(|byte| *byte == b',').any(|preference| {
            let name = preference.split(|byte| b";=".contains(byte)).next().unwrap_or_default();
            name.trim_ascii().eq_ignore_ascii_case(b"respond-async")
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preference_is_found_among_others() {
        for (value, asks) in [
            ("respond-async", true),
            ("return=minimal, Respond-Async; x=1, wait=10", true),
            ("respond-asynchronously", false),
            ("wait=10", false),
            ("", false),
        ] {
            let mut fields = Fields::new();
            fields.append("prefer", value.as_bytes());
            assert_eq!(is_wanted(&fields), asks, "{value}");
        }
    }

    #[test]
    fn the_wait_is_found_among_preferences() {
        for (lines, secs) in [
            (&["respond-async, wait=10"][..], Some(10)),
            (&["respond-async", "Wait = \"7\"; x=1"], Some(7)),
            (&["wait=1, wait=2"], Some(1)),
            (&["respond-async; wait=3"], None),
            (&["wait=-1"], None),
            (&["wait"], None),
            (&["await=4"], None),
            (&[], None),
        ] {
            let mut fields = Fields::new();
            for line in lines {
                fields.append("prefer", line.as_bytes());
            }
            assert_eq!(wait(&fields), secs.map(Duration::from_secs), "{lines:?}");
        }
    }
}
