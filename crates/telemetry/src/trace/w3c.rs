//! `traceparent` and `tracestate` (W3C Trace Context, level 1, and the random flag of level 2).

use super::{Context, TRACESTATE_BYTES_MAX, hex};

const SAMPLED: u128 = 1;
const RANDOM: u128 = 2;

/// Reads a `traceparent`, of version 00 exactly or the known part of a later one (section 3.2.4).
pub(super) fn parse(value: &[u8]) -> Option<Context> {
    let known = value.get(..55)?;
    let (version, rest) = (&known[..2], &value[55..]);
    if known[2] != b'-' || known[35] != b'-' || known[52] != b'-' {
        return None;
    }
    match hex::parse(version, false)? {
        0xff => return None,
        0 if !rest.is_empty() => return None,
        _ if !rest.is_empty() && rest[0] != b'-' => return None,
        _ => {}
    }
    let trace_id = hex::parse(&known[3..35], false)?;
    let span_id = hex::parse(&known[36..52], false)? as u64;
    let flags = hex::parse(&known[53..], false)?;
    (trace_id != 0 && span_id != 0).then_some(Context {
        trace_id,
        span_id,
        sampled: Some(flags & SAMPLED != 0),
        random: flags & RANDOM != 0,
        tracestate: None,
    })
}

pub(super) fn write(context: &Context) -> [u8; 55] {
    let mut value = [b'-'; 55];
    value[..2].copy_from_slice(b"00");
    value[3..35].copy_from_slice(&hex::write::<32>(context.trace_id));
    value[36..52].copy_from_slice(&hex::write::<16>(u128::from(context.span_id)));
    let sampled = if context.sampled == Some(true) { SAMPLED } else { 0 };
    let random = if context.random { RANDOM } else { 0 };
    value[53..].copy_from_slice(&hex::write::<2>(sampled | random));
    value
}

/// The most members of a list (section 3.3.1.1).
const MEMBERS_MAX: usize = 32;

/// The list that the `tracestate` fields of a request are together; `None` if it may not be taken along.
pub(super) fn join<'a>(mut fields: impl Iterator<Item = &'a [u8]>) -> Option<Box<str>> {
    let first = fields.next()?;
    let Some(second) = fields.next() else { return tracestate(first).map(Into::into) };
    let mut all = first.to_vec();
    for field in std::iter::once(second).chain(fields) {
        if all.len() > TRACESTATE_BYTES_MAX {
            return None;
        }
        all.push(b',');
        all.extend_from_slice(field);
    }
    tracestate(&all).map(Into::into)
}

/// Checks that a `tracestate` is a list that may be taken along; what is inside is other people's.
pub(super) fn tracestate(value: &[u8]) -> Option<&str> {
    let text = str::from_utf8(value).ok()?.trim_matches([' ', '\t']);
    let members = || text.split(',').map(|member| member.trim_matches([' ', '\t']));
    let fits = text.len() <= TRACESTATE_BYTES_MAX
        && text.bytes().all(|b| b == b'\t' || (0x20..0x7f).contains(&b))
        && members().all(member)
        && is_each_there_once(members())
        && (1..=MEMBERS_MAX).contains(&members().filter(|member| !member.is_empty()).count());
    fits.then_some(text)
}

/// Whether no key is there twice: of two values for one, nobody knows which is meant (section 3.3.1.3).
fn is_each_there_once<'a>(members: impl Iterator<Item = &'a str>) -> bool {
    let mut seen = [""; MEMBERS_MAX];
    let keys = members.filter_map(|member| Some(member.split_once('=')?.0));
    for (at, key) in keys.enumerate() {
        if seen.contains(&key) {
            return false;
        }
        // More than there may be are refused by their number.
        match seen.get_mut(at) {
            Some(place) => *place = key,
            None => return true,
        }
    }
    true
}

/// `key=value`, or nothing, as empty members are allowed between commas.
fn member(member: &str) -> bool {
    let Some((key, value)) = member.split_once('=') else { return member.is_empty() };
    is_key(key)
        && !value.is_empty()
        && value.len() <= 256
        && !value.bytes().any(|b| b == b'=' || b == b'\t')
}

