//! Durations and sizes within bounds, as texts: their reading, and the pattern that says the same.
//!
//! One number with its unit, whole or with a fraction (`90s`, `1.5h`), or for durations also numbers with
//! descending units, each below the next larger one (`1m30s`).

use std::fmt::Write as _;

use weft_kernel::{ByteSize, parse_duration};

/// The units of durations that may follow each other: name, nanoseconds, and how many make the next.
const CHAIN: [(&str, u64, u64); 5] = [
    ("d", 86_400_000_000_000, u64::MAX),
    ("h", 3_600_000_000_000, 24),
    ("m", 60_000_000_000, 60),
    ("s", 1_000_000_000, 60),
    ("ms", 1_000_000, 1_000),
];
/// The units of durations that stand alone.
const ALONE: [(&str, u64); 2] = [("us", 1_000), ("ns", 1)];
/// The units of sizes.
const SIZES: [(&str, u64); 11] = [
    ("", 1),
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];
/// The largest size: as much as a fraction may name.
pub(crate) const SIZE_MAX: u64 = 9_000_000_000_000_000_000;
/// The most digits behind a point.
const FRACTION_DIGITS: usize = 9;

/// A duration as a text, in nanoseconds, if it is within bounds of milliseconds.
pub(crate) fn span(text: &str, min_ms: u64, max_ms: u64) -> Option<u64> {
    let (min, max) = (nanos(min_ms), nanos(max_ms));
    if text == "0" {
        return (min == 0).then_some(0);
    }
    let mut rest = text;
    // The place of the last unit in the chain, and how many parts there were.
    let (mut last, mut parts, mut alone) = (None, 0, false);
    while !rest.is_empty() {
        let (number, after) = number(rest)?;
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, next) = after.split_at(letters);
        alone |= number.contains('.') || ALONE.iter().any(|(name, _)| *name == unit);
        if let Some(place) = CHAIN.iter().position(|(name, ..)| *name == unit) {
            let whole = number.parse::<u64>().ok();
            if parts == 0 && !next.is_empty() {
                // The whole is above its first part, so that must not be the most already.
                let most = max / CHAIN.get(place)?.1;
                if !whole.is_some_and(|whole| whole >= 1 && whole < most) {
                    return None;
                }
            }
            if last.is_some_and(|last| place <= last)
                || (parts > 0 && whole.is_none_or(|whole| whole >= CHAIN[place].2))
            {
                return None;
            }
            last = Some(place);
        } else if !ALONE.iter().any(|(name, _)| *name == unit) {
            return None;
        }
        parts += 1;
        rest = next;
    }
    if alone && parts > 1 {
        return None;
    }
    let read = u64::try_from(parse_duration(text).ok()?.as_nanos()).ok()?;
    (min..=max).contains(&read).then_some(read)
}

/// A size as a text, if it is at least `min`.
pub(crate) fn size(text: &str, min: u64) -> Option<u64> {
    let (number, unit) = number(text)?;
    let unit = unit.strip_prefix(' ').filter(|unit| !unit.is_empty()).unwrap_or(unit);
    if !SIZES.iter().any(|(name, _)| *name == unit) || (unit.is_empty() && number.contains('.')) {
        return None;
    }
    let ByteSize(read) = text.parse().ok()?;
    (min..=SIZE_MAX).contains(&read).then_some(read)
}

/// A number at the start of a text, without needless zeros, and what follows it.
fn number(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, after) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').map_or((number, None), |(w, f)| (w, Some(f)));
    let fits = !whole.is_empty()
        && whole.len() <= 19
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(|digits| {
            (1..=FRACTION_DIGITS).contains(&digits.len()) && !digits.contains('.')
        });
    fits.then_some((number, after))
}

fn nanos(ms: u64) -> u64 {
    ms.saturating_mul(1_000_000)
}

