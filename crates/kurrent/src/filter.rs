//! Filters of all events: by the names of streams or by types, with prefixes or a regular expression.

use regex::{Regex, RegexBuilder};
use weft_events::Recorded;

use crate::{
    fault::Fault,
    messages::read_request::{
        Expression, Filter as Asked,
        filter::{By, Window},
    },
};

/// How large a compiled expression may be, in bytes.
const REGEX_BYTES_MAX: usize = 1 << 20;
/// Prefixes of a filter.
const PREFIXES_MAX: usize = 1_000;
/// Events that are looked at for one checkpoint, if nothing is said.
const WINDOW: u64 = 32;

/// What of all events is wanted.
#[derive(Debug)]
pub(crate) struct Filter {
    is_by_type: bool,
    by: Pattern,
    /// Events that are looked at until there is a checkpoint.
    pub(crate) interval: u64,
}

#[derive(Debug)]
enum Pattern {
    Prefixes(Vec<String>),
    Matches(Regex),
    /// What matches the second and not the first.
    MatchesNot(Regex, Regex),
}

impl Filter {
    /// Of what was asked for.
    pub(crate) fn of(asked: Asked) -> Result<Self, Fault> {
        let window = match asked.window {
            Some(Window::Max(max)) => u64::from(max.max(1)),
            _ => WINDOW,
        };
        let interval = window.saturating_mul(asked.checkpoint_interval_multiplier.max(1).into());
        let (is_by_type, expression) = match asked.by {
            Some(By::EventType(expression)) => (true, expression),
            Some(By::StreamIdentifier(expression)) => (false, expression),
            None => return Err(Fault::invalid("a filter is by streams or by types")),
        };
        Ok(Self { is_by_type, by: Pattern::of(expression)?, interval })
    }

    /// Whether an event is wanted.
    pub(crate) fn takes(&self, event: &Recorded) -> bool {
        if self.is_by_type {
            self.by.takes(event.message.event().map_or("", |event| event.kind()))
        } else {
            self.by.takes(event.stream.as_str())
        }
    }
}

impl Pattern {
    fn of(expression: Expression) -> Result<Self, Fault> {
        let Expression { regex, prefix } = expression;
        if !prefix.is_empty() {
            if prefix.len() > PREFIXES_MAX {
                return Err(Fault::invalid("a filter has at most 1,000 prefixes"));
            }
            return Ok(Self::Prefixes(prefix));
        }
        match excluded(&regex) {
            Some((inner, rest)) => Ok(Self::MatchesNot(
                compile(&format!("^(?:{inner})"))?,
                compile(&format!("^(?:{rest})"))?,
            )),
            None => Ok(Self::Matches(compile(&regex)?)),
        }
    }

    fn takes(&self, text: &str) -> bool {
        match self {
            Self::Prefixes(all) => all.iter().any(|prefix| text.starts_with(prefix)),
            Self::Matches(regex) => regex.is_match(text),
            Self::MatchesNot(not, rest) => !not.is_match(text) && rest.is_match(text),
        }
    }
}

fn compile(regex: &str) -> Result<Regex, Fault> {
    RegexBuilder::new(regex).size_limit(REGEX_BYTES_MAX).build().map_err(|error| {
        let say = format!(
            "the regular expression of the filter is not understood (of look-around there is `^(?!…)` alone): {error}"
        );
        Fault::invalid(say)
    })
}

/// The parts of an expression `^(?!A)B`, which is how clients leave types out: A, and B.
fn excluded(regex: &str) -> Option<(&str, &str)> {
    let inner = regex.strip_prefix("^(?!")?;
    let (mut depth, mut is_class, mut is_escaped) = (1_usize, false, false);
    for (at, char) in inner.char_indices() {
        match char {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '[' => is_class = true,
            ']' => is_class = false,
            '(' if !is_class => depth += 1,
            ')' if !is_class => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some((&inner[..at], &inner[at + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(regex: &str) -> Result<Pattern, Fault> {
        Pattern::of(Expression { regex: regex.to_owned(), prefix: Vec::new() })
    }

    #[test]
    fn expressions_as_clients_send_them() {
        for (regex, text, takes) in [
            // Python leaves out what is the system's own.
            (r"^(?!(\$.+$|PersistentConfig\d+$))", "order.placed", true),
            (r"^(?!(\$.+$|PersistentConfig\d+$))", "$metadata", false),
            (r"^(?!(\$.+$|PersistentConfig\d+$))", "PersistentConfig1", false),
            (r"^(?!(\$.+$|PersistentConfig\d+$))", "PersistentConfigX", true),
            // Others say so.
            (r"^[^\$].*", "order.placed", true),
            (r"^[^\$].*", "$metadata", false),
            ("placed", "order.placed", true),
            ("^placed", "order.placed", false),
            (r"^(?![)(]|a\))order.*$", "order", true),
            (r"^(?![)(]|a\))order.*$", "(order", false),
            ("", "anything", true),
        ] {
            assert_eq!(pattern(regex).unwrap().takes(text), takes, "{regex} {text}");
        }
        let prefixes = ["a-", "b-"].map(str::to_owned).to_vec();
        let prefixes = Pattern::of(Expression { regex: String::new(), prefix: prefixes }).unwrap();
        assert_eq!([prefixes.takes("b-1"), prefixes.takes("c-1")], [true, false]);
        for wrong in ["(", "(?<=a)b", "^(?!a", "a{1000}{1000}"] {
            assert!(pattern(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_expression_is_one_or_not(regex in "(\\^\\(\\?!)?\\PC{0,20}", text in "\\PC{0,20}") {
            if let Ok(pattern) = pattern(&regex) {
                let _ = pattern.takes(&text);
            }
        }
    }
}
