//! B3 propagation as Zipkin defines it (openzipkin/b3-propagation): one header, or one per field.

use super::{Context, hex};

/// `{trace}-{span}[-{decision}[-{parent}]]`, or the decision alone.
pub(super) fn single(value: &[u8]) -> Option<Context> {
    if let Some(sampled) = decision(value) {
        return Some(Context { sampled: Some(sampled), ..Context::default() });
    }
    let mut parts = value.split(|b| *b == b'-');
    let mut context = ids(parts.next()?, parts.next()?)?;
    if let Some(part) = parts.next() {
        context.sampled = Some(decision(part)?);
    }
    // The caller's own parent is of no use here, but must be well formed.
    if let Some(part) = parts.next() {
        span(part)?;
    }
    parts.next().is_none().then_some(context)
}

/// `x-b3-traceid`, `-spanid`, `-sampled` and `-flags`.
pub(super) fn multi<'a>(get: impl Fn(&str) -> Option<&'a [u8]>) -> Option<Context> {
    let debug = get("x-b3-flags") == Some(b"1");
    let sampled = match get("x-b3-sampled") {
        // Older tracers write words.
        Some(b"1" | b"true" | b"True") => Some(true),
        Some(b"0" | b"false" | b"False") => Some(false),
        _ => None,
    };
    let sampled = if debug { Some(true) } else { sampled };
    let trace =
        get("x-b3-traceid").zip(get("x-b3-spanid")).and_then(|(trace, span)| ids(trace, span));
    match trace {
        Some(context) => Some(Context { sampled, ..context }),
        None => sampled.map(|_| Context { sampled, ..Context::default() }),
    }
}

fn ids(trace: &[u8], span_id: &[u8]) -> Option<Context> {
    if trace.len() != 16 && trace.len() != 32 {
        return None;
    }
    let trace_id = hex::parse(trace, true).filter(|id| *id != 0)?;
    Some(Context { trace_id, span_id: span(span_id)?, ..Context::default() })
}

fn span(digits: &[u8]) -> Option<u64> {
    if digits.len() != 16 {
        return None;
    }
    hex::parse(digits, true).map(|id| id as u64).filter(|id| *id != 0)
}

/// `1`, `0`, or `d` for debug, which implies recording.
fn decision(value: &[u8]) -> Option<bool> {
    match value {
        b"1" | b"d" => Some(true),
        b"0" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TRACE: &str = "80f198ee56343ba864fe8b2a57d3eff7";
    const SPAN: &str = "e457b5a2e4d86bd1";

    #[test]
    fn single_headers() {
        let full = format!("{TRACE}-{SPAN}");
        for (value, sampled) in [
            (full.clone(), None),
            (format!("{full}-1"), Some(true)),
            (format!("{full}-0"), Some(false)),
            (format!("{full}-d"), Some(true)),
            (format!("{full}-1-05e3ac9a4f6e3b90"), Some(true)),
        ] {
            let context = single(value.as_bytes()).unwrap();
            assert_eq!(context.trace_id, 0x80f1_98ee_5634_3ba8_64fe_8b2a_57d3_eff7, "{value}");
            assert_eq!(
                (context.span_id, context.sampled),
                (0xe457_b5a2_e4d8_6bd1, sampled),
                "{value}"
            );
        }
        let short = single(format!("{}-{SPAN}", &TRACE[16..]).as_bytes()).unwrap();
        assert_eq!(short.trace_id, 0x64fe_8b2a_57d3_eff7);
        assert_eq!(single(b"0").unwrap().sampled, Some(false));
        assert_eq!(single(b"d").unwrap().trace_id, 0);
        for bad in [
            "",
            "-",
            "x",
            TRACE,
            &format!("{TRACE}-"),
            &format!("{full}-2"),
            &format!("{full}-1-zz"),
            &format!("{full}-1-{SPAN}-1"),
            &format!("{}-{SPAN}", "0".repeat(32)),
            &format!("{}-{SPAN}", &TRACE[1..]),
        ] {
            assert_eq!(single(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn several_headers() {
        let get = |headers: Vec<(&'static str, &'static str)>| {
            multi(move |name| {
                headers.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_bytes())
            })
        };
        let ids = || vec![("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN)];
        assert_eq!(get(ids()).unwrap().sampled, None);
        for (header, value, sampled) in [
            ("x-b3-sampled", "1", Some(true)),
            ("x-b3-sampled", "true", Some(true)),
            ("x-b3-sampled", "0", Some(false)),
            ("x-b3-sampled", "maybe", None),
            ("x-b3-flags", "1", Some(true)),
        ] {
            let mut headers = ids();
            headers.push((header, value));
            assert_eq!(get(headers).unwrap().sampled, sampled, "{header}: {value}");
        }
        let alone = get(vec![("x-b3-sampled", "0")]).unwrap();
        assert_eq!((alone.trace_id, alone.sampled), (0, Some(false)));
        assert_eq!(get(vec![("x-b3-traceid", TRACE)]), None);
        assert_eq!(get(vec![("x-b3-traceid", "zz"), ("x-b3-spanid", SPAN)]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(value in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Some(context) = single(&value) {
                prop_assert!(context.is_valid() || context.sampled.is_some());
            }
        }
    }
}
