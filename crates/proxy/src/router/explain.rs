//! Why a request gets the route that it gets, and why others that come near do not.
//!
//! This looks at every rule and compiles expressions anew: it is for people, not for the request path.

use std::fmt;

use super::{
    Captures, Found, Lookup,
    fields::method_bit,
    hosts,
    paths::Pattern,
    table::{Rule, Shape, Table, regex_fits},
};
use crate::plan::Host;

/// Most candidates that are told.
const CANDIDATES_MAX: usize = 12;

/// What became of a request, and of the matches that come near.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The match that wins.
    pub winner: Option<Found>,
    /// Those that come near and lose, the nearest first; at most twelve.
    pub candidates: Vec<Candidate>,
}

/// A match that comes near and loses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The route.
    pub route: u32,
    /// Which of its matches.
    pub match_index: u32,
    /// What it lost by.
    pub lost: Lost,
    /// The same in words: `path /ordrs is not below /orders`.
    pub why: String,
}

/// What a match lost by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lost {
    /// All of it fits, but the winner stands earlier in the configuration.
    Later,
    /// All of it fits, but the winner is more specific.
    LessSpecific,
    /// A query parameter.
    Query,
    /// A name in the client's certificate.
    Certificate,
    /// A header field.
    Header,
    /// The method.
    Method,
    /// The path.
    Path,
    /// The host.
    Host,
}

impl Table {
    /// Explains what [`Table::find`] does with a request.
    pub fn explain(&self, lookup: &Lookup<'_>) -> Explanation {
        let winner = self.find(lookup, &mut Captures::default()).ok();
        let won = winner.and_then(|found| {
            self.rules().find(|(rule, _)| {
                (rule.route, rule.match_index) == (found.route, found.match_index)
            })
        });
        let mut near: Vec<(usize, Candidate)> = self
            .rules()
            .filter(|(rule, _)| {
                winner.is_none_or(|found| {
                    (rule.route, rule.match_index) != (found.route, found.match_index)
                })
            })
            .filter_map(|(rule, shape)| self.candidate(rule, shape, won, lookup))
            .collect();
        near.sort_by_key(|(distance, candidate)| (candidate.lost, *distance));
        near.truncate(CANDIDATES_MAX);
        let candidates = near.into_iter().map(|(_, candidate)| candidate).collect();
        Explanation { winner, candidates }
    }

    /// A match that comes near, with its distance.
    fn candidate(
        &self,
        rule: &Rule,
        shape: &Shape,
        won: Option<(&Rule, &Shape)>,
        lookup: &Lookup<'_>,
    ) -> Option<(usize, Candidate)> {
        let tell = |lost, distance, why| {
            let (route, match_index) = (rule.route, rule.match_index);
            Some((distance, Candidate { route, match_index, lost, why }))
        };
        let host_fits = shape.hosts.is_empty() || best_host(shape, lookup.host).is_some();
        let path_fits = shape.pattern.fits(lookup.path, |regex| regex_fits(regex, lookup.path));
        match (host_fits, path_fits) {
            (false, false) => return None,
            (false, true) => {
                // Only a path of its own makes a match for another host come near.
                if shape.pattern.fits_all() {
                    return None;
                }
                let hosts: Vec<String> = shape.hosts.iter().map(shown_host).collect();
                let why = match lookup.host {
                    "" => format!("the request has no host, and it is for {}", hosts.join(", ")),
                    host => format!("host {host} is not {}", hosts.join(", ")),
                };
                return tell(Lost::Host, 0, why);
            }
            (true, false) => {
                let distance = distance(&shape.pattern, lookup.path)?;
                let path = lookup.path;
                let why = match &shape.pattern {
                    Pattern::Prefix(prefix) => format!("path {path} is not below {prefix}"),
                    Pattern::Exact(exact) => format!("path {path} is not {exact}"),
                    other => format!("path {path} does not fit {}", shown(other)),
                };
                return tell(Lost::Path, distance, why);
            }
            (true, true) => {}
        }
        if !rule.methods.fits(method_bit(lookup.method), lookup.method) {
            let methods: Vec<&str> = rule.methods.iter().collect();
            let why = format!("method {} is not {}", lookup.method, methods.join(", "));
            return tell(Lost::Method, 0, why);
        }
        if let Some(unmet) = self.unmet(rule, lookup) {
            let lost = match () {
                () if unmet.is_query() => Lost::Query,
                () if unmet.is_certificate() => Lost::Certificate,
                () => Lost::Header,
            };
            return tell(lost, 0, unmet.explain(lookup));
        }
        let (lost, why) = compare((rule, shape), won?, lookup);
        tell(lost, 0, why)
    }
}