/// A simple key, or `tenant@system` (section 3.3.1.3.1). A digit may come first, as level 2 lets it.
fn is_key(key: &str) -> bool {
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let part = |part: &str, most: usize| {
        (1..=most).contains(&part.len())
            && part.bytes().next().is_some_and(letter)
            && part.bytes().all(|b| letter(b) || b"_-*/".contains(&b))
    };
    match key.split_once('@') {
        None => part(key, 256),
        Some((tenant, system)) => part(tenant, 241) && part(system, 14),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_version_00_is_exact() {
        let context = parse(GOOD.as_bytes()).unwrap();
        assert_eq!(context.sampled, Some(true));
        assert_eq!(context.traceparent(), GOOD.as_bytes());
        for (value, why) in [
            ("", "empty"),
            (&GOOD[..54], "short"),
            (&format!("{GOOD}-"), "more in version 00"),
            (&GOOD.replace("0af7", "0AF7"), "upper case"),
            (&GOOD.replace("0af7", "0ag7"), "not a digit"),
            (&GOOD.replacen("00", "ff", 1), "version ff"),
            (&GOOD.replace('-', "_"), "separator"),
            ("00-00000000000000000000000000000000-b7ad6b7169203331-01", "no trace"),
            ("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", "no span"),
        ] {
            assert_eq!(parse(value.as_bytes()), None, "{why}");
        }
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        let later = GOOD.replacen("00", "cc", 1);
        assert!(parse(later.as_bytes()).is_some());
        assert!(parse(format!("{later}-what-the-future-brings").as_bytes()).is_some());
        assert_eq!(parse(format!("{later}.what").as_bytes()), None);
        // What goes on is version 00, without the flags that nobody knows.
        let flags = format!("{}ff", &later[..53]);
        let context = parse(flags.as_bytes()).unwrap();
        assert_eq!(&context.traceparent()[..3], b"00-");
        assert_eq!(&context.traceparent()[53..], b"03");
    }

    #[test]
    fn tracestate_lists() {
        for good in ["a=1", "a=1,b=2", "a=1 , b=2", "fw529a3039@dt=FfD3", "a=1,,b=2", "a/b*_-=x y"]
        {
            assert_eq!(tracestate(good.as_bytes()), Some(good));
        }
        let most: Vec<_> = (0..32).map(|n| format!("a{n}=1")).collect();
        let most = most.join(",");
        let tenant = format!("{}@{}=1", "t".repeat(241), "v".repeat(14));
        for good in [&most, &tenant, &format!("{}=1", "z".repeat(256))] {
            assert_eq!(tracestate(good.as_bytes()), Some(good.as_str()));
        }
        let long = format!("a={}", "x".repeat(511));
        let many: Vec<_> = (0..33).map(|n| format!("a{n}=1")).collect();
        let many = many.join(",");
        let tenant = format!("{}@v=1", "t".repeat(242));
        let system = format!("t@{}=1", "v".repeat(15));
        for bad in [
            "",
            " ",
            ",",
            "a",
            "A=1",
            "=1",
            "a=",
            "a=1=2",
            "a=\u{e9}",
            "a=1\r\nx: y",
            "a =1",
            "a@=1",
            "@a=1",
            "a@b@c=1",
            "a@@b=1",
            "a.b=1",
            "a=1\t2",
            &long,
            &many,
            &tenant,
            &system,
        ] {
            assert_eq!(tracestate(bad.as_bytes()), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived_and_what_parses_is_kept(value in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Some(context) = parse(&value) {
                prop_assert_eq!(parse(&context.traceparent()), Some(context));
            }
            tracestate(&value);
        }

        #[test]
        fn what_is_written_is_read(trace_id in 1u128.., span_id in 1u64.., sampled: bool, random: bool) {
            let context = Context { trace_id, span_id, sampled: Some(sampled), random, tracestate: None };
            prop_assert_eq!(parse(&context.traceparent()), Some(context));
        }
    }
}
