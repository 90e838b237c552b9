//! The table: rules in buckets, and the search for the first that fits.
//!
//! A rule is one match of one route. A bucket holds the rules of one host and one path, the best first.

use std::{
    borrow::Borrow,
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
};

use super::{
    Captures, CompileError, Found, Lookup, Missing, NONE,
    fields::{CONDITIONS_MAX, Condition, Methods, method_bit},
    hosts::{self, Hosts},
    paths::{Passed, Pattern, Rank, Tree},
    regexes::{self, Patterns, Set},
};
use crate::plan;

/// The compiled routes of one listener.
#[derive(Clone, Debug, Default)]
pub struct Table {
    hosts: Hosts,
    branches: Vec<Branch>,
    tree: Tree,
    buckets: Vec<Bucket>,
    /// The expressions of the buckets that have some.
    sets: Vec<Set>,
    /// The rules of the buckets, one bucket after the other.
    placed: Vec<u32>,
    rules: Vec<Rule>,
    conditions: Vec<Condition>,
    /// Whether any of them is on the client's certificate.
    asks_certificate: bool,
    /// What the rules look like in the plan, which only people ask for.
    pub(super) shapes: Vec<Shape>,
}

/// What there is for one host.
#[derive(Clone, Debug)]
struct Branch {
    root: u32,
    /// Bucket of what fits every path.
    all: u32,
}

/// The rules of one host and one path (or of expressions with one beginning), the best first.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    start: u32,
    len: u32,
    set: u32,
}

/// One match of one route.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) route: u32,
    pub(super) match_index: u32,
    pub(super) methods: Methods,
    conditions: (u32, u32),
    queries: u32,
    place: Place,
}

/// What of the path is told when a rule wins.
#[derive(Clone, Debug)]
enum Place {
    /// The length that a prefix rewrite replaces.
    Prefix(u32),
    /// The whole path.
    Whole,
    /// The whole path, and captures.
    Template,
    /// The whole path; it must fit the expression of this number.
    Regex(u32),
}

/// A rule as it stands in the plan.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) hosts: Vec<plan::Host>,
    pub(super) pattern: Pattern,
}

impl Rule {
    /// How specific it is beyond host and path; greater wins, and among equals the earlier.
    pub(super) const fn weight(&self) -> (bool, u32, u32) {
        (!self.methods.is_any(), self.conditions.1 - self.queries, self.queries)
    }
}

impl Table {
    /// Whether it matters who the client's certificate says it is.
    pub const fn asks_certificate(&self) -> bool {
        self.asks_certificate
    }

