//! Regular expressions over whole texts, and sets of them.
//!
//! The engine is linear in the text, so that no request can make an expression explode.

use std::collections::HashMap;

use regex::{Regex, RegexSet, SetMatches, bytes};
use smallvec::SmallVec;

/// How many expressions are searched for in one go.
const SET_SIZE: usize = 64;
/// Largest compiled form of one expression, in bytes.
const COMPILED_MAX: usize = 1 << 20;

/// An expression that must fit as a whole.
fn whole(pattern: &str) -> Result<String, String> {
    // A bracket that closes ours would escape the anchors, so the expression must also stand by itself.
    if pattern.contains(')') {
        Regex::new(pattern).map_err(|error| describe(pattern, &error))?;
    }
    Ok(format!(r"\A(?:{pattern})\z"))
}

/// The expression that [`whole`] was given.
pub(super) fn bare(whole: &str) -> &str {
    whole.strip_prefix(r"\A(?:").and_then(|rest| rest.strip_suffix(r")\z")).unwrap_or(whole)
}

/// An expression over whole byte strings.
pub(super) fn whole_bytes(pattern: &str) -> Result<bytes::Regex, String> {
    bytes::RegexBuilder::new(&whole(pattern)?)
        .size_limit(COMPILED_MAX)
        .build()
        .map_err(|error| describe(pattern, &error))
}

/// An expression over whole texts.
pub(super) fn whole_text(pattern: &str) -> Result<Regex, String> {
    regex::RegexBuilder::new(&whole(pattern)?)
        .size_limit(COMPILED_MAX)
        .build()
        .map_err(|error| describe(pattern, &error))
}

/// What is wrong with an expression, in one line.
pub(crate) fn describe(pattern: &str, error: &regex::Error) -> String {
    let text = match error {
        regex::Error::CompiledTooBig(limit) => format!("it compiles to more than {limit} bytes"),
        other => other.to_string(),
    };
    // The parser's text shows the pattern over several lines; the last says what is wrong.
    let what = text.lines().last().unwrap_or_default().trim();
    format!("`{pattern}` is not a regular expression: {}", what.trim_start_matches("error: "))
}

/// Literal characters with which every text begins that an expression fits as a whole; fewer than there are, if it
/// is not plain to see.
pub(super) fn literal_start(regex: &str) -> String {
    let mut literal = String::new();
    if regex.contains('|') || regex.contains("(?") {
        return literal;
    }
    for next in regex.strip_prefix('^').unwrap_or(regex).chars() {
        match next {
            'A'..='Z' | 'a'..='z' | '0'..='9' | '/' | '_' | '-' | '~' => literal.push(next),
            '*' | '?' | '{' => {
                literal.pop();
                break;
            }
            _ => break,
        }
    }
    literal
}

/// The distinct path expressions of a table, by number.
#[derive(Debug, Default)]
pub(super) struct Patterns {
    texts: Vec<String>,
    numbers: HashMap<String, u32>,
    sets: HashMap<Vec<u32>, Set>,
}

/// Expressions that are searched for together; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Set {
    /// Their numbers, rising.
    numbers: Vec<u32>,
    parts: Vec<RegexSet>,
}

/// Which of a set fit a text; at least one.
pub(super) enum Fitting<'a> {
    /// The only one.
    Only,
    /// For each part.
    Some(&'a Set, SmallVec<[SetMatches; 1]>),
}

impl Patterns {
    /// The number of an expression.
    pub(super) fn number(&mut self, pattern: &str) -> u32 {
        if let Some(number) = self.numbers.get(pattern) {
            return *number;
        }
        let number = self.texts.len() as u32;
        self.texts.push(pattern.to_owned());
        self.numbers.insert(pattern.to_owned(), number);
        number
    }

