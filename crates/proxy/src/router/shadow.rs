//! Routes that can never win, for the check of a configuration.
//!
//! A match is dead if another takes every request that it could take. Where both stand on the same step
//! of the precedence (same host, same path, same conditions), that is an earlier one with no methods or
//! with all of its methods; several earlier ones may share them. Above an expression that begins with
//! literal segments stand the prefixes of these. A route is dead if all of its matches are.
//!
//! Invariants: sound, so that a route that is told can win no request at all, while one that is not told
//! might still be dead in ways that are harder to see; and a few hash lookups for each match, host and
//! listener.

use std::{
    borrow::Borrow,
    collections::{HashMap, hash_map::Entry},
};

use super::{paths::Pattern, regexes::literal_start};
use crate::plan::{self, FieldValue, Host, Match, Route};

/// What stands on one step of the precedence.
#[derive(PartialEq, Eq, Hash)]
struct Step<'a> {
    /// `None` is every listener.
    listener: Option<&'a str>,
    host: Option<&'a Host>,
    path: Shape,
    headers: Vec<Condition<'a>>,
    query: Vec<Condition<'a>>,
    has_methods: bool,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Shape {
    All,
    /// A template that fits every path that begins with a slash.
    AllRooted,
    Exact(String),
    Prefix(String),
    /// Without the names of the captures, which do not matter.
    Template(Vec<Option<String>>, bool),
    Regex(String),
}

/// Name, kind of test, text of the test, whether it is turned round.
type Condition<'a> = (&'a str, u8, &'a str, bool);

/// The first match of a step, for every method or for each; by route and match.
#[derive(Default)]
struct Owners<'a> {
    any: Option<(usize, usize)>,
    by_method: HashMap<&'a str, (usize, usize)>,
}

type Steps<'a> = HashMap<Step<'a>, Owners<'a>>;

/// Kind and text of a test.
fn test(value: &FieldValue) -> (u8, &str) {
    match value {
        FieldValue::Present => (0, ""),
        FieldValue::Exact(text) => (1, text),
        FieldValue::Prefix(text) => (2, text),
        FieldValue::Regex(text) => (3, text),
    }
}

fn conditions(fields: &[plan::Field]) -> Vec<Condition<'_>> {
    let mut conditions: Vec<Condition<'_>> = fields
        .iter()
        .map(|field| {
            let (kind, text) = test(&field.value);
            (field.name.as_str(), kind, text, field.invert)
        })
        .collect();
    // Repetition stays, since it counts for the precedence.
    conditions.sort_unstable();
    conditions
}

fn shape(path: &plan::Path) -> Option<Shape> {
    Some(match Pattern::parse(path).ok()? {
        Pattern::Any => Shape::All,
        pattern if pattern.fits_all() => Shape::AllRooted,
        Pattern::Exact(path) => Shape::Exact(path),
        Pattern::Prefix(path) => Shape::Prefix(path),
        Pattern::Template(template) => Shape::Template(template.segments, template.rest),
        Pattern::Regex(regex) => Shape::Regex(regex),
    })
}

/// The routes that can never win, each with one that takes its requests, by their places in `routes`.
pub fn shadowed<R: Borrow<Route>>(routes: &[R]) -> Vec<(usize, usize)> {
    let everything = [Match::default()];
    let of = |route: &Route| -> usize { route.matches.len().max(1) };
    let matches = |route| -> &[Match] {
        let Route { matches, .. }: &Route = route;
        if matches.is_empty() { &everything } else { matches }
    };
    let mut steps = Steps::with_capacity(routes.len());
    // Most routes have a step for themselves, which settles the question.
    let mut alone = vec![false; routes.len()];
    for (at, route) in routes.iter().map(Borrow::borrow).enumerate() {
        for (number, one) in matches(route).iter().enumerate() {
            for step in placements(route, one).into_iter().flatten() {
                let wins = step.listener.is_none()
                    && !matches!(step.path, Shape::Regex(_) | Shape::AllRooted);
                let owners = match steps.entry(step) {
                    Entry::Vacant(entry) => {
                        alone[at] |= wins;
                        entry.insert(Owners::default())
                    }
                    Entry::Occupied(entry) => entry.into_mut(),
                };
                if one.methods.is_empty() {
                    owners.any.get_or_insert((at, number));
                }
                for method in &one.methods {
                    owners.by_method.entry(method).or_insert((at, number));
                }
            }
        }
    }
    let mut shadowed = Vec::new();
    for (at, route) in routes.iter().map(Borrow::borrow).enumerate() {
        if alone[at] {
            continue;
        }
        let mut winner = None;
        let dead = (0..of(route)).all(|number| {
            let one = &matches(route)[number];
            placements(route, one).is_some_and(|placements| {
                placements.into_iter().all(|step| {
                    let owner = owner(&steps, step, &one.methods, (at, number));
                    // Among a route's own matches the best is taken over by another route's.
                    winner = winner.or(owner.filter(|(by, _)| *by != at));
                    owner.is_some()
                })
            })
        });
        if let (true, Some((winner, _))) = (dead, winner) {
            shadowed.push((at, winner));
        }
    }
    shadowed
}

