//! Durations and sizes within bounds, as texts: the kernel's reading of them, and the pattern that says
//! the same.

use weft_kernel::{
    ByteSize, parse_duration,
    units::{DURATION_UNITS, FRACTION_DIGITS, SIZE_UNITS},
};

pub(crate) use weft_kernel::units::SIZE_MAX;

/// A duration as a text, in nanoseconds, if it is within bounds of milliseconds.
pub(crate) fn span(text: &str, min_ms: u64, max_ms: u64) -> Option<u64> {
    let read = u64::try_from(parse_duration(text).ok()?.as_nanos()).ok()?;
    (nanos(min_ms)..=nanos(max_ms)).contains(&read).then_some(read)
}

/// A size as a text, if it is at least `min`.
pub(crate) fn size(text: &str, min: u64) -> Option<u64> {
    let ByteSize(read) = text.parse().ok()?;
    (min..=SIZE_MAX).contains(&read).then_some(read)
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
    for (place, (name, unit)) in DURATION_UNITS.iter().enumerate() {
        single(&mut forms, name, *unit, min, max);
        let (least, most) = (min.div_ceil(*unit).max(1), max / unit);
        if least > most || place + 1 == DURATION_UNITS.len() {
            continue;
        }
        if least < most {
            forms.push(format!("{}{name}{}", range(least, most - 1), smaller(place + 1, None)));
        }
        forms.push(format!("{most}{name}{}", smaller(place + 1, Some(max - most * unit))));
    }
    format!("({})", forms.join("|"))
}

/// The pattern of what may follow a larger unit: parts from the unit at `place` on, each below the next
/// larger one, which make at most `most` nanoseconds.
fn smaller(place: usize, most: Option<u64>) -> String {
    let Some((name, unit)) = DURATION_UNITS.get(place) else { return String::new() };
    let above = place.checked_sub(1).map_or(u64::MAX, |above| DURATION_UNITS[above].1);
    let rest = |most| smaller(place + 1, most);
    match most.filter(|most| *most < above - 1) {
        None => format!("({}{name})?{}", range(0, above / unit - 1), rest(None)),
        Some(0) => format!("(0{name})?{}", rest(Some(0))),
        Some(most) => {
            let whole = most / unit;
            let mut forms = vec![format!("{whole}{name}{}", rest(Some(most % unit)))];
            if whole > 0 {
                forms.push(format!("{}{name}{}", range(0, whole - 1), rest(None)));
            }
            forms.push(rest(Some(most)));
            format!("({})", forms.join("|"))
        }
    }
}

/// The pattern of sizes within bounds, without anchors.
pub(crate) fn size_pattern(min: u64, max: u64) -> String {
    let mut forms = vec![range(min, max)];
    for (name, unit) in SIZE_UNITS {
        single(&mut forms, &format!(" ?{name}"), unit, min, max);
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