/// The pattern of durations within bounds of milliseconds, without anchors.
pub(crate) fn span_pattern(min_ms: u64, max_ms: u64) -> String {
    let (min, max) = (nanos(min_ms), nanos(max_ms));
    let mut forms = Vec::new();
    if min == 0 {
        forms.push("0".to_owned());
    }
    for (place, (name, unit, _)) in CHAIN.iter().enumerate() {
        single(&mut forms, name, *unit, min, max);
        let (least, most) = (min.div_ceil(*unit).max(1), (max / unit).saturating_sub(1));
        if least > most || place + 1 == CHAIN.len() {
            continue;
        }
        let mut form = format!("{}{name}", range(least, most));
        for (name, _, below) in CHAIN.get(place + 1..).unwrap_or_default() {
            let _ = write!(form, "({}{name})?", range(0, below - 1));
        }
        forms.push(form);
    }
    for (name, unit) in ALONE {
        single(&mut forms, name, unit, min, max);
    }
    format!("({})", forms.join("|"))
}

/// The pattern of sizes of at least `min`, without anchors.
pub(crate) fn size_pattern(min: u64) -> String {
    let mut forms = Vec::new();
    for (name, unit) in SIZES {
        if name.is_empty() {
            forms.push(range(min, SIZE_MAX));
        } else {
            single(&mut forms, &format!(" ?{name}"), unit, min, SIZE_MAX);
        }
    }
    format!("({})", forms.join("|"))
}

/// One number with its unit, whole or with a fraction.
fn single(forms: &mut Vec<String>, name: &str, unit: u64, min: u64, max: u64) {
    let (least, most) = (min.div_ceil(unit), max / unit);
    if least > most {
        return;
    }
    forms.push(format!("{}{name}", range(least, most)));
    if least < most {
        forms.push(format!(r"{}\.[0-9]{{1,{FRACTION_DIGITS}}}{name}", range(least, most - 1)));
    }
    forms.push(format!(r"{most}\.0{{1,{FRACTION_DIGITS}}}{name}"));
    if min > 0 && min <= unit / 10 && most >= 1 {
        forms.push(format!(r"0\.[1-9][0-9]{{0,{}}}{name}", FRACTION_DIGITS - 1));
    }
}

/// The pattern of whole numbers from `least` to `most`, without needless zeros.
fn range(least: u64, most: u64) -> String {
    let mut forms = Vec::new();
    let mut from = least;
    while from <= most {
        let digits = from.to_string().len();
        let last =
            10u64.checked_pow(u32::try_from(digits).unwrap_or(20)).map_or(u64::MAX, |p| p - 1);
        let to = last.min(most);
        forms.push(between(from.to_string().as_bytes(), to.to_string().as_bytes()));
        if to == u64::MAX {
            break;
        }
        from = to + 1;
    }
    if let [one] = &*forms {
        return one.clone();
    }
    format!("({})", forms.join("|"))
}

/// The pattern of numbers between two that have as many digits.
fn between(least: &[u8], most: &[u8]) -> String {
    let (Some((low, least)), Some((high, most))) = (least.split_first(), most.split_first()) else {
        return String::new();
    };
    let class = |low: u8, high: u8| match (char::from(low), char::from(high)) {
        (low, high) if low == high => low.to_string(),
        (low, high) => format!("[{low}-{high}]"),
    };
    let free = |count: usize| match count {
        0 => String::new(),
        1 => "[0-9]".to_owned(),
        count => format!("[0-9]{{{count}}}"),
    };
    if low == high {
        return format!("{}{}", char::from(*low), between(least, most));
    }
    let (zeros, nines) = (vec![b'0'; least.len()], vec![b'9'; least.len()]);
    let (mut from, mut to) = (*low, *high);
    let mut forms = Vec::new();
    if least != zeros {
        forms.push(format!("{}{}", char::from(*low), between(least, &nines)));
        from += 1;
    }
    if most != nines {
        to -= 1;
    }
    if from <= to {
        forms.push(format!("{}{}", class(from, to), free(least.len())));
    }
    if most != nines {
        forms.push(format!("{}{}", char::from(*high), between(&zeros, most)));
    }
    if let [one] = &*forms { one.clone() } else { format!("({})", forms.join("|")) }
}
