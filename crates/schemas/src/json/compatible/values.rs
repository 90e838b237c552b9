//! Bounds of texts and numbers, and lists of values.

use std::collections::HashSet;

use serde_json::Value;

use super::{At, Pair, weight};
use crate::json::shown;

/// A bound that may not become stricter: its keyword, whether more of it is stricter, and the kinds of issues when
/// it is added and when it is stricter.
pub(super) type Bound = (&'static str, bool, &'static str, &'static str);

const BOUNDS: &[Bound] = &[
    ("maxLength", false, "MAX_LENGTH_ADDED", "MAX_LENGTH_DECREASED"),
    ("minLength", true, "MIN_LENGTH_ADDED", "MIN_LENGTH_INCREASED"),
    ("maximum", false, "MAXIMUM_ADDED", "MAXIMUM_DECREASED"),
    ("minimum", true, "MINIMUM_ADDED", "MINIMUM_INCREASED"),
    ("exclusiveMaximum", false, "EXCLUSIVE_MAXIMUM_ADDED", "EXCLUSIVE_MAXIMUM_DECREASED"),
    ("exclusiveMinimum", true, "EXCLUSIVE_MINIMUM_ADDED", "EXCLUSIVE_MINIMUM_INCREASED"),
];

impl<'a> Pair<'a> {
    pub(super) fn bounds(&mut self, bounds: &[Bound], new: At<'a>, old: At<'a>, path: &str) {
        let (reads, wrote) = self.words();
        for (key, more_is_stricter, added, stricter) in bounds {
            let Some(bound) = new.number(key) else { continue };
            // What says nothing: at least none of it.
            if *more_is_stricter && bound <= 0.0 && key.starts_with("min") && *key != "minimum" {
                continue;
            }
            let path = format!("{path}/{key}");
            match old.number(key) {
                None => self.add(
                    added,
                    &path,
                    format!("the {reads} schema has {key} {bound}, the {wrote} one has none"),
                ),
                Some(was) if (bound > was) == *more_is_stricter && bound != was => {
                    self.add(
                        stricter,
                        &path,
                        format!("{key} {}", self.findings.change(bound, was)),
                    );
                }
                Some(_) => {}
            }
        }
    }

    pub(super) fn values(&mut self, new: At<'a>, old: At<'a>, path: &str) {
        let (reads, _) = self.words();
        self.bounds(BOUNDS, new, old, path);
        if let Some(pattern) = new.value.get("pattern") {
            let path = format!("{path}/pattern");
            match old.value.get("pattern") {
                None => self.add(
                    "PATTERN_ADDED",
                    &path,
                    format!(
                        "the {reads} schema asks for the pattern {}",
                        shown(&pattern.to_string())
                    ),
                ),
                Some(was) if was != pattern => {
                    self.add(
                        "PATTERN_CHANGED",
                        &path,
                        format!(
                            "the pattern {}",
                            self.findings
                                .change(shown(&pattern.to_string()), shown(&was.to_string()))
                        ),
                    );
                }
                Some(_) => {}
            }
        }
        if let Some(step) = new.number("multipleOf") {
            let path = format!("{path}/multipleOf");
            let divides = |a: f64, b: f64| (a / b).fract().abs() < 1e-9;
            match old.number("multipleOf") {
                None => self.add(
                    "MULTIPLE_OF_ADDED",
                    &path,
                    format!("the {reads} schema asks for multiples of {step}"),
                ),
                Some(was) if divides(was, step) => {}
                Some(was) => {
                    let kind = if divides(step, was) {
                        "MULTIPLE_OF_EXPANDED"
                    } else {
                        "MULTIPLE_OF_CHANGED"
                    };
                    self.add(
                        kind,
                        &path,
                        format!("multipleOf {}", self.findings.change(step, was)),
                    );
                }
            }
        }
        self.listed(new, old, path);
    }

    /// Values that are listed one by one.
    fn listed(&mut self, new: At<'a>, old: At<'a>, path: &str) {
        let (reads, _) = self.words();
        let Some(takes) = listed(new) else { return };
        let path = format!("{path}/enum");
        let Some(had) = listed(old) else {
            if new.value.get("enum").is_some() || new.value.get("const").is_some() {
                self.add(
                    "ENUM_ARRAY_NARROWED",
                    &path,
                    format!("the {reads} schema takes listed values alone"),
                );
            }
            return;
        };
        let work = takes.iter().chain(had).map(weight).sum();
        if !self.findings.spend(work) {
            return;
        }
        let taken: HashSet<&Value> = takes.iter().collect();
        let missing: Vec<String> = had
            .iter()
            .filter(|value| !taken.contains(value))
            .map(|value| shown(&value.to_string()))
            .take(20)
            .collect();
        if !missing.is_empty() {
            let were: HashSet<&Value> = had.iter().collect();
            let is_subset = takes.iter().all(|value| were.contains(value));
            let kind = if is_subset { "ENUM_ARRAY_NARROWED" } else { "ENUM_ARRAY_CHANGED" };
            self.add(
                kind,
                &path,
                format!("the {reads} schema does not take {}", missing.join(", ")),
            );
        }
    }
}

fn listed(at: At<'_>) -> Option<&[Value]> {
    match (at.value.get("enum"), at.value.get("const")) {
        (Some(Value::Array(all)), _) => Some(all),
        (_, Some(value)) => Some(std::slice::from_ref(value)),
        _ => None,
    }
}
