//! Methods and statuses.

use super::{shown, texts};
use crate::config::{
    problem::Problem,
    setting::{Cx, Setting, Shape},
    tree::Node,
};

/// A request method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Method(pub String);

/// A status, 200 to 599.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub u16);

/// A range of statuses: `503`, `5xx`, `500-504`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statuses(pub std::ops::RangeInclusive<u16>);

texts! {
    Method, "method", Some("^[A-Z][A-Z-]*$"), |text| {
        let known = text.parse::<http::Method>().is_ok();
        let upper = text.bytes().all(|b| b.is_ascii_uppercase() || b == b'-');
        match (known, upper) {
            (true, true) => Ok(Self(text.to_owned())),
            (true, false) => Err(format!("methods are in upper case: write {}", text.to_ascii_uppercase())),
            _ => Err(format!("`{}` is not a method", shown(text))),
        }
    };
    Status, "status", Some("^[2-5][0-9][0-9]$"), |text| match text.parse::<u16>() {
        Ok(status @ 200..=599) if text.len() == 3 => Ok(Self(status)),
        _ => Err(format!("`{}` is not a status from 200 to 599", shown(text))),
    };
    Statuses, "status or range", Some("^[1-5]([0-9][0-9](-[1-5][0-9][0-9])?|xx)$"), statuses;
}

fn statuses(text: &str) -> Result<Statuses, String> {
    let fail = || {
        format!(
            "`{}` is not a status, a class such as 5xx, or a range such as 500-504",
            shown(text)
        )
    };
    let one = |text: &str| {
        text.parse::<u16>().ok().filter(|status| text.len() == 3 && (100..=599).contains(status))
    };
    if let Some(class) = text.strip_suffix("xx") {
        let class =
            class.parse::<u16>().ok().filter(|class| (1..=5).contains(class)).ok_or_else(fail)?;
        return Ok(Statuses(class * 100..=class * 100 + 99));
    }
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let (from, to) = one(from).zip(one(to)).ok_or_else(fail)?;
    if from > to {
        return Err(format!("`{}`: this range is empty", shown(text)));
    }
    Ok(Statuses(from..=to))
}