/// The most specific of a match's hosts that fits.
fn best_host<'a>(shape: &'a Shape, host: &str) -> Option<&'a Host> {
    let fitting = shape.hosts.iter().filter(|pattern| hosts::fits(pattern, host));
    fitting.max_by_key(|pattern| hosts::specificity(Some(pattern)))
}

/// Why a match that fits loses to the one that wins.
fn compare(
    (rule, shape): (&Rule, &Shape),
    (won, won_shape): (&Rule, &Shape),
    lookup: &Lookup<'_>,
) -> (Lost, String) {
    let host = |shape| hosts::specificity(best_host(shape, lookup.host));
    let less = |why| (Lost::LessSpecific, why);
    if host(shape) < host(won_shape) {
        let shown = |shape| best_host(shape, lookup.host).map_or("every host".into(), shown_host);
        return less(format!("{} is less specific than {}", shown(shape), shown(won_shape)));
    }
    if shape.pattern.rank() < won_shape.pattern.rank() {
        let (mine, other) = (shown(&shape.pattern), shown(&won_shape.pattern));
        return less(format!("{mine} is less specific than {other}"));
    }
    let ((method, headers, queries), (won_method, won_headers, won_queries)) =
        (rule.weight(), won.weight());
    if won_method && !method {
        return less("it has no method, and the winner has".into());
    }
    for (mine, other, what) in
        [(headers, won_headers, "header or certificate"), (queries, won_queries, "query")]
    {
        if mine < other {
            return less(format!("it has {mine} {what} conditions, and the winner has {other}"));
        }
    }
    (Lost::Later, "it is as specific as the winner, but stands after it".into())
}

fn shown_host(host: &Host) -> String {
    match host {
        Host::Exact(name) => name.clone(),
        Host::Wildcard(suffix) => format!("*.{suffix}"),
    }
}

fn shown(pattern: &Pattern) -> impl fmt::Display {
    match pattern {
        Pattern::Any => "every path".to_owned(),
        Pattern::Exact(exact) => format!("path {exact}"),
        Pattern::Prefix(prefix) => format!("prefix {prefix}"),
        Pattern::Regex(regex) => format!("expression {regex}"),
        Pattern::Template(template) => {
            let mut names = template.names.iter();
            let mut text = String::from("template ");
            for segment in &template.segments {
                text.push('/');
                match segment {
                    Some(literal) => text.push_str(literal),
                    None => {
                        let name = names.next().map_or("", String::as_str);
                        text.push_str(&format!("{{{name}}}"));
                    }
                }
            }
            if let Some(rest) = names.next().filter(|_| template.rest) {
                text.push_str(&format!("/{{*{rest}}}"));
            }
            text
        }
    }
}

/// How many letters a path is away from fitting, if it is few enough to be a slip.
fn distance(pattern: &Pattern, path: &str) -> Option<usize> {
    let path: Vec<&str> = path.strip_prefix('/')?.split('/').take(64).collect();
    let (expected, open): (Vec<Option<&str>>, bool) = match pattern {
        Pattern::Any => return None,
        // An expression is as near as anything; few enough of them are told.
        Pattern::Regex(_) => return Some(usize::MAX),
        Pattern::Exact(text) => (text.strip_prefix('/')?.split('/').map(Some).collect(), false),
        Pattern::Prefix(text) => (text.strip_prefix('/')?.split('/').map(Some).collect(), true),
        Pattern::Template(template) => {
            (template.segments.iter().map(Option::as_deref).collect(), template.rest)
        }
    };
    let mut sum = 0;
    let mut same = 0;
    for (at, segment) in expected.iter().enumerate() {
        match (segment, path.get(at)) {
            (None, Some(_)) => {}
            (Some(literal), Some(given)) if literal == given => same += 1,
            (Some(literal), Some(given)) if given.len() <= 64 => {
                sum += strsim::osa_distance(literal, given);
            }
            (Some(_), Some(_)) => return None,
            (None, None) => sum += 2,
            (Some(literal), None) => sum += literal.len() + 1,
        }
    }
    if !open {
        let extra = path.iter().skip(expected.len());
        sum += extra.map(|segment| segment.len() + 1).sum::<usize>();
    }
    // With something in common more may be wrong.
    (sum <= 2 || (same > 0 && sum <= 6)).then_some(sum)
}
