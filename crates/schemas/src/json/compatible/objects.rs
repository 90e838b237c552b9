//! Properties of objects, by content model.

use std::collections::{BTreeSet, HashSet};

use regex::RegexBuilder;
use serde_json::{Map, Value};

use super::{At, Pair, values::Bound, weight};

const BOUNDS: &[Bound] = &[
    ("maxProperties", false, "MAX_PROPERTIES_ADDED", "MAX_PROPERTIES_DECREASED"),
    ("minProperties", true, "MIN_PROPERTIES_ADDED", "MIN_PROPERTIES_INCREASED"),
];
/// The most memory of a pattern of names, in bytes.
const PATTERN_BYTES_MAX: usize = 1 << 18;
/// The work of making a pattern of names.
const PATTERN_WORK: usize = 24_000;
/// The most patterns that are kept made.
const PATTERNS_MAX: usize = 128;

/// Which properties may stand in an object beside those that are named.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Model {
    Open,
    Partial,
    Closed,
}

fn model(at: At<'_>) -> Model {
    let has_patterns = properties(at, "patternProperties").is_some_and(|all| !all.is_empty());
    match at.get("additionalProperties") {
        None if !has_patterns => Model::Open,
        Some(more) if more.is_any() && !has_patterns => Model::Open,
        Some(more) if *more.value == Value::Bool(false) && !has_patterns => Model::Closed,
        _ => Model::Partial,
    }
}

fn properties<'a>(at: At<'a>, key: &str) -> Option<&'a Map<String, Value>> {
    at.value.get(key).and_then(Value::as_object)
}

fn required(at: At<'_>) -> BTreeSet<&str> {
    let all = at.value.get("required").and_then(Value::as_array);
    all.into_iter().flatten().filter_map(Value::as_str).collect()
}

