//! Regular expressions over whole texts, and sets of them.
//!
//! The engine is linear in the text, so that no request can make an expression explode.

use std::collections::HashMap;

use regex::{Regex, RegexSet, SetMatches, bytes};
use smallvec::SmallVec;

/// How many expressions are searched for in one go: more make a larger automaton than a cache holds.
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

/// Which of a set fit a text.
pub(super) struct Fitting<'a> {
    set: &'a Set,
    parts: SmallVec<[SetMatches; 1]>,
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
        let mut parts = Vec::new();
        let mut wrong = Vec::new();
        for part in numbers.chunks(SET_SIZE) {
            self.build(part, &mut parts, &mut wrong);
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let set = Set { numbers: numbers.clone(), parts };
        self.sets.insert(numbers, set.clone());
        Ok(set)
    }

    fn build(&self, part: &[u32], parts: &mut Vec<RegexSet>, wrong: &mut Vec<(u32, String)>) {
        let texts: Result<Vec<String>, ()> =
            part.iter().map(|number| whole(&self.texts[*number as usize]).map_err(drop)).collect();
        let built = texts.ok().and_then(|texts| {
            regex::RegexSetBuilder::new(&texts).size_limit(COMPILED_MAX * SET_SIZE).build().ok()
        });
        match built {
            Some(set) => parts.push(set),
            None => wrong.extend(part.iter().filter_map(|number| {
                let failed = whole_text(&self.texts[*number as usize]).err()?;
                Some((*number, failed))
            })),
        }
    }
}

impl Set {
    /// Which of them fit.
    pub(super) fn matches(&self, text: &str) -> Fitting<'_> {
        Fitting { set: self, parts: self.parts.iter().map(|part| part.matches(text)).collect() }
    }
}

impl Fitting<'_> {
    /// Whether any does.
    pub(super) fn any(&self) -> bool {
        self.parts.iter().any(SetMatches::matched_any)
    }

    /// Whether the expression of a number does.
    pub(super) fn has(&self, number: u32) -> bool {
        match self.set.numbers.binary_search(&number) {
            Ok(at) => self.parts.get(at / SET_SIZE).is_some_and(|part| part.matched(at % SET_SIZE)),
            Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(set.matches(text).has(number), fits, "{pattern} {text}");
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
            let fitting = set.matches(&path);
            assert!(fitting.any());
            let there: Vec<u32> = numbers.iter().copied().filter(|n| fitting.has(*n)).collect();
            assert_eq!(there, [at]);
        }
        assert!(!set.matches("/q").any());
        let bad = patterns.number("(");
        let wrong = patterns.set(vec![0, bad]).unwrap_err();
        assert_eq!(wrong.len(), 1);
        assert_eq!(wrong[0].0, bad);
    }
}