    /// Compiles routes, each with the index by which [`Found`] names it; earlier ones win among equals.
    ///
    /// # Errors
    /// Everything that is wrong with any of them.
    pub fn compile<'a, R: Borrow<plan::Route> + 'a>(
        routes: impl IntoIterator<Item = (u32, &'a R)>,
    ) -> Result<Self, Vec<CompileError>> {
        let mut builder = Builder::default();
        for (index, route) in routes {
            builder.route(index, route.borrow());
        }
        builder.finish()
    }

    /// The route of a request. `captures` holds what a template took of the path, and is empty for other
    /// matches.
    ///
    /// # Errors
    /// Why there is none.
    pub fn find(&self, lookup: &Lookup<'_>, captures: &mut Captures) -> Result<Found, Missing> {
        captures.clear();
        let bit = method_bit(lookup.method);
        let number = self.search(lookup, |rule| {
            rule.methods.fits(bit, lookup.method) && self.unmet(rule, lookup).is_none()
        });
        let Some(number) = number else { return Err(self.missing(lookup)) };
        let rule = &self.rules[number as usize];
        if matches!(rule.place, Place::Template)
            && let Pattern::Template(template) = &self.shapes[number as usize].pattern
        {
            template.capture(lookup.path, |range| captures.push(range));
        }
        let prefix_len = match rule.place {
            Place::Prefix(len) => len,
            _ => lookup.path.len() as u32,
        };
        Ok(Found { route: rule.route, match_index: rule.match_index, prefix_len })
    }

    /// Why a request has no route: whether another method would have one.
    #[cold]
    fn missing(&self, lookup: &Lookup<'_>) -> Missing {
        let mut allow: Vec<&str> = Vec::new();
        self.search(lookup, |rule| {
            if self.unmet(rule, lookup).is_none() {
                for method in rule.methods.iter() {
                    if !allow.contains(&method) {
                        allow.push(method);
                    }
                }
            }
            false
        });
        if allow.is_empty() {
            return Missing::NotFound;
        }
        allow.sort_unstable();
        Missing::MethodNotAllowed { allow: allow.join(", ") }
    }

    /// How many matches there are, over all routes.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there is no route.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The rules with their numbers, in the order of the configuration.
    pub(super) fn rules(&self) -> impl Iterator<Item = (&Rule, &Shape)> {
        self.rules.iter().zip(&self.shapes)
    }

    /// The first condition of a rule that does not hold.
    pub(super) fn unmet(&self, rule: &Rule, lookup: &Lookup<'_>) -> Option<&Condition> {
        let (start, len) = rule.conditions;
        let conditions = &self.conditions[start as usize..(start + len) as usize];
        conditions.iter().find(|condition| !condition.holds(lookup))
    }

    /// The first rule that is `accepted` among those whose host and path fit, the most specific first.
    #[inline]
    fn search<'a>(
        &'a self,
        lookup: &Lookup<'_>,
        mut accepted: impl FnMut(&'a Rule) -> bool,
    ) -> Option<u32> {
        let mut passed = Passed::new();
        for host in self.hosts.fitting(lookup.host) {
            let branch = &self.branches[host as usize];
            self.tree.walk(branch.root, lookup.path, &mut passed);
            let regexes = passed.iter().position(|(rank, _)| *rank == Rank::REGEX);
            let (literal, regexes) = passed.split_at(regexes.unwrap_or(passed.len()));
            for (_, bucket) in literal {
                let mut rules = self.bucket(*bucket).iter();
                if let Some(rule) = rules.find(|rule| accepted(&self.rules[**rule as usize])) {
                    return Some(*rule);
                }
            }
            // Expressions are equally specific wherever they begin to differ.
            let found = regexes.iter().filter_map(|(_, bucket)| {
                let set = self.sets.get(self.buckets[*bucket as usize].set as usize)?;
                let fitting = set.matches(lookup.path)?;
                self.bucket(*bucket).iter().copied().find(|number| {
                    let rule = &self.rules[*number as usize];
                    matches!(rule.place, Place::Regex(regex) if fitting.has(regex))
                        && accepted(rule)
                })
            });
            let found = found.min_by_key(|rule| self.precedence(*rule));
            if found.is_some() {
                return found;
            }
            if branch.all != NONE {
                let rooted = lookup.path.starts_with('/');
                let mut rules = self.bucket(branch.all).iter();
                let found = rules.find(|number| {
                    let rule = &self.rules[**number as usize];
                    (rooted || matches!(rule.place, Place::Prefix(_))) && accepted(rule)
                });
                if found.is_some() {
                    return found.copied();
                }
            }
        }
        None
    }

    fn bucket(&self, bucket: u32) -> &[u32] {
        let Bucket { start, len, .. } = self.buckets[bucket as usize];
        &self.placed[start as usize..(start + len) as usize]
    }

    /// Where a rule stands among those whose host and path are equally specific; the least wins.
    fn precedence(&self, rule: u32) -> (Reverse<(bool, u32, u32)>, u32) {
        (Reverse(self.rules[rule as usize].weight()), rule)
    }
}

#[derive(Default)]
struct Builder<'a> {
    table: Table,
    patterns: Patterns,
    /// The expressions of each bucket that has some.
    expressions: BTreeMap<u32, Vec<u32>>,
    /// Which rule is in which bucket.
    placed: Vec<(u32, u32)>,
    buckets: u32,
    routes: Vec<&'a plan::Route>,
    errors: Vec<CompileError>,
}

impl<'a> Builder<'a> {
    fn route(&mut self, index: u32, route: &'a plan::Route) {
        let everything = [plan::Match::default()];
        let matches = if route.matches.is_empty() { &everything } else { route.matches.as_slice() };
        for (match_index, one) in matches.iter().enumerate() {
            let mut wrong = Vec::new();
            let rule = self.rule(index, match_index as u32, one, &mut wrong);
            let several = matches.len() > 1;
            self.errors.extend(wrong.into_iter().map(|what| CompileError {
                route: route.name.clone(),
                what: if several { format!("match {}: {what}", match_index + 1) } else { what },
            }));
            if let Some((rule, shape)) = rule {
                self.place(&rule, &shape);
                self.table.rules.push(rule);
                self.table.shapes.push(shape);
                self.routes.push(route);
            }
        }
    }