    /// The set of some numbers, which hosts with the same expressions share.
    ///
    /// # Errors
    /// Those that are no expressions, each with what is wrong.
    pub(super) fn set(&mut self, mut numbers: Vec<u32>) -> Result<Set, Vec<(u32, String)>> {
        numbers.sort_unstable();
        numbers.dedup();
        if let Some(set) = self.sets.get(&numbers) {
            return Ok(set.clone());
        }
        let text = |number: &u32| self.texts[*number as usize].as_str();
        let mut parts = Vec::new();
        let mut wrong = Vec::new();
        for part in numbers.chunks(SET_SIZE) {
            match together(part.iter().map(text)) {
                Ok(built) => parts.push(built),
                Err(whole) => {
                    let before = wrong.len();
                    wrong.extend(part.iter().filter_map(|number| {
                        whole_text(text(number)).err().map(|what| (*number, what))
                    }));
                    if wrong.len() == before {
                        wrong.extend(part.iter().map(|number| (*number, whole.clone())));
                    }
                }
            }
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let set = Set { numbers: numbers.clone(), parts };
        self.sets.insert(numbers, set.clone());
        Ok(set)
    }
}

/// A set of expressions, if all of them are some and they are not too large together.
fn together<'a>(patterns: impl Iterator<Item = &'a str>) -> Result<RegexSet, String> {
    let texts: Vec<String> = patterns.map(whole).collect::<Result<_, _>>()?;
    regex::RegexSetBuilder::new(&texts)
        .size_limit(COMPILED_MAX * SET_SIZE)
        .build()
        .map_err(|error| describe("this with its neighbours", &error))
}

impl Set {
    /// Which of them fit; `None` if none does.
    pub(super) fn matches(&self, text: &str) -> Option<Fitting<'_>> {
        if let ([_], [only]) = (&*self.numbers, &*self.parts) {
            return only.is_match(text).then_some(Fitting::Only);
        }
        let parts: SmallVec<[SetMatches; 1]> =
            self.parts.iter().map(|part| part.matches(text)).collect();
        parts.iter().any(SetMatches::matched_any).then_some(Fitting::Some(self, parts))
    }
}

impl Fitting<'_> {
    /// Whether the expression of a number, which is in the set, does.
    pub(super) fn has(&self, number: u32) -> bool {
        match self {
            Self::Only => true,
            Self::Some(set, parts) => set.numbers.binary_search(&number).is_ok_and(|at| {
                parts.get(at / SET_SIZE).is_some_and(|part| part.matched(at % SET_SIZE))
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_literal_start_of_an_expression() {
        for (regex, literal) in [
            ("/a/b", "/a/b"),
            ("^/a/b$", "/a/b"),
            ("/api/v[0-9]+", "/api/v"),
            ("/a/b*", "/a/"),
            ("/a/b?c", "/a/"),
            ("/a/b{0,3}", "/a/"),
            ("/a/b+", "/a/b"),
            ("/a(/b)?", "/a"),
            ("/a.b", "/a"),
            ("/a|/b", ""),
            ("(?i)/a", ""),
            (r"/a\d", "/a"),
            (".*", ""),
        ] {
            assert_eq!(literal_start(regex), literal, "{regex}");
        }
    }

    #[test]
    fn an_expression_fits_as_a_whole() {
        for (pattern, text, fits) in [
            ("a|b", "a", true),
            ("a|b", "ab", false),
            ("a|b", "xb", false),
            ("/v[0-9]+", "/v12", true),
            ("/v[0-9]+", "/v12/x", false),
            ("^/a$", "/a", true),
            ("a", "a\n", false),
            ("", "", true),
        ] {
            assert_eq!(whole_text(pattern).unwrap().is_match(text), fits, "{pattern} {text}");
            assert_eq!(whole_bytes(pattern).unwrap().is_match(text.as_bytes()), fits);
            let mut patterns = Patterns::default();
            let number = patterns.number(pattern);
            let set = patterns.set(vec![number]).unwrap();
            assert_eq!(
                set.matches(text).is_some_and(|found| found.has(number)),
                fits,
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn an_expression_cannot_escape_its_anchors_or_be_endless() {
        for bad in ["a)|(?:b", "(", "[", "(?x) a # b", "a{1000000}", r"(\pL{500}){500}"] {
            let error = whole_text(bad).unwrap_err();
            assert!(error.contains("not a regular expression"), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn large_sets_tell_each_expression_apart() {
        let mut patterns = Patterns::default();
        let numbers: Vec<u32> = (0..200).map(|at| patterns.number(&format!("/p{at}/.*"))).collect();
        let set = patterns.set(numbers.clone()).unwrap();
        for at in [0, 63, 64, 127, 128, 199] {
            let path = format!("/p{at}/x");
            let fitting = set.matches(&path).unwrap();
            let there: Vec<u32> = numbers.iter().copied().filter(|n| fitting.has(*n)).collect();
            assert_eq!(there, [at]);
        }
        assert!(set.matches("/q").is_none());
        let bad = patterns.number("(");
        let wrong = patterns.set(vec![0, bad]).unwrap_err();
        assert_eq!(wrong.len(), 1);
        assert_eq!(wrong[0].0, bad);
    }
}
