//! Items of arrays: of one schema, or each place its own.

use serde_json::Value;

use super::{At, Pair, values::Bound};

const BOUNDS: &[Bound] = &[
    ("maxItems", false, "MAX_ITEMS_ADDED", "MAX_ITEMS_DECREASED"),
    ("minItems", true, "MIN_ITEMS_ADDED", "MIN_ITEMS_INCREASED"),
];

/// The schemas of the first places, and of all others.
fn items(at: At<'_>) -> (&[Value], Option<At<'_>>) {
    match (at.value.get("prefixItems"), at.value.get("items")) {
        (Some(Value::Array(first)), rest) => (first, rest.map(|rest| at.of(rest))),
        (_, Some(Value::Array(first))) => (first, at.get("additionalItems")),
        (_, rest) => (&[], rest.map(|rest| at.of(rest))),
    }
}

fn is_closed(rest: Option<At<'_>>) -> bool {
    rest.is_some_and(|rest| *rest.value == Value::Bool(false))
}

impl<'a> Pair<'a> {
    pub(super) fn arrays(&mut self, new: At<'a>, old: At<'a>, path: &str, depth: usize) {
        let (reads, wrote) = self.words();
        self.bounds(BOUNDS, new, old, path);
        let is_unique = |at: At<'_>| at.value.get("uniqueItems") == Some(&Value::Bool(true));
        if is_unique(new) && !is_unique(old) {
            self.add(
                "UNIQUE_ITEMS_ADDED",
                &format!("{path}/uniqueItems"),
                format!("the {reads} schema asks for unique items"),
            );
        }
        if let Some(contains) = new.get("contains") {
            let at = format!("{path}/contains");
            match old.get("contains") {
                Some(had) => self.compare(contains, had, &at, depth + 1),
                None => self.add(
                    "SCHEMA_ADDED",
                    &at,
                    format!("the {reads} schema asks for an item of a kind"),
                ),
            }
        }
        let ((has, rest), (had, were)) = (items(new), items(old));
        for place in 0..has.len().max(had.len()) {
            if !self.findings.spend(8 + path.len() / 16) {
                return;
            }
            let at = format!("{path}/items/{place}");
            match (has.get(place), had.get(place)) {
                (Some(has), Some(had)) => self.compare(new.of(has), old.of(had), &at, depth + 1),
                (Some(has), None) => {
                    let has = new.of(has);
                    match were {
                        _ if has.is_any() || is_closed(were) => {}
                        Some(were) if !were.is_any() => {
                            if !self.fits(has, were, &at, depth) {
                                let said = format!("the {reads} item does not take what the {wrote} schema allows there");
                                self.add("ITEM_ADDED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL", &at, said);
                            }
                        }
                        _ => self.add(
                            "ITEM_ADDED_TO_OPEN_CONTENT_MODEL",
                            &at,
                            format!("the {wrote} schema has an open content model: the item may have been there as anything"),
                        ),
                    }
                }
                (None, Some(had)) => {
                    let had = old.of(had);
                    match rest {
                        _ if *had.value == Value::Bool(false) => {}
                        _ if is_closed(rest) => self.add(
                            "ITEM_REMOVED_FROM_CLOSED_CONTENT_MODEL",
                            &at,
                            format!(
                                "the {reads} schema has a closed content model and lacks the item"
                            ),
                        ),
                        Some(rest) if !rest.is_any() && !self.fits(rest, had, &at, depth) => {
                            let said = format!(
                                "what the {reads} schema says of other items does not cover it"
                            );
                            let kind = "ITEM_REMOVED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL";
                            self.add(kind, &at, said);
                        }
                        _ => {}
                    }
                }
                (None, None) => {}
            }
        }
        let Some(rest) = rest.filter(|rest| !rest.is_any()) else { return };
        let is_tuple = !has.is_empty() || !had.is_empty();
        let at = format!("{path}/{}", if is_tuple { "additionalItems" } else { "items" });
        match were {
            were if is_closed(were) => {}
            _ if *rest.value == Value::Bool(false) => {
                self.add(
                    "ADDITIONAL_ITEMS_REMOVED",
                    &at,
                    format!("the {reads} schema takes no other items"),
                );
            }
            Some(were) if !were.is_any() => self.compare(rest, were, &at, depth + 1),
            _ if is_tuple => {
                self.add(
                    "ADDITIONAL_ITEMS_NARROWED",
                    &at,
                    format!("the {reads} schema restricts other items"),
                );
            }
            _ => self.add("SCHEMA_ADDED", &at, format!("the {reads} schema restricts items")),
        }
    }
}