    /// Checks a match; `None` if something is wrong with it.
    fn rule(
        &mut self,
        route: u32,
        match_index: u32,
        one: &plan::Match,
        wrong: &mut Vec<String>,
    ) -> Option<(Rule, Shape)> {
        wrong.extend(one.hosts.iter().filter_map(|host| hosts::check(host).err()));
        let pattern = Pattern::parse(&one.path).map_err(|what| wrong.push(what)).ok();
        let methods = Methods::compile(&one.methods).map_err(|what| wrong.push(what)).ok();
        let count = one.headers.len() + one.certificate.len() + one.query.len();
        if count > CONDITIONS_MAX {
            wrong.push(format!("a match must not have more than {CONDITIONS_MAX} conditions"));
            return None;
        }
        let start = self.table.conditions.len() as u32;
        let headers = one.headers.iter().map(Condition::header);
        let certificate = one.certificate.iter().map(Condition::certificate);
        let query = one.query.iter().map(Condition::query);
        for condition in headers.chain(certificate).chain(query) {
            match condition {
                Ok(condition) => {
                    self.table.asks_certificate |= condition.is_certificate();
                    self.table.conditions.push(condition);
                }
                Err(what) => wrong.push(what),
            }
        }
        let (Some(pattern), Some(methods), true) = (pattern, methods, wrong.is_empty()) else {
            return None;
        };
        let place = match &pattern {
            Pattern::Regex(pattern) => Place::Regex(self.patterns.number(pattern)),
            Pattern::Template(_) => Place::Template,
            other => other.prefix_len().map_or(Place::Whole, Place::Prefix),
        };
        let rule = Rule {
            route,
            match_index,
            methods,
            conditions: (start, count as u32),
            queries: one.query.len() as u32,
            place,
        };
        Some((rule, Shape { hosts: one.hosts.clone(), pattern }))
    }

    /// Puts the rule that comes next into the buckets of its hosts.
    fn place(&mut self, rule: &Rule, shape: &Shape) {
        let number = self.table.rules.len() as u32;
        let every_host = [None];
        let hosts: Vec<Option<&plan::Host>> = shape.hosts.iter().map(Some).collect();
        for host in if hosts.is_empty() { &every_host[..] } else { &hosts } {
            let next = self.table.branches.len() as u32;
            let branch = self.table.hosts.number(*host, next);
            if branch == next {
                let root = self.table.tree.root();
                self.table.branches.push(Branch { root, all: NONE });
            }
            let buckets = &mut self.buckets;
            let mut new = || {
                *buckets += 1;
                *buckets - 1
            };
            let root = self.table.branches[branch as usize].root;
            let bucket = match self.table.tree.place(root, &shape.pattern, &mut new) {
                Some(bucket) => bucket,
                None => {
                    let all = &mut self.table.branches[branch as usize].all;
                    if *all == NONE {
                        *all = new();
                    }
                    *all
                }
            };
            if let Place::Regex(regex) = rule.place {
                self.expressions.entry(bucket).or_default().push(regex);
            }
            self.placed.push((bucket, number));
        }
    }

    fn finish(mut self) -> Result<Table, Vec<CompileError>> {
        let mut wrong: HashMap<u32, String> = HashMap::new();
        let none = Bucket { start: 0, len: 0, set: NONE };
        self.table.buckets = vec![none; self.buckets as usize];
        for (bucket, expressions) in self.expressions {
            match self.patterns.set(expressions) {
                Ok(set) => {
                    self.table.buckets[bucket as usize].set = self.table.sets.len() as u32;
                    self.table.sets.push(set);
                }
                Err(failed) => wrong.extend(failed),
            }
        }
        for (rule, route) in self.table.rules.iter().zip(&self.routes) {
            if let Place::Regex(regex) = rule.place
                && let Some(what) = wrong.get(&regex)
            {
                self.errors.push(CompileError { route: route.name.clone(), what: what.clone() });
            }
        }
        if !self.errors.is_empty() {
            return Err(self.errors);
        }
        let table = &self.table;
        self.placed.sort_unstable_by_key(|(bucket, rule)| (*bucket, table.precedence(*rule)));
        // A match may name a host twice.
        self.placed.dedup();
        for (at, (bucket, rule)) in self.placed.iter().enumerate() {
            let bucket = &mut self.table.buckets[*bucket as usize];
            if bucket.len == 0 {
                bucket.start = at as u32;
            }
            bucket.len += 1;
            self.table.placed.push(*rule);
        }
        Ok(self.table)
    }
}

/// Whether an expression fits a path as a whole; for who asks once.
pub(super) fn regex_fits(pattern: &str, path: &str) -> bool {
    regexes::whole_text(pattern).is_ok_and(|regex| regex.is_match(path))
}