/// The steps on which a match stands: one for each listener and host. `None` if it cannot be compiled.
fn placements<'a>(route: &'a Route, one: &'a Match) -> Option<Vec<Step<'a>>> {
    let path = shape(&one.path)?;
    let mut listeners: Vec<Option<&str>> =
        route.listeners.iter().map(|name| Some(name.as_str())).collect();
    if listeners.is_empty() {
        listeners.push(None);
    }
    let mut hosts: Vec<Option<&Host>> = one.hosts.iter().map(Some).collect();
    if hosts.is_empty() {
        hosts.push(None);
    }
    let (mut headers, query) = (conditions(&one.headers), conditions(&one.query));
    // No header is called as a part of a certificate is.
    headers.extend(one.certificate.iter().map(|field| {
        let (kind, text) = test(&field.value);
        (field.part.text(), kind, text, field.invert)
    }));
    headers.sort_unstable();
    let has_methods = !one.methods.is_empty();
    let mut placements = Vec::with_capacity(listeners.len() * hosts.len());
    for listener in &listeners {
        for host in &hosts {
            placements.push(Step {
                listener: *listener,
                host: *host,
                path: path.clone(),
                headers: headers.clone(),
                query: query.clone(),
                has_methods,
            });
        }
    }
    Some(placements)
}

/// Who takes every request of a match on one of its steps.
fn owner<'a>(
    steps: &Steps<'a>,
    mut step: Step<'a>,
    methods: &[String],
    me: (usize, usize),
) -> Option<(usize, usize)> {
    let listener = step.listener;
    let scopes = [Some(listener), listener.map(|_| None)];
    let has_methods = step.has_methods;
    let shapes = match &step.path {
        Shape::AllRooted => vec![Shape::AllRooted, Shape::All],
        other => vec![other.clone()],
    };
    for shape in shapes {
        step.path = shape;
        for scope in scopes.into_iter().flatten() {
            step.listener = scope;
            let Some(owners) = steps.get(&step) else { continue };
            if let Some(owner) = owners.take(methods, |owner| owner < me) {
                return Some(owner);
            }
        }
    }
    // Prefixes win over an expression whatever their order and methods.
    let Shape::Regex(regex) = &step.path else { return None };
    let literal = literal_start(regex);
    for (end, _) in literal.match_indices('/').filter(|(end, _)| *end > 0) {
        step.path = Shape::Prefix(literal[..end].to_owned());
        for bare in [false, true] {
            if bare {
                step.headers.clear();
                step.query.clear();
            }
            for scope in scopes.into_iter().flatten() {
                step.listener = scope;
                for with_methods in [false, has_methods] {
                    step.has_methods = with_methods;
                    let Some(owners) = steps.get(&step) else { continue };
                    if let Some(owner) = owners.take(methods, |_| true) {
                        return Some(owner);
                    }
                }
            }
        }
    }
    None
}

impl Owners<'_> {
    /// Who takes all of `methods` (empty for every method), if each that takes some is allowed to.
    fn take(
        &self,
        methods: &[String],
        allowed: impl Fn((usize, usize)) -> bool,
    ) -> Option<(usize, usize)> {
        if let Some(any) = self.any.filter(|any| allowed(*any)) {
            return Some(any);
        }
        let mut first = None;
        for method in methods {
            let owner = self.by_method.get(method.as_str()).filter(|owner| allowed(**owner))?;
            first = first.or(Some(*owner));
        }
        first
    }
}