impl<'a> Pair<'a> {
    /// The schema of a property that is not named, if one counts.
    fn cover(&mut self, at: At<'a>, name: &str) -> Option<At<'a>> {
        for (pattern, of) in properties(at, "patternProperties").into_iter().flatten() {
            if !self.findings.spend(8 + name.len()) {
                return None;
            }
            if !self.regexes.contains_key(pattern.as_str()) {
                if !self.findings.spend(PATTERN_WORK) {
                    return None;
                }
                if self.regexes.len() >= PATTERNS_MAX {
                    self.regexes.clear();
                }
                let built = RegexBuilder::new(pattern).size_limit(PATTERN_BYTES_MAX).build();
                self.regexes.insert(pattern, built.ok());
            }
            let built = self.regexes.get(pattern.as_str()).and_then(Option::as_ref);
            if built.is_some_and(|regex| regex.is_match(name)) {
                return Some(at.of(of));
            }
        }
        at.get("additionalProperties").filter(|more| *more.value != Value::Bool(false))
    }

    pub(super) fn objects(&mut self, new: At<'a>, old: At<'a>, path: &str, depth: usize) {
        let (reads, _) = self.words();
        self.bounds(BOUNDS, new, old, path);
        let none = Map::new();
        let had = properties(old, "properties");
        let has = properties(new, "properties");
        let count = had.map_or(0, Map::len) + has.map_or(0, Map::len);
        if !self.findings.spend(count) {
            return;
        }
        let names: BTreeSet<&String> =
            had.into_iter().chain(has).flat_map(|all| all.keys()).collect();
        for name in names {
            if !self.findings.spend(8 + (path.len() + name.len()) / 16) {
                return;
            }
            let at = format!("{path}/properties/{name}");
            let (had, has) = (had.and_then(|all| all.get(name)), has.and_then(|all| all.get(name)));
            match (had, has) {
                (Some(had), Some(has)) => self.compare(new.of(has), old.of(had), &at, depth + 1),
                (Some(had), None) => self.removed(new, old.of(had), name, &at, depth),
                (None, Some(has)) => self.added(new.of(has), old, name, &at, depth),
                (None, None) => {}
            }
        }
        self.required(new, old, has.unwrap_or(&none), had, path);
        self.patterns(new, old, path, depth);
        self.additional(new, old, path, depth);
        self.dependencies(new, old, path, depth);
        if let Some(names) = new.get("propertyNames")
            && !names.is_any()
        {
            let at = format!("{path}/propertyNames");
            match old.get("propertyNames") {
                Some(were) => self.compare(names, were, &at, depth + 1),
                None => self.add(
                    "SCHEMA_ADDED",
                    &at,
                    format!("the {reads} schema restricts names of properties"),
                ),
            }
        }
    }

    fn removed(&mut self, new: At<'a>, had: At<'a>, name: &str, at: &str, depth: usize) {
        let (reads, wrote) = self.words();
        let is_never = *had.value == Value::Bool(false);
        match model(new) {
            Model::Open => {}
            Model::Closed if is_never => {}
            Model::Closed => self.add(
                "PROPERTY_REMOVED_FROM_CLOSED_CONTENT_MODEL",
                at,
                format!("the {reads} schema has a closed content model and lacks the property {name}, which the {wrote} one has"),
            ),
            Model::Partial => match self.cover(new, name) {
                Some(cover) if self.fits(cover, had, at, depth) => {}
                None if is_never => {}
                _ => self.add(
                    "PROPERTY_REMOVED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL",
                    at,
                    format!("what the {reads} schema says of other properties does not cover {name}"),
                ),
            },
        }
    }

    fn added(&mut self, has: At<'a>, old: At<'a>, name: &str, at: &str, depth: usize) {
        let (reads, wrote) = self.words();
        match model(old) {
            Model::Open if has.is_any() => {}
            Model::Open => self.add(
                "PROPERTY_ADDED_TO_OPEN_CONTENT_MODEL",
                at,
                format!("the {wrote} schema has an open content model: {name}, which the {reads} one names, may have been there as anything"),
            ),
            Model::Closed => {}
            Model::Partial => match self.cover(old, name) {
                Some(cover) if !self.fits(has, cover, at, depth) => self.add(
                    "PROPERTY_ADDED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL",
                    at,
                    format!("the {reads} property {name} does not take what the {wrote} schema allows there"),
                ),
                _ => {}
            },
        }
    }

    fn required(
        &mut self,
        new: At<'a>,
        old: At<'a>,
        has: &Map<String, Value>,
        had: Option<&Map<String, Value>>,
        path: &str,
    ) {
        let (reads, _) = self.words();
        let count =
            |at: At<'_>| at.value.get("required").and_then(Value::as_array).map_or(0, Vec::len);
        if !self.findings.spend((count(new) + count(old)) * 4) {
            return;
        }
        let were = required(old);
        for name in required(new).into_iter().filter(|name| !were.contains(name)) {
            if has.get(name).is_some_and(|of| of.get("default").is_some()) {
                continue;
            }
            let is_new = had.is_none_or(|had| !had.contains_key(name));
            let kind = match is_new && model(old) != Model::Open {
                true => "REQUIRED_PROPERTY_ADDED_TO_UNOPEN_CONTENT_MODEL",
                false => "REQUIRED_ATTRIBUTE_ADDED",
            };
            let at = format!("{path}/required/{name}");
            self.add(kind, &at, format!("the {reads} schema requires {name}, without a default"));
        }
    }

    fn patterns(&mut self, new: At<'a>, old: At<'a>, path: &str, depth: usize) {
        let (reads, wrote) = self.words();
        let (had, has) =
            (properties(old, "patternProperties"), properties(new, "patternProperties"));
        for (pattern, has) in has.into_iter().flatten() {
            if !self.findings.spend(8 + (path.len() + pattern.len()) / 16) {
                return;
            }
            let at = format!("{path}/patternProperties/{pattern}");
            match had.and_then(|all| all.get(pattern)) {
                Some(had) => self.compare(new.of(has), old.of(had), &at, depth + 1),
                None if model(old) == Model::Closed || new.of(has).is_any() => {}
                None => self.add(
                    "PROPERTY_ADDED_TO_OPEN_CONTENT_MODEL",
                    &at,
                    format!("the {wrote} schema says nothing of properties like {pattern}"),
                ),
            }
        }
        for pattern in had.into_iter().flat_map(|all| all.keys()) {
            if !self.findings.spend(8 + (path.len() + pattern.len()) / 16) {
                return;
            }
            let is_there = has.is_some_and(|all| all.contains_key(pattern));
            if !is_there && model(new) != Model::Open {
                let at = format!("{path}/patternProperties/{pattern}");
                let said =
                    format!("the {reads} schema is not open and has no properties like {pattern}");
                self.add("PROPERTY_REMOVED_FROM_CLOSED_CONTENT_MODEL", &at, said);
            }
        }
    }

    fn additional(&mut self, new: At<'a>, old: At<'a>, path: &str, depth: usize) {
        let (reads, _) = self.words();
        let Some(more) = new.get("additionalProperties").filter(|more| !more.is_any()) else {
            return;
        };
        let at = format!("{path}/additionalProperties");
        match old.get("additionalProperties") {
            Some(were) if *were.value == Value::Bool(false) => {}
            _ if *more.value == Value::Bool(false) => {
                self.add(
                    "ADDITIONAL_PROPERTIES_REMOVED",
                    &at,
                    format!("the {reads} schema takes no other properties"),
                );
            }
            Some(were) if !were.is_any() => self.compare(more, were, &at, depth + 1),
            _ => self.add(
                "ADDITIONAL_PROPERTIES_NARROWED",
                &at,
                format!("the {reads} schema restricts other properties"),
            ),
        }
    }

    fn dependencies(&mut self, new: At<'a>, old: At<'a>, path: &str, depth: usize) {
        let (reads, _) = self.words();
        for key in ["dependencies", "dependentRequired", "dependentSchemas"] {
            for (name, has) in properties(new, key).into_iter().flatten() {
                if !self.findings.spend(8 + (path.len() + name.len()) / 16) {
                    return;
                }
                let at = format!("{path}/{key}/{name}");
                let had = properties(old, key).and_then(|all| all.get(name));
                match (has, had) {
                    (Value::Array(_), None) => {
                        self.add(
                            "DEPENDENCY_ARRAY_ADDED",
                            &at,
                            format!("in the {reads} schema {name} requires other properties"),
                        );
                    }
                    (Value::Array(has), Some(Value::Array(had))) => {
                        if !self.findings.spend(has.iter().chain(had).map(weight).sum()) {
                            return;
                        }
                        let were: HashSet<&Value> = had.iter().collect();
                        if has.iter().any(|one| !were.contains(one)) {
                            let are: HashSet<&Value> = has.iter().collect();
                            let kind = match had.iter().all(|one| are.contains(one)) {
                                true => "DEPENDENCY_ARRAY_EXTENDED",
                                false => "DEPENDENCY_ARRAY_CHANGED",
                            };
                            self.add(
                                kind,
                                &at,
                                format!("in the {reads} schema {name} requires more properties"),
                            );
                        }
                    }
                    (has, Some(had)) => self.compare(new.of(has), old.of(had), &at, depth + 1),
                    (_, None) => {
                        self.add(
                            "DEPENDENCY_SCHEMA_ADDED",
                            &at,
                            format!("in the {reads} schema {name} asks for more"),
                        );
                    }
                }
            }
        }
    }
}
