//! Schemas that are made of others: all of them, any of them, one of them, not one.

use serde_json::Value;

use super::{At, Pair, weight};

fn list<'a>(at: At<'a>, key: &str) -> Option<Vec<At<'a>>> {
    let all = at.value.get(key).and_then(Value::as_array)?;
    Some(all.iter().map(|one| at.of(one)).collect())
}

/// The sum that a schema is: the keyword and what it is made of.
fn sum(at: At<'_>) -> Option<(&'static str, Vec<At<'_>>)> {
    ["anyOf", "oneOf"].into_iter().find_map(|key| Some((key, list(at, key)?)))
}

impl<'a> Pair<'a> {
    pub(super) fn combined(&mut self, new: At<'a>, old: At<'a>, path: &str, depth: usize) {
        let (reads, wrote) = self.words();
        self.sums(new, old, path, depth);
        self.products(new, old, path, depth);
        self.negated(new, old, path, depth);
        for key in ["if", "then", "else"] {
            let (has, had) = (new.value.get(key), old.value.get(key));
            if !self.findings.spend(has.map_or(0, weight)) {
                return;
            }
            if has.is_some() && has != had {
                let at = format!("{path}/{key}");
                let said = format!("`{key}` of the {reads} schema is none of the {wrote} one");
                self.add("COMBINED_TYPE_SUBSCHEMAS_CHANGED", &at, said);
            }
        }
    }

    fn sums(&mut self, new: At<'a>, old: At<'a>, path: &str, depth: usize) {
        let (reads, wrote) = self.words();
        match (sum(new), sum(old)) {
            (None, None) => {}
            (Some((key, has)), None) => {
                let at = format!("{path}/{key}");
                let mut fits = self.any_fits(&has, old, &at, depth);
                // A product may fit by one of its parts.
                if !fits && let Some(parts) = list(old, "allOf") {
                    fits = parts.iter().any(|part| self.any_fits(&has, *part, &at, depth));
                }
                if !fits {
                    let said =
                        format!("none of `{key}` takes everything that the {wrote} schema takes");
                    self.add("TYPE_CHANGED", &at, said);
                }
            }
            (None, Some((key, had))) => {
                for (place, one) in had.into_iter().enumerate() {
                    let at = format!("{path}/{key}/{place}");
                    if !self.fits(new, one, &at, depth) {
                        if self.findings.is_over() {
                            return;
                        }
                        let said = format!(
                            "the {reads} schema does not take what this one of the {wrote} takes"
                        );
                        self.add("TYPE_CHANGED", &at, said);
                    }
                }
            }
            (Some((key, has)), Some((was, had))) => {
                let at = format!("{path}/{key}");
                if key == "oneOf" && was == "anyOf" && has.len() > 1 {
                    self.add(
                        "COMBINED_TYPE_CHANGED",
                        &at,
                        format!("any is enough for the {wrote} schema, and the {reads} one asks for exactly one"),
                    );
                    return;
                }
                for (place, one) in had.iter().enumerate() {
                    if !self.any_fits(&has, *one, &at, depth) {
                        if self.findings.is_over() {
                            return;
                        }
                        let kind = match has.len() < had.len() {
                            true => "SUM_TYPE_NARROWED",
                            false => "COMBINED_TYPE_SUBSCHEMAS_CHANGED",
                        };
                        let said = format!(
                            "nothing in the {reads} schema takes what {was}/{place} of the {wrote} takes"
                        );
                        self.add(kind, &at, said);
                    }
                }
            }
        }
    }

    /// Whether one of some takes everything that an old one does.
    fn any_fits(&mut self, some: &[At<'a>], old: At<'a>, path: &str, depth: usize) -> bool {
        some.iter().any(|one| !self.findings.is_over() && self.fits(*one, old, path, depth))
    }

    fn products(&mut self, new: At<'a>, old: At<'a>, path: &str, depth: usize) {
        let (reads, wrote) = self.words();
        let Some(has) = list(new, "allOf") else {
            return;
        };
        let had = list(old, "allOf").unwrap_or_default();
        for (place, one) in has.iter().enumerate() {
            let at = format!("{path}/allOf/{place}");
            let by_part = had
                .iter()
                .any(|other| !self.findings.is_over() && self.fits(*one, *other, &at, depth));
            if self.findings.is_over() {
                return;
            }
            // The old schema as a whole is narrower than each of its parts.
            if by_part || self.fits(*one, old, &at, depth) {
                continue;
            }
            let kind = match has.len() > had.len() {
                true => "PRODUCT_TYPE_EXTENDED",
                false => "COMBINED_TYPE_SUBSCHEMAS_CHANGED",
            };
            self.add(
                kind,
                &at,
                format!("the {reads} schema asks for this too, which not everything of the {wrote} one fulfils"),
            );
        }
    }

    fn negated(&mut self, new: At<'a>, old: At<'a>, path: &str, _depth: usize) {
        let (reads, _) = self.words();
        let Some(not) = new.value.get("not") else { return };
        if !self.findings.spend(weight(not)) {
            return;
        }
        let at = format!("{path}/not");
        match old.value.get("not") {
            // What is excluded is compared as it stands: the other way round it would be the writer's reading.
            Some(was) if was == not => {}
            Some(_) => self.add("NOT_TYPE_EXTENDED", &at, "what is excluded has changed"),
            None => {
                self.add("NOT_TYPE_EXTENDED", &at, format!("the {reads} schema excludes something"))
            }
        }
    }
}
